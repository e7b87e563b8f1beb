"""A clone with core.autocrlf=true, the default of Git for Windows, writes no carriage return into what runs on Linux."""

import shutil
from pathlib import Path

from tests.baking import TEMPLATE, bake
from tests.cloning import clone

BINARY = {".png", ".svg"}


def with_carriage_returns(directory: Path) -> list[str]:
    files = [path for path in directory.rglob("*") if path.is_file() and ".git" not in path.parts]
    assert len(files) > 50
    return [str(path) for path in files if b"\r" in path.read_bytes() and path.suffix not in BINARY]


def test_a_clone_of_a_project(tmp_path: Path) -> None:
    project = bake(tmp_path / "project")
    (project / "carriage_return.txt").write_bytes(b"in the repository\r\n")
    copy = clone(project, tmp_path / "clone", autocrlf=True, umask=0o022)
    assert with_carriage_returns(copy) == []
    assert not (copy / ".env").exists() and not (copy / "secrets").exists()


def test_a_project_that_is_generated_from_a_clone_of_the_template(tmp_path: Path) -> None:
    template = tmp_path / "template"
    shutil.copytree(TEMPLATE, template, ignore=shutil.ignore_patterns(".git", ".venv", ".demo", ".test", ".*_cache"))
    copy = clone(template, tmp_path / "clone", autocrlf=True, umask=0o022)
    assert with_carriage_returns(copy) == []
    assert with_carriage_returns(bake(tmp_path / "project", template=copy)) == []
