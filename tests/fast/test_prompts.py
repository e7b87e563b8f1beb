"""What is refused, and how: one clear message, a non-zero status, nothing left behind."""

import io
import json
import os
import re
import tomllib
from contextlib import chdir, redirect_stderr
from pathlib import Path
from typing import Any

import pytest

from tests.baking import CHOICES, PROMPTS, TEMPLATE, answer_prompts, bake, cli, combinations, refused, render

# answer -> what the message must say of it
HOSTILE = {
    "slug with a hyphen": ({"project_slug": "my-site"}, "project_slug 'my-site'"),
    "slug with a space": ({"project_slug": "my site"}, "project_slug 'my site'"),
    "slug with a capital": ({"project_slug": "MySite"}, "project_slug 'MySite'"),
    "slug with a digit first": ({"project_slug": "1site"}, "project_slug '1site'"),
    "slug with an underscore first": ({"project_slug": "_site"}, "project_slug '_site'"),
    "slug with an underscore last": ({"project_slug": "site_"}, "project_slug 'site_'"),
    "slug with an umlaut": ({"project_slug": "söhne"}, "project_slug 'söhne'"),
    "slug with another script's letter": ({"project_slug": "sіte"}, "project_slug 'sіte'"),
    "slug with a dollar": ({"project_slug": "site$x"}, "project_slug 'site$x'"),
    "slug with a quote": ({"project_slug": "o'brien"}, 'project_slug "o\'brien"'),
    "slug with a double quote": ({"project_slug": 'a"b'}, "project_slug 'a\"b'"),
    "slug with a semicolon": ({"project_slug": "a;b"}, "project_slug 'a;b'"),
    "slug with a line break": ({"project_slug": "site\n"}, r"project_slug 'site\n'"),
    "slug with a dot": ({"project_slug": "a.b"}, "project_slug 'a.b'"),
    "slug out of the directory": ({"project_slug": "../elsewhere"}, "project_slug '../elsewhere'"),
    "slug with a directory": ({"project_slug": "a/b"}, "project_slug 'a/b'"),
    "slug with a brace": ({"project_slug": "{x}"}, "project_slug '{x}'"),
    "slug of 64 bytes": ({"project_slug": "a" * 64}, "project_slug has 64 bytes"),
    "slug is a Python keyword": ({"project_slug": "class"}, "project_slug 'class' is a Python keyword"),
    "slug is a soft keyword": ({"project_slug": "match"}, "project_slug 'match' is a Python keyword"),
    "slug is reserved in SQL": ({"project_slug": "user"}, "project_slug 'user' is reserved in SQL"),
    "slug is reserved in SQL too": ({"project_slug": "select"}, "project_slug 'select' is reserved in SQL"),
    "slug is one of the packages": ({"project_slug": "articles"}, "project_slug 'articles' is taken"),
    "slug is the settings' package": ({"project_slug": "config"}, "project_slug 'config' is taken"),
    "slug is what the project is made of": ({"project_slug": "django"}, "project_slug 'django' is taken"),
    "slug is a template database": ({"project_slug": "template1"}, "project_slug 'template1' is taken"),
    "slug is the console": ({"project_slug": "pgbouncer"}, "project_slug 'pgbouncer' is taken"),
    "slug is a replica": ({"project_slug": "replica_1"}, "project_slug 'replica_1' is taken"),
    "name is blank": ({"project_name": "  ", "project_slug": "site"}, "project_name is empty"),
    "name with a line break": ({"project_name": "a\nb", "project_slug": "site"}, r"a control character or a line break ('a\nb')"),
    "name with a terminal escape": ({"project_name": "\x1b[31mred", "project_slug": "site"}, r"'\x1b[31mred'"),
    "name with a line separator": ({"project_name": "a\u2028b", "project_slug": "site"}, r"'a\u2028b'"),
    "name too long": ({"project_name": "x" * 101, "project_slug": "site"}, "project_name has 101 characters"),
    "statement mode without a replica": ({"pool_mode": "statement", "replicas": "0"}, "Answer replicas with 1 or more"),
    "synchronous without a replica": ({"synchronous_commit": "on", "replicas": "0"}, "Answer replicas with 2 or more"),
    "applied by a single replica": ({"synchronous_commit": "remote_apply", "replicas": "1"}, "synchronous_commit with 'local'"),
    "persistent under gevent": ({"web_worker": "gevent"}, "Answer connection_strategy with 'pool' or 'per-request'"),
    "persistent under asgi": ({"web_worker": "asgi"}, "or web_worker with 'gthread'"),
}  # fmt: skip

# Strange, and fine: carried through to the page title as they are.
STRANGE_NAMES = [
    'O\'Brien "& Söhne" \\ $x {{ y }}',
    "<script>alert('name')</script>",
    "{% raw %} {# #} ${HOME} $(id) `id` %s %(x)s",
    "'''\"\"\" \\\\ \\n \\u0041 #",
    "日本語 🐘 \U0001f468‍\U0001f469‍\U0001f467",
    "[bold]name[/bold]",
]


# These go through cookiecutter's command line, the others through the hook alone: a refusal ends both in the same way.
ON_THE_COMMAND_LINE = [
    "slug with a quote",
    "slug out of the directory",
    "slug with a directory",
    "persistent under asgi",
]


def run_hook(answers: dict[str, str]) -> tuple[int, str]:
    """pre_gen_project.py, rendered for these answers and run: its status and what it prints to stderr."""
    module: dict[str, Any] = {"__name__": "pre_gen_project"}
    exec(render(TEMPLATE / "hooks" / "pre_gen_project.py", **answers), module)
    # For a slug with a slash it removes the directory that it stands in and those above, as far as they are empty.
    with chdir(TEMPLATE), redirect_stderr(io.StringIO()) as said:
        status = module["main"]()
    return status, said.getvalue()


@pytest.mark.parametrize(("answers", "says"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_answer_gets_one_clear_message(answers: dict[str, str], says: str) -> None:
    status, said = run_hook(answers)
    assert status != 0
    assert re.fullmatch(r"Error: .+\n", said), said
    assert says in said


@pytest.mark.parametrize("name", ON_THE_COMMAND_LINE)
def test_a_refusal_ends_the_command_and_leaves_nothing_behind(tmp_path: Path, name: str) -> None:
    answers, says = HOSTILE[name]
    done = cli(tmp_path / "out", **answers)
    assert done.returncode != 0
    # cookiecutter adds a traceback of its own whenever a hook refuses; ours is the one line of this form.
    errors = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, done.stdout + done.stderr
    assert says in errors[0]
    assert list((tmp_path / "out").iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_just_the_impossible_combinations_are_refused() -> None:
    for answers in combinations():
        status, said = run_hook(answers)
        assert (status, bool(said)) == ((1, True) if refused(answers) else (0, False)), answers


def test_an_existing_directory_is_not_touched(tmp_path: Path) -> None:
    mine = tmp_path / "my_site" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    done = cli(tmp_path)
    assert done.returncode != 0
    assert "already exists" in done.stdout
    assert [path.name for path in mine.parent.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("name", STRANGE_NAMES)
def test_a_strange_name_is_carried_through_intact(tmp_path: Path, name: str) -> None:
    # Typed in, as people do. (Given on the command line, cookiecutter itself renders an answer: see below.)
    done = answer_prompts(tmp_path, name, "shop")
    assert done.returncode == 0, done.stdout + done.stderr
    project = tmp_path / "shop"
    with (project / "pyproject.toml").open("rb") as file:
        assert tomllib.load(file)["tool"]["site"]["name"] == name
    # And nowhere else: what escapes it right is this one file.
    held = [path.name for path in project.rglob("*") if path.is_file() and name in path.read_text(errors="replace")]
    assert set(held) <= {"pyproject.toml"}


def test_a_template_on_the_command_line_is_refused_by_cookiecutter_itself(tmp_path: Path) -> None:
    done = cli(tmp_path, project_name="{{ y }}", project_slug="site")
    assert done.returncode != 0
    assert "'y' is undefined" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_longest_slug_is_fine(tmp_path: Path) -> None:
    slug = "a" * 63
    assert bake(tmp_path, project_slug=slug).name == slug


def test_the_slug_follows_the_name(tmp_path: Path) -> None:
    assert bake(tmp_path, project_name="Söhne & Co. 2").name == "sohne_co_2"


def test_every_prompt_has_its_text_and_every_choice_its_label() -> None:
    texts = PROMPTS["__prompts__"]
    assert set(texts) == {name for name in PROMPTS if name[0] != "_"}
    for name, values in CHOICES.items():
        assert set(texts[name]) == {"__prompt__", *values}
    assert len(texts) <= 10
    # Rich takes [x] for markup and swallows it.
    assert "[" not in json.dumps(texts, ensure_ascii=False).replace('["', "")


def test_the_summary_names_every_choice(tmp_path: Path) -> None:
    answers = {"replicas": "2", "pool_mode": "session", "connection_strategy": "pool", "web_worker": "asgi"}
    done = cli(tmp_path, **answers)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    for name, values in CHOICES.items():
        assert [name, answers.get(name, values[0])] in lines
    assert "docker compose up -d --build --wait" in done.stdout
    # ASGI with a pool of four; two replicas.
    assert "32 of 1000: clients of PgBouncer: 2 processes x (3 databases x" in done.stdout
    assert "10 of 24: of these kept by clients that may be idle" in done.stdout


def test_generating_again_keeps_the_secrets(tmp_path: Path) -> None:
    project = bake(tmp_path)
    before = {path.name: path.read_text() for path in (project / "secrets").iterdir()}
    assert len(before) == 8
    # One that you were given.
    before["email_password"] = "mine"
    (project / "secrets" / "email_password").write_text("mine")
    assert cli(tmp_path, "--overwrite-if-exists").returncode == 0
    assert {path.name: path.read_text() for path in (project / "secrets").iterdir()} == before


def test_no_secret_is_anywhere_but_in_secrets(tmp_path: Path) -> None:
    project = bake(tmp_path)
    secrets = [text for path in (project / "secrets").iterdir() if (text := path.read_text().strip())]
    assert len(secrets) == 6
    for path in project.rglob("*"):
        if path.is_file() and path.parent.name != "secrets":
            assert not any(secret in path.read_text(errors="replace") for secret in secrets), path
    assert "/secrets/" in (project / ".gitignore").read_text().split()
    assert "secrets" in (project / ".dockerignore").read_text().split()


def test_containers_can_read_the_secrets_whatever_the_umask(tmp_path: Path) -> None:
    """On the host nobody else gets past their directory."""
    before = os.umask(0o077)
    try:
        secrets = bake(tmp_path) / "secrets"
    finally:
        os.umask(before)
    assert secrets.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in secrets.iterdir()} == {0o644}
