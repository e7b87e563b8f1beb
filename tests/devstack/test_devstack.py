"""`manage.py devstack` and what runs on it, from start to end: the project's `make test`, Ctrl-C, kill -9, a start that fails."""

import os
import re
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.devstack.devstack import MANAGE, Devstack, devstack, end_servers, nodes, processes, servers, titles, write
from tests.waiting import eventually
from tests.workflow import run_job


@pytest.fixture(scope="module")
def project(make_project: Callable[..., Path]) -> Path:
    return make_project("dev_site", replicas="2")


def test_the_projects_own_tests_pass(first_project: Path) -> None:
    """ruff, mypy --strict and pytest on a real primary and two real replicas, as its workflow runs them. (Those of its
    packages are run by test_example.py.)
    """
    printed = run_job(first_project, "test")
    assert re.search(r"^\d+ passed", printed, flags=re.MULTILINE)
    assert "Success: no issues found" in printed


def test_the_lock_names_all_that_its_packages_need(first_project: Path) -> None:
    """It was installed without a look at that."""
    done = subprocess.run([".venv/bin/pip", "check"], cwd=first_project, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def sent(number: int) -> Callable[[Devstack], int]:
    def stop(stack: Devstack) -> int:
        stack.process.send_signal(number)
        return stack.process.wait(timeout=60)

    return stop


def impatiently(stack: Devstack) -> int:
    """Ctrl-C again and again, until it is over."""
    while stack.process.poll() is None:
        os.killpg(stack.process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            stack.process.wait(timeout=0.2)
    return stack.process.returncode


STOPS = {
    "Ctrl-C": Devstack.ctrl_c,
    "SIGTERM": sent(signal.SIGTERM),
    "SIGHUP": sent(signal.SIGHUP),
    "many times Ctrl-C": impatiently,
}


@pytest.fixture
def scratch() -> Iterator[Path]:
    """For TMPDIR. Not below pytest's, where the path of a socket would be too long."""
    with tempfile.TemporaryDirectory(prefix="t") as directory:
        # Servers do not run as root.
        Path(directory).chmod(0o755)
        yield Path(directory)


def test_it_stops_cleanly_and_the_next_start_finds_the_data(project: Path, scratch: Path) -> None:
    kept: list[str] = []
    for name, stop in STOPS.items():
        with devstack(project, TMPDIR=str(scratch)) as stack:
            assert titles(project, "primary") == kept
            write(project, name)
            kept.append(name)
            assert stop(stack) == 0
            assert "stopped; the data is in" in stack.output and "Traceback" not in stack.output
        assert not servers(project)
        assert not (project / ".devstack" / "env").exists()
        assert list(scratch.iterdir()) == []
        for node in nodes(project):
            assert "database system is shut down" in (project / ".devstack" / f"{node}.log").read_text()


def killed(stack: Devstack) -> None:
    stack.process.kill()
    stack.process.wait()


def test_after_kill_9_the_next_start_finds_the_data(project: Path, scratch: Path) -> None:
    try:
        with devstack(project, TMPDIR=str(scratch)) as stack:
            write(project, "Before kill -9")
            killed(stack)
        # At once: it waits until the guard has stopped the servers.
        with devstack(project, TMPDIR=str(scratch)) as stack:
            for node in nodes(project):
                assert "was interrupted" not in (project / ".devstack" / f"{node}.log").read_text()
                eventually(lambda node=node: titles(project, node)[-1:] == ["Before kill -9"])
            assert len(list(scratch.iterdir())) == 1
            assert stack.url
            guard, *left = map(int, (project / ".devstack" / "processes").read_text().split())
            assert len(left) >= 4
            os.kill(guard, signal.SIGKILL)
            killed(stack)
        # Now its servers run on: a start beside them does them no harm, and says how to be rid of them.
        refused = subprocess.run([*MANAGE, "devstack"], cwd=project, capture_output=True, text=True)
        assert refused.returncode != 0
        assert "Servers of another start run on" in refused.stderr and "Traceback" not in refused.stderr
        assert set(left) <= servers(project).keys()
        write(project, "After kill -9")
        remedy = re.search(r"kill -INT -- .*$", refused.stderr, flags=re.MULTILINE)
        assert remedy, refused.stderr
        subprocess.run(shlex.split(remedy[0]), check=True)
        eventually(lambda: not servers(project))
    finally:
        end_servers(project)
    with devstack(project, TMPDIR=str(scratch)):
        for node in nodes(project):
            eventually(lambda node=node: titles(project, node)[-2:] == ["Before kill -9", "After kill -9"])
    assert list(scratch.iterdir()) == []


def test_kill_9_while_a_command_runs_leaves_nothing(project: Path, scratch: Path) -> None:
    """No server, no data, no passfile, nor the command."""
    command = [*MANAGE, "devstack", "--for-tests", "--", "sh", "-c", "echo my number is $$; exec sleep 600"]
    env = {**os.environ, "REPLICAS": "0", "TMPDIR": str(scratch)}
    with subprocess.Popen(command, cwd=project, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        number = next(int(line.split()[-1]) for line in process.stdout if line.startswith("my number is "))
        assert any(path.name == "pgpass" for path in scratch.rglob("*"))
        process.kill()
    eventually(lambda: list(scratch.iterdir()) == [])
    eventually(lambda: number not in processes())
    assert not any(str(scratch) in command for _, command in processes().values())


def test_a_command_ends_with_its_own_status(project: Path) -> None:
    command = [*MANAGE, "devstack", "--for-tests", "--", "sh", "-c", "echo $DATABASE_URL; exit 7"]
    # These lead libpq elsewhere.
    libpq = {"PGHOSTADDR": "192.0.2.1", "PGSSLMODE": "require", "PGTARGETSESSIONATTRS": "standby", "PGSERVICE": "mine"}
    env = {**os.environ, **libpq, "REPLICAS": "0"}
    done = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True)
    assert done.returncode == 7, done.stderr
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
