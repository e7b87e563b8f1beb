"""A first boot in Docker loses a container at a random instant, and the next `up` ends whole.

tests/devstack/test_first_boot.py kills the same scripts as plain processes, more often. Docker adds its restart policy, its
volumes, and process ids that begin again in each container.
"""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.conftest import MakeStack
from tests.stack.stack import Stack, docker, run
from tests.waiting import eventually

KILLS = int(os.environ.get("DOCKER_BOOT_KILLS", "3"))
SEED = os.environ.get("TORTURE_SEED", "1")
# In the order in which they start. Kills are spread over them: by time alone, most would hit the first.
SERVICES = ("primary", "replica-1", "migrate", "pgbouncer", "replica-2", "web")


@pytest.fixture(scope="module")
def stack(make_stack: MakeStack) -> Iterator[Stack]:
    with make_stack(replicas="2") as stack:
        yield stack


def has_started(stack: Stack, service: str) -> bool:
    started = docker("inspect", "--format", "{{.State.StartedAt}}", stack.container(service), check=False)
    return bool(started) and not started.startswith("0001")


def kill_one(stack: Stack, service: str, dice: random.Random) -> str:
    """kill -9 of the service's container, or of another if that has ended. Says which, and how."""

    def kill() -> str:
        running = docker("ps", "--format", "{{.Names}}", "--filter", f"name=^{stack.slug}-").split()
        if not running:
            return ""
        victim = stack.container(service) if stack.container(service) in running else dice.choice(sorted(running))
        pid = int(docker("inspect", "--format", "{{.State.Pid}}", victim, check=False) or 0)
        # From outside, as the kernel's out-of-memory killer does it, the restart policy acts. After `docker kill`, which
        # counts as a stop by hand, it does not.
        if os.geteuid() == 0 and dice.random() < 0.5 and pid > 0:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                return ""
            return f"kill -9 of {victim}"
        killed = run("docker", "kill", victim, check=False).returncode == 0
        return f"docker kill of {victim}" if killed else ""

    return eventually(kill)


@pytest.mark.parametrize("number", range(KILLS))
def test_a_first_boot_that_loses_a_container_ends_whole(stack: Stack, number: int) -> None:
    dice = random.Random(f"{SEED}-{number}")
    service, delay = SERVICES[number % len(SERVICES)], dice.uniform(0, 2)
    up = ["docker", "compose", "up", "--detach", "--wait"]
    first = subprocess.Popen(up, cwd=stack.project, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    eventually(lambda: has_started(stack, service) or first.poll() is not None, patience=180)
    time.sleep(delay)
    killed = kill_one(stack, service, dice)
    status = first.wait(timeout=300)
    print(f"seed {SEED}-{number}: {killed} {delay:.2f} s after {service} began; the first `up` ended with {status}")
    try:
        stack.up()
        stack.assert_whole()
    finally:
        print(stack.state())
        stack.compose("down", "--volumes", "--timeout", "0", check=False)
