"""`manage.py devstack` and what runs on it, from start to end: its own `make test`, Ctrl-C, kill -9, a start that fails."""

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.devstack.devstack import MANAGE, Devstack, devstack, end_servers, nodes, servers, titles, write
from tests.waiting import eventually


@pytest.fixture(scope="module")
def project(make_project: Callable[..., Path]) -> Path:
    return make_project("dev_site", replicas="2")


def test_the_projects_own_tests_pass(first_project: Path) -> None:
    """ruff, mypy --strict and pytest on a real primary and two real replicas."""
    done = subprocess.run(["make", "test"], cwd=first_project, capture_output=True, text=True)
    print(done.stdout[-5000:], done.stderr[-5000:])
    assert done.returncode == 0
    assert re.search(r"^\d+ passed", done.stdout, flags=re.MULTILINE)
    assert "Success: no issues found" in done.stdout


def test_the_lock_names_all_that_its_packages_need(first_project: Path) -> None:
    """It was installed without a look at that."""
    done = subprocess.run([".venv/bin/pip", "check"], cwd=first_project, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def sent(number: int) -> Callable[[Devstack], int]:
    def stop(stack: Devstack) -> int:
        stack.process.send_signal(number)
        return stack.process.wait(timeout=60)

    return stop


STOPS = {"Ctrl-C": Devstack.ctrl_c, "SIGTERM": sent(signal.SIGTERM), "SIGHUP": sent(signal.SIGHUP)}


def test_it_stops_cleanly_and_the_next_start_finds_the_data(project: Path) -> None:
    kept: list[str] = []
    for name, stop in STOPS.items():
        with devstack(project) as stack:
            assert titles(project, "primary") == kept
            write(project, name)
            kept.append(name)
            assert stop(stack) == 0
            assert "stopped; the data is in" in stack.output
        eventually(lambda: not servers(project))
        assert not (project / ".devstack" / "env").exists()
        for node in nodes(project):
            assert "database system is shut down" in (project / ".devstack" / f"{node}.log").read_text()


def test_after_kill_9_the_printed_remedy_brings_it_back_with_its_data(project: Path) -> None:
    with devstack(project) as stack:
        write(project, "Before kill -9")
        stack.process.kill()
        stack.process.wait()
    try:
        # Its servers run on: a start beside them does them no harm, and says how to be rid of them.
        left = set(map(int, (project / ".devstack" / "processes").read_text().split()))
        assert len(left) >= 4
        refused = subprocess.run([*MANAGE, "devstack"], cwd=project, capture_output=True, text=True)
        assert refused.returncode != 0
        assert "Servers of another start run on" in refused.stderr and "Traceback" not in refused.stderr
        assert left <= servers(project).keys()
        write(project, "After kill -9")
        remedy = re.search(r"kill -INT -- .*$", refused.stderr, flags=re.MULTILINE)
        assert remedy, refused.stderr
        subprocess.run(shlex.split(remedy[0]), check=True)
        eventually(lambda: not servers(project))
    finally:
        end_servers(project)
    with devstack(project):
        for node in nodes(project):
            eventually(lambda node=node: titles(project, node)[-2:] == ["Before kill -9", "After kill -9"])


def test_a_command_ends_with_its_own_status(project: Path) -> None:
    command = [*MANAGE, "devstack", "--for-tests", "--", "sh", "-c", "echo $DATABASE_URL; exit 7"]
    done = subprocess.run(command, cwd=project, env={**os.environ, "REPLICAS": "0"}, capture_output=True, text=True)
    assert done.returncode == 7
    assert re.search(r"postgresql://owner@127\.0\.0\.1:\d+/dev_site", done.stdout)


def test_a_failed_start_leaves_nothing_running(project: Path) -> None:
    """With the log's last lines in the message, and not a traceback."""
    secret = project / "secrets" / "monitor_password"
    before = secret.read_text()
    secret.write_text("\n")
    try:
        done = subprocess.run([*MANAGE, "devstack"], cwd=project, capture_output=True, text=True)
    finally:
        secret.write_text(before)
    assert done.returncode != 0
    assert "the secret monitor_password is empty" in done.stderr
    assert "Traceback" not in done.stderr
    eventually(lambda: not servers(project))
