"""An answer is data: it changes .env, and no other file. So the other files are looked at once (test_lint.py), and .env for
every combination of answers.
"""

import re
from pathlib import Path

import pytest

from tests.baking import CHOICES, PROJECT, SELECTION, bake, combinations, refused, render

JINJA = re.compile(r"(?<!\$)\{\{|\{%|(?<!\$)\{#|cookiecutter\.")  # ${#array[@]} is bash


def parse_env(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))


def contents(project: Path) -> dict[str, bytes]:
    """Without the secrets, which are random."""
    files = (path.relative_to(project) for path in project.rglob("*") if path.is_file())
    return {str(path): (project / path).read_bytes() for path in files if path.parts[0] != "secrets"}


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bake(tmp_path_factory.mktemp("default"))


def test_answers_change_nothing_but_env(default: Path, tmp_path: Path) -> None:
    """Every pair of answers occurs among these projects."""
    usual = contents(default)
    for number, answers in enumerate(SELECTION):
        files = contents(bake(tmp_path / str(number), **answers))
        assert files.keys() == usual.keys()
        assert {path for path in files if files[path] != usual[path]} <= {".env", ".env.example"}, answers
        assert files[".env"].decode() == render(PROJECT / ".env.example", **answers)


def test_env_holds_what_was_answered() -> None:
    usual, rendered = parse_env(render(PROJECT / ".env.example")), set()
    for answers in combinations():
        if refused(answers):
            continue
        text = render(PROJECT / ".env.example", **answers)
        assert not JINJA.search(text), answers
        env = parse_env(text)
        assert {name: env[name.upper()] for name in CHOICES} == answers
        assert env.keys() == usual.keys()
        rendered.add(text)
    assert len(rendered) == sum(not refused(answers) for answers in combinations()) > 0


def test_no_jinja_is_left(default: Path) -> None:
    for path in default.rglob("*"):
        # Django's own templates have tags of the same form.
        if path.is_file() and "templates" not in path.parts:
            assert not JINJA.search(path.read_text()), path


def test_python_shell_and_sql_hold_no_jinja() -> None:
    for path in PROJECT.rglob("*"):
        if path.suffix in (".py", ".sh", ".sql"):
            assert not re.search(r"\{%|\{\{", path.read_text()), path
