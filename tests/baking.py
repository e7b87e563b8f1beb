"""Makes projects of the template, as cookiecutter does it for a user."""

import json
import random
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from itertools import combinations as subsets
from itertools import product
from pathlib import Path
from typing import Any

from cookiecutter.generate import generate_context
from cookiecutter.main import cookiecutter
from cookiecutter.prompt import prompt_for_config
from cookiecutter.utils import create_env_with_context
from jinja2 import Environment

TEMPLATE = Path(__file__).resolve().parent.parent
PROJECT = TEMPLATE / "{{cookiecutter.project_slug}}"
PROMPTS = json.loads((TEMPLATE / "cookiecutter.json").read_text())
CHOICES: dict[str, list[str]] = {
    name: values for name, values in PROMPTS.items() if isinstance(values, list) and name[0] != "_"
}


def refused(answers: dict[str, str]) -> bool:
    """Whether the template must refuse this combination. Said once more here, on purpose: it is what the hook is held to."""
    return (
        (answers["pool_mode"] == "statement" and answers["replicas"] == "0")
        or (answers["synchronous_commit"] != "local" and answers["replicas"] in ("0", "1"))
        or (answers["connection_strategy"] == "persistent" and answers["web_worker"] != "gthread")
    )


def combinations() -> Iterator[dict[str, str]]:
    """The full product of the choices."""
    for values in product(*CHOICES.values()):
        yield dict(zip(CHOICES, values, strict=True))


def pairs(answers: dict[str, str]) -> set[tuple[tuple[str, str], ...]]:
    return set(subsets(answers.items(), 2))


def pairwise() -> list[dict[str, str]]:
    """A small selection in which every pair of answers occurs that any combination which is not refused has."""
    possible = [answers for answers in combinations() if not refused(answers)]
    missing = set().union(*map(pairs, possible))
    selection = []
    while missing:
        selection.append(max(possible, key=lambda answers: len(pairs(answers) & missing)))
        missing -= pairs(selection[-1])
    return selection


SELECTION = pairwise()


def bake(directory: Path, *, hooks: bool = True, template: Path = TEMPLATE, **answers: str) -> Path:
    """Generates into `directory` and returns the project's path."""
    directory.mkdir(parents=True, exist_ok=True)
    made = cookiecutter(
        str(template), no_input=True, output_dir=str(directory), extra_context=answers, accept_hooks=hooks,
        default_config=True,
    )  # fmt: skip
    return Path(made)


def render(source: Path, **answers: str) -> str:
    """One file of the template, as cookiecutter renders it."""
    context = {"cookiecutter": {**_defaults(), **answers}}
    return _environment().from_string(source.read_text()).render(**context)


@cache
def _environment() -> Environment:
    return create_env_with_context({"cookiecutter": PROMPTS})


@cache
def _defaults() -> dict[str, Any]:
    return dict(prompt_for_config(generate_context(str(TEMPLATE / "cookiecutter.json")), no_input=True))


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def edit_env(project: Path, **values: str) -> None:
    """Changes lines of the project's .env, as a person who regrets an answer does."""
    path = project / ".env"
    text = path.read_text()
    for name, value in values.items():
        text, count = re.subn(rf"^{name}=.*$", f"{name}={value}", text, flags=re.MULTILINE)
        assert count == 1, name
    path.write_text(text)


def env(project: Path, name: str, file: str = ".env") -> str:
    found = re.search(rf"^{name}=(.*)$", (project / file).read_text(), flags=re.MULTILINE)
    assert found, name
    return found[1]


def free_port() -> int:
    """Nobody listens there. It lies below the ports that the system gives to outgoing connections, which could take it."""
    while True:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", random.randrange(15_000, 32_000)))
            return int(probe.getsockname()[1])


def cli(directory: Path, *arguments: str, **answers: str) -> "subprocess.CompletedProcess[str]":
    """cookiecutter's command line, in a process of its own."""
    given = [f"{name}={value}" for name, value in answers.items()]
    return _cookiecutter(directory, "--no-input", *arguments, str(TEMPLATE), *given)


def answer_prompts(directory: Path, name: str, slug: str) -> "subprocess.CompletedProcess[str]":
    """The name and the slug typed in, each choice left at its default."""
    return _cookiecutter(directory, str(TEMPLATE), typed=f"{name}\n{slug}\n" + "\n" * len(CHOICES))


def _cookiecutter(directory: Path, *arguments: str, typed: str = "") -> "subprocess.CompletedProcess[str]":
    directory.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "cookiecutter", "--default-config", "-o", str(directory), *arguments]
    return subprocess.run(command, input=typed, capture_output=True, text=True)
