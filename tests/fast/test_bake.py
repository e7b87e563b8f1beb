"""Every combination of choices, rendered and parsed; and what is in .env is what was answered."""

import ast
import configparser
import hashlib
import re
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.baking import CHOICES, PROJECT, TEMPLATE, bake, combinations, refused

JINJA = re.compile(r"\{\{|\{%|(?<!\$)\{#|cookiecutter\.")  # ${#array[@]} is bash
# Django's own templates have tags of the same form.
DJANGO_TEMPLATES = "articles/templates"


def parse_ini(text: str) -> None:
    configparser.ConfigParser(comment_prefixes=(";", "#"), interpolation=None).read_string(text)


def parse_shell(text: str) -> None:
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)


def parse_env(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))


PARSERS: dict[str, Callable[[str], object]] = {
    ".py": ast.parse,
    ".toml": tomllib.loads,
    ".yaml": yaml.safe_load,
    ".yml": yaml.safe_load,
    ".ini": parse_ini,
    ".sh": parse_shell,
    ".env": parse_env,
}
parsed: set[str] = set()


def parses(path: Path) -> None:
    text = path.read_text()
    suffix = path.suffix or (path.name if path.name.startswith(".") else "")
    if not suffix and text.startswith("#!/usr/bin/env bash"):
        suffix = ".sh"
    digest = suffix + hashlib.sha256(text.encode()).hexdigest()
    if suffix in PARSERS and digest not in parsed:
        PARSERS[suffix](text)
        parsed.add(digest)


@pytest.mark.parametrize("postgres_version", CHOICES["postgres_version"])
@pytest.mark.parametrize("replicas", CHOICES["replicas"])
def test_every_combination_renders_and_parses(tmp_path: Path, postgres_version: str, replicas: str) -> None:
    """The full product, in eight parts. The hooks, which look at the answers only, have tests of their own."""
    wanted = {"postgres_version": postgres_version, "replicas": replicas}
    seen = 0
    for number, answers in enumerate(combinations()):
        if refused(answers) or not wanted.items() <= answers.items():
            continue
        project = bake(tmp_path / str(number), hooks=False, **answers)
        for path in project.rglob("*"):
            if path.is_file():
                parses(path)
                if DJANGO_TEMPLATES not in str(path):
                    assert not JINJA.search(path.read_text()), path
        env = parse_env((project / ".env").read_text())
        assert {name: env[name.upper()] for name in CHOICES} == answers
        seen += 1
    assert seen == sum(not refused(answers) and wanted.items() <= answers.items() for answers in combinations()) > 0


def hook() -> Callable[[dict[str, str]], str | None]:
    """pre_gen_project.py's validators, as a function from answers to the refusal."""
    source = (TEMPLATE / "hooks" / "pre_gen_project.py").read_text()
    space: dict = {"__name__": "hook"}
    exec(compile(source.replace("{{ cookiecutter | tojson }}", "{}"), "pre_gen_project.py", "exec"), space)

    def refusal(answers: dict[str, str]) -> str | None:
        for validate in space["VALIDATORS"]:
            try:
                validate({"project_name": "My Site", "project_slug": "my_site", **answers})
            except space["Refused"] as error:
                return str(error)
        return None

    return refusal


def test_the_hook_refuses_just_the_impossible_combinations() -> None:
    refusal = hook()
    for answers in combinations():
        assert (refusal(answers) is not None) == refused(answers), answers


def test_python_shell_and_sql_hold_no_jinja() -> None:
    for path in PROJECT.rglob("*"):
        if path.suffix in (".py", ".sh", ".sql"):
            assert not re.search(r"\{%|\{\{", path.read_text()), path


def test_the_template_has_few_jinja_tags() -> None:
    tags = 0
    for path in PROJECT.rglob("*"):
        if path.is_file() and DJANGO_TEMPLATES not in str(path):
            tags += len(re.findall(r"\{\{|\{%", path.read_text()))
    assert tags < 60
