"""What a generated project must pass as it stands. (mypy and Django's checks need its packages: tests/devstack.)"""

import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest

from tests.baking import bake, refused
from tests.baking import combinations as every_combination

BIN = Path(sys.executable).parent


def pairs(answers: dict[str, str]) -> set[tuple[tuple[str, str], ...]]:
    return set(combinations(answers.items(), 2))


def pairwise() -> list[dict[str, str]]:
    """A small selection in which every pair of answers occurs that any combination which is not refused has."""
    possible = [answers for answers in every_combination() if not refused(answers)]
    missing = set().union(*map(pairs, possible))
    selection = []
    while missing:
        selection.append(max(possible, key=lambda answers: len(pairs(answers) & missing)))
        missing -= pairs(selection[-1])
    return selection


SELECTION = pairwise()


@pytest.fixture(scope="module", params=SELECTION, ids=lambda answers: "-".join(answers.values()))
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bake(tmp_path_factory.mktemp("lint"), **request.param)


def clean(*command: str | Path, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff(project: Path) -> None:
    clean(BIN / "ruff", "check", "--no-cache", ".", cwd=project)
    clean(BIN / "ruff", "format", "--no-cache", "--check", ".", cwd=project)


def test_shellcheck(project: Path) -> None:
    scripts = [
        path for path in project.rglob("*") if path.is_file() and path.read_bytes().startswith(b"#!/usr/bin/env bash")
    ]
    assert len(scripts) >= 6
    clean(BIN / "shellcheck", *scripts, cwd=project)


def test_hadolint(project: Path) -> None:
    dockerfiles = list(project.rglob("Dockerfile"))
    assert len(dockerfiles) == 2
    clean(BIN / "hadolint", *dockerfiles, cwd=project)


def test_compose_schema(project: Path) -> None:
    clean(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml", cwd=project)
