"""What a generated project must pass as it stands. One project: the answers change only its .env (test_bake.py). (mypy and
Django's checks need its packages: tests/devstack.)
"""

import ast
import configparser
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.baking import TEMPLATE, bake, edit
from tests.workflow import job

BIN = Path(sys.executable).parent


def parse_ini(text: str) -> None:
    configparser.ConfigParser(comment_prefixes=(";", "#"), interpolation=None).read_string(text)


PARSERS: dict[str, Callable[[str], object]] = {
    ".py": ast.parse,
    ".json": json.loads,
    ".toml": tomllib.loads,
    ".yaml": yaml.safe_load,
    ".ini": parse_ini,
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bake(tmp_path_factory.mktemp("lint"))


def clean(*command: str | Path, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("suffix", PARSERS)
def test_it_parses(project: Path, suffix: str) -> None:
    files = list(project.rglob(f"*{suffix}"))
    assert files
    for path in files:
        PARSERS[suffix](path.read_text())


def test_ruff(project: Path) -> None:
    clean(BIN / "ruff", "check", "--no-cache", ".", cwd=project)
    clean(BIN / "ruff", "format", "--no-cache", "--check", ".", cwd=project)


def test_shellcheck(project: Path) -> None:
    scripts = [
        path for path in project.rglob("*") if path.is_file() and path.read_bytes().startswith(b"#!/usr/bin/env bash")
    ]
    assert len(scripts) >= 6
    clean(BIN / "shellcheck", "--external-sources", *scripts, cwd=project)


def test_hadolint(project: Path) -> None:
    dockerfiles = list(project.rglob("Dockerfile"))
    assert len(dockerfiles) == 4
    clean(BIN / "hadolint", *dockerfiles, cwd=project)


def test_workflows(project: Path) -> None:
    """By their published schemas. Actions are pinned to a commit, since a tag can be moved."""
    for directory in (project, TEMPLATE):
        workflow, updates = directory / ".github" / "workflows" / "ci.yml", directory / ".github" / "dependabot.yml"
        for schema, file in (("github-workflows", workflow), ("dependabot", updates)):
            clean(BIN / "check-jsonschema", "--builtin-schema", f"vendor.{schema}", file, cwd=project)
        used = re.findall(r"uses: (\S+)", workflow.read_text())
        assert used and all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action) for action in used)
    forms = (TEMPLATE / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml")
    clean(BIN / "check-jsonschema", "--builtin-schema", "vendor.github-issue-forms", *forms, cwd=project)
    clean(BIN / "check-jsonschema", "--builtin-schema", "vendor.gitlab-ci", ".gitlab-ci.yml", cwd=project)
    gitlab = yaml.safe_load((project / ".gitlab-ci.yml").read_text())["test"]["script"]
    assert gitlab == [step["run"] for step in job(project, "test") if "run" in step]
    assert "${{ github.ref }}" in (project / ".github" / "workflows" / "ci.yml").read_text()


def test_zizmor(project: Path, tmp_path: Path) -> None:
    """What somebody could do by a pull request, or by a taken action, in workflows, Dependabot's settings and hooks."""
    zizmor = [BIN / "zizmor", "--offline", "--strict-collection", "--no-progress"]
    clean(*zizmor, TEMPLATE / ".github", project, cwd=project)
    # It does look: a fault in each of the files that it was given.
    for root in (TEMPLATE, project):
        github = shutil.copytree(root / ".github", tmp_path / root.name / ".github")
        edit(github / "workflows" / "ci.yml", "steps:\n", "steps:\n      - run: echo ${{ github.event.issue.title }}\n")
        edit(github / "dependabot.yml", "    cooldown: { default-days: 7 }\n", "")
        done = subprocess.run([*zizmor, github], capture_output=True, text=True)
        assert "error[template-injection]" in done.stdout and "warning[dependabot-cooldown]" in done.stdout, done.stderr


def test_compose_schema(project: Path) -> None:
    files = ["compose.yaml", "compose.dev.yaml", ".devcontainer/compose.yaml"]
    clean(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", *files, cwd=project)
