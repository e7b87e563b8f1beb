"""The first boot may be interrupted at any instant: kill -9 of any process of it, and the next start ends whole.

The step and the instant are random. TORTURE_SEED chooses others, FIRST_BOOT_KILLS more.
"""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.devstack.devstack import Devstack, devstack, end_servers, nodes, processes, servers, sql, titles, write
from tests.waiting import eventually

KILLS = int(os.environ.get("FIRST_BOOT_KILLS", "4"))
SEED = int(os.environ.get("TORTURE_SEED", "11"))

# What a first boot runs one after the other. Kills are spread over these steps: by time alone, most would hit the last.
STEPS = ["initdb", "pg_basebackup", "manage.py migrate", "gunicorn"]
# What a first boot makes, each once.
MADE = {
    "roles": "SELECT rolname FROM pg_authid WHERE rolcanlogin ORDER BY 1",
    "databases": "SELECT datname, datdba::regrole::text, datacl::text FROM pg_database ORDER BY 1",
    "extensions": "SELECT extname FROM pg_extension ORDER BY 1",
    "slots": "SELECT slot_name FROM pg_replication_slots WHERE active ORDER BY 1",
    "standbys": "SELECT application_name FROM pg_stat_replication WHERE state = 'streaming' ORDER BY 1",
    "migrations": "SELECT app, name FROM django_migrations ORDER BY 1, 2",
    "tables": "SELECT relname, relkind::text, relacl::text FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1",
}


@pytest.fixture(scope="module")
def project(make_project: Callable[..., Path]) -> Path:
    return make_project("boot_site", replicas="2")


def made(project: Path) -> dict[str, list[Any]]:
    return {what: sql(project, "primary", query) for what, query in MADE.items()}


@pytest.fixture(scope="module")
def undisturbed(project: Path) -> tuple[float, dict[str, list[Any]]]:
    """Seconds that a first boot takes here, and what it makes."""
    started = time.monotonic()
    with devstack(project):
        took = time.monotonic() - started
        wanted = {"slots": [("replica_1",), ("replica_2",)], "standbys": [("replica-1",), ("replica-2",)]}
        whole = made(project)
        assert {what: whole[what] for what in wanted} == wanted
        assert all(whole.values())
    return took, whole


def kill_one(stack: Devstack, step: str, delay: float, dice: random.Random) -> str:
    """kill -9 of one of its processes, itself among them, soon after this step has begun; says which."""

    # The step may be too short to be seen.
    eventually(
        lambda: any(step in command for command in below(stack.process.pid).values()) or "The site: " in stack.output,
        patience=300,
    )
    with suppress(subprocess.TimeoutExpired):
        stack.process.wait(timeout=delay)
    while True:
        running = servers(stack.project) | below(stack.process.pid)
        victim = dice.choice(sorted(running))
        with suppress(ProcessLookupError):  # it has just ended: another
            os.kill(victim, signal.SIGKILL)
            return running[victim]


def below(root: int) -> dict[int, str]:
    """The command lines of a process, of those that it started, and of those that these started."""
    found, tree = processes(), {root}
    while more := {pid for pid, (parent, _) in found.items() if parent in tree} - tree:
        tree |= more
    return {pid: found[pid][1] for pid in tree & found.keys()}


def end_what_is_left(stack: Devstack) -> None:
    """Presses Ctrl-C, then ends by process id the processes that still run."""
    if stack.process.poll() is None:
        stack.ctrl_c()
    stack.process.wait(timeout=60)
    end_servers(stack.project)


@pytest.mark.parametrize("number", range(KILLS))
def test_a_first_boot_that_loses_a_process_ends_whole(
    project: Path, undisturbed: tuple[float, dict[str, list[Any]]], number: int
) -> None:
    boot, whole = undisturbed
    dice = random.Random(f"{SEED}-{number}")
    step, delay = STEPS[number % len(STEPS)], dice.uniform(0, boot / len(STEPS))
    shutil.rmtree(project / ".devstack")
    stack = Devstack(project)
    try:
        victim = kill_one(stack, step, delay, dice)
        print(f"TORTURE_SEED={SEED}, kill {number}: {victim}, {delay:.2f} s after {step}")
    finally:
        end_what_is_left(stack)
    with devstack(project):
        eventually(lambda: made(project) == whole)
        write(project, "After the kill")
        for node in nodes(project):
            eventually(lambda node=node: titles(project, node) == ["After the kill"])
