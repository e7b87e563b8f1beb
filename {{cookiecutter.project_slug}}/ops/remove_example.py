"""Takes the example app out of the project: articles/, each line that ends with the word remove-example, and this file.

usage: make remove-example
"""

import ast
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
APP = "articles"
# In Markdown the word is in a comment, which may stand in the last cell of a table, or in backticks.
MARKED = re.compile(r"remove-example(`|( -->)?( \|)?)$")
# What may hold such a line, or need the app. Not walked: what is no source of the project.
SUFFIXES = {".html", ".md", ".py", ".toml"}
NO_SOURCE = {PROJECT / name for name in (APP, "media", "node_modules", "secrets", "staticfiles")}


def files(directory: Path) -> Iterator[Path]:
    """The project's text files outside the app."""
    for path in sorted(directory.iterdir()):
        if not path.is_dir():
            if path.suffix in SUFFIXES or path.name == "Makefile":
                yield path
        # A virtual environment has a file pyvenv.cfg.
        elif not (path.name[0] == "." or path.is_symlink() or (path / "pyvenv.cfg").exists() or path in NO_SOURCE):
            yield from files(path)


def needs(node: ast.AST, is_settings: bool) -> Iterator[int]:
    """The line of this node of a file's syntax tree, if it fails without the app."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        modules = [one.name for one in node.names] if isinstance(node, ast.Import) else [str(node.module)]
        # `from .articles import` names another one.
        if not getattr(node, "level", 0) and APP in [module.split(".")[0] for module in modules]:
            yield node.lineno
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        # "articles.Article", "articles.urls", "articles:list", and the permissions.
        inside = "|".join(one.stem for one in (PROJECT / APP).iterdir())
        if re.match(rf"{APP}(:|\.([A-Z]|({inside})\b|(add|change|delete|view)_))", node.value):
            yield node.lineno
    elif isinstance(node, ast.Call | ast.List | ast.Tuple):
        parts = node.args if isinstance(node, ast.Call) else node.elts
        values = [getattr(part, "value", None) for part in parts]
        # ("articles", "0001_initial") of a migration, get_model("articles", "Article"); and INSTALLED_APPS.
        second = values[1] if len(values) > 1 else None
        if values[:1] == [APP] and isinstance(second, str) and re.match("[0-9A-Z]", second):
            yield node.lineno
        elif is_settings and APP in values:
            yield parts[values.index(APP)].lineno


def problems(path: Path) -> list[str]:
    """:returns: a message for each line that stays and needs the app"""
    text, name = path.read_text(encoding="utf-8"), path.relative_to(PROJECT)
    lines, found = text.splitlines(), set[int]()
    if path.suffix == ".html":
        found = {number for number, line in enumerate(lines, 1) if re.search(rf"""["']{APP}[:/]""", line)}
    elif path.suffix == ".py":
        try:
            tree = ast.parse(text)
        except SyntaxError as error:
            return [f"{name}:{error.lineno}: {error.msg}"]
        found = {line for node in ast.walk(tree) for line in needs(node, str(name) == "config/settings.py")}
    return [
        f"{name}:{number}: {lines[number - 1].strip()}"
        for number in sorted(found)
        if not MARKED.search(lines[number - 1])
    ]


def without_example(text: str) -> str:
    """The text without the marked lines, and without the second of two blank lines that meet where they were."""
    kept: list[str] = []
    removed = False
    for line in text.splitlines(keepends=True):
        if MARKED.search(line.rstrip()):
            removed = True
        elif not (removed and not line.strip() and kept and not kept[-1].strip()):
            kept.append(line)
            removed = False
    return "".join(kept)


def main() -> None:
    """Changes files. Prints what it has done.

    :raises SystemExit: with the reason, before anything is changed
    """
    if not (PROJECT / APP).is_dir():
        sys.exit(f"{APP}/ is not here: the example is removed already.")
    myself = Path(__file__).resolve()
    sources = [path for path in files(PROJECT) if path != myself]
    if found := [problem for path in sources for problem in problems(path)]:
        sys.exit(
            f"Nothing is changed. These lines need {APP}/, or cannot be read:\n  "
            + "\n  ".join(found)
            + "\nTake them out first. A line that may go with the example ends with  # remove-example"
        )
    for path in sources:
        before = path.read_text(encoding="utf-8")
        after = without_example(before)
        if path == PROJECT / "config" / "urls.py" and "include(" not in after:
            after = after.replace("import include, path", "import path")
        if after != before:
            path.write_text(after, encoding="utf-8")
            print(f"{path.relative_to(PROJECT)}: {before.count(chr(10)) - after.count(chr(10))} lines removed")
    shutil.rmtree(PROJECT / APP)
    myself.unlink()
    print(f"{APP}/, {myself.relative_to(PROJECT)}: removed")
    print(
        "\nNext: `make lock`, since requirements.txt still has its packages; `make test`; and a page of yours for / "
        "in config/urls.py.\n"
        f"A database that has the tables of {APP} keeps them. To drop them: take this back by git, run\n"
        f"`python manage.py migrate {APP} zero`, then `make remove-example` again."
    )


if __name__ == "__main__":
    main()
