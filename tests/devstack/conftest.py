"""The devstack tier: generated projects without Docker, their servers as plain processes."""

import fcntl
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.baking import bake, edit_env, free_port
from tests.devstack.devstack import logs


@pytest.fixture(scope="session")
def first_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In it, the documented command makes the virtual environment, once for all processes of this run. The other projects
    take that: they need the same.
    """
    base = tmp_path_factory.getbasetemp()
    # pytest-xdist gives each of its processes a directory below the run's.
    directory = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "first"
    directory.mkdir(exist_ok=True)
    # The longest name that is accepted.
    project = directory / f"first_{'x' * 57}"
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not project.exists():
            bake(directory, project_slug=project.name, replicas="2")
            subprocess.run(["make", ".venv/installed"], cwd=project, check=True, capture_output=True)
    return project


@pytest.fixture(scope="session")
def make_project(first_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    def make(slug: str, **answers: str) -> Path:
        project = bake(tmp_path_factory.mktemp(slug), project_slug=slug, **answers)
        (project / ".venv").symlink_to(first_project / ".venv")
        # Tests read in a page's footer which database answered.
        edit_env(project, WEB_PORT=str(free_port()), SHOW_ROUTING="on")
        return project

    return make


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Function) -> Iterator[None]:
    """A failing test prints the ends of the logs of its projects."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Path) and (value / "manage.py").exists():
                report.sections += [(f"{value.name}: {name}", text) for name, text in logs(value)]
    return report
