"""A project takes the template's next version."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.baking import TEMPLATE, edit, edit_env, env

PROGRAMS = Path(sys.executable).parent
ANSWERS = {"project_name": "Our Site", "project_slug": "ours", "pool_mode": "session"}
ME = {f"GIT_{role}_{what}": "me@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def run(directory: Path, *command: object, check: bool = True) -> str:
    # Without the settings of whoever runs this.
    environment = (
        os.environ | ME | {"GIT_CONFIG_GLOBAL": os.devnull, "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"}
    )
    done = subprocess.run(list(map(str, command)), cwd=directory, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 or not check, done.stdout + done.stderr
    return done.stdout + done.stderr


def commit(directory: Path) -> str:
    run(directory, "git", "add", "--all")
    run(directory, "git", "commit", "--quiet", "--message", "one more")
    return run(directory, "git", "rev-parse", "HEAD").strip()


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """A repository of its own, as it is now."""
    directory = tmp_path / "template"
    directory.mkdir()
    shutil.copy(TEMPLATE / "cookiecutter.json", directory)
    for name in ("hooks", "{{cookiecutter.project_slug}}"):
        shutil.copytree(TEMPLATE / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
    run(directory, "git", "init", "--quiet")
    commit(directory)
    return directory


@pytest.mark.parametrize("by", ["cruft", "cookiecutter"])
def test_an_update_is_a_merge_and_leaves_what_is_the_machines_own(template: Path, tmp_path: Path, by: str) -> None:
    answers = [f"{name}={value}" for name, value in ANSWERS.items()]
    if by == "cruft":
        extra = ["--extra-context", json.dumps(ANSWERS)]
        run(tmp_path, "cruft", "create", template, "--no-input", *extra)
    else:
        run(tmp_path, "cookiecutter", template, "--no-input", *answers)
    project = tmp_path / "ours"
    run(project, "git", "init", "--quiet")
    commit(project)
    if by == "cookiecutter":
        run(project, "cruft", "link", template, "--no-input", "--extra-context", json.dumps(ANSWERS))
        commit(project)
    settings = project / "config" / "settings.py"
    edit(settings, '    "users",\n', '    "users",\n    "shop",\n')
    edit(settings, 'LANGUAGE_CODE = "en-us"', 'LANGUAGE_CODE = "de"')
    edit_env(project, LOG_LEVEL="WARNING")
    (project / "secrets" / "email_password").write_text("mine")
    own = {path: path.read_bytes() for path in (project / ".env", *(project / "secrets").iterdir())}
    commit(project)

    theirs = template / "{{cookiecutter.project_slug}}"
    edit(theirs / ".env.example", "LOG_LEVEL=INFO\n", "LOG_LEVEL=INFO\nNEW_CHOICE=1\n")
    edit(theirs / "config" / "settings.py", 'STATIC_URL = "static/"', 'STATIC_URL = "files/"')
    commit(template)
    output = run(project, "cruft", "update", "--skip-apply-ask")
    assert "Failed" not in output and "conflict" not in output
    text = settings.read_text()
    assert all(line in text for line in ('    "shop",', 'LANGUAGE_CODE = "de"', 'STATIC_URL = "files/"'))
    assert {path: path.read_bytes() for path in own} == own
    assert env(project, "POOL_MODE") == "session"
    assert "NEW_CHOICE=1" in (project / ".env.example").read_text()
    assert "It lacks NEW_CHOICE" in run(project, sys.executable, "ops/setup.py")
    assert not list(project.rglob("*.rej"))
    commit(project)

    # Where both have changed a line, both are shown.
    edit(theirs / "config" / "settings.py", 'LANGUAGE_CODE = "en-us"', 'LANGUAGE_CODE = "en-gb"')
    commit(template)
    run(project, "cruft", "update", "--skip-apply-ask")
    assert "UU config/settings.py" in run(project, "git", "status", "--short")
    text = settings.read_text()
    assert text.index("<<<<<<<") < text.index('"de"') < text.index('"en-gb"') < text.index(">>>>>>>")
