"""The locks are current, complete with hashes, and hold no address."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.baking import bake
from tests.lock import compile_lock, locks

NAMES = ["template", "project", "project-dev"]


@pytest.fixture(params=range(3), ids=NAMES)
def lock(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path, tuple[str, ...]]:
    found = list(locks(bake(tmp_path / "project", hooks=False)).items())
    assert len(found) == len(NAMES)
    path, (pyproject, extras) = found[request.param]
    return path, pyproject, extras


def test_it_is_current(lock: tuple[Path, Path, tuple[str, ...]], tmp_path: Path) -> None:
    """Compiling again changes nothing. After an edit of pyproject.toml: make lock."""
    path, pyproject, extras = lock
    compiled = tmp_path / "requirements.txt"
    shutil.copy(path, compiled)
    compile_lock(pyproject, compiled, *extras)
    assert compiled.read_text() == path.read_text()


def test_it_names_no_address(lock: tuple[Path, Path, tuple[str, ...]]) -> None:
    assert not re.search(r"https?:|index-url|find-links|/", lock[0].read_text())


def test_every_requirement_is_pinned_and_hashed(lock: tuple[Path, Path, tuple[str, ...]]) -> None:
    requirements = re.sub(r"\\\n\s*", "", lock[0].read_text()).splitlines()
    assert len(requirements) > 15
    for requirement in requirements:
        assert re.match(r"[\w.\[\],-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", requirement), requirement


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.14"])
def test_it_installs_with_hashes_required(
    lock: tuple[Path, Path, tuple[str, ...]], tmp_path: Path, python: str
) -> None:
    """Resolved for each supported Python; with `make`, pip installs them for real."""
    command = [
        "-m",
        "uv",
        "pip",
        "install",
        "--dry-run",
        "--require-hashes",
        "--no-deps",
        "--target",
        str(tmp_path / "t"),
    ]
    options = ["--python-version", python, "--only-binary", ":all:", "--requirement", str(lock[0])]
    done = subprocess.run([sys.executable, *command, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    django = re.search(r"^ \+ django==(\d+\.\d+)", done.stderr, flags=re.MULTILINE)
    if lock[1].parent.name == "my_site":
        assert django and django[1] == ("5.2" if python == "3.11" else "6.1")
