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
# Seconds in which a boot without a fault is over, on a quick machine. A later kill hits a running stack, which is fine.
BOOT = 7.0


@pytest.fixture(scope="module")
def stack(make_stack: MakeStack) -> Iterator[Stack]:
    with make_stack(replicas="2") as stack:
        yield stack


def kill_one(stack: Stack, dice: random.Random) -> str:
    """kill -9 of a container that runs, as soon as there is one. Says which, and how."""

    def kill() -> str:
        running = run("docker", "compose", "ps", "--quiet", cwd=stack.project, check=False).stdout.split()
        if not running:
            return ""
        victim = dice.choice(running)
        name, _, pid = docker("inspect", "--format", "{{.Name}} {{.State.Pid}}", victim, check=False).partition(" ")
        # From outside, as the kernel's out-of-memory killer does it, the restart policy acts. After `docker kill`, which
        # counts as a stop by hand, it does not.
        if os.geteuid() == 0 and dice.random() < 0.5 and int(pid or 0) > 0:
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                return ""
            return f"kill -9 of {name}"
        killed = run("docker", "kill", victim, check=False).returncode == 0
        return f"docker kill of {name}" if killed else ""

    return str(eventually(kill))


@pytest.mark.parametrize("number", range(KILLS))
def test_a_first_boot_that_loses_a_container_ends_whole(stack: Stack, number: int) -> None:
    dice = random.Random(f"{SEED}-{number}")
    # More of them early: a half-made state is made there.
    delay = dice.uniform(0, dice.choice([BOOT / 2, BOOT]))
    up = ["docker", "compose", "up", "--detach", "--wait"]
    first = subprocess.Popen(up, cwd=stack.project, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(delay)
    killed = kill_one(stack, dice)
    status = first.wait(timeout=300)
    print(f"seed {SEED}-{number}: {killed} after {delay:.2f} s; the first `up` ended with {status}")
    try:
        stack.up()
        stack.assert_whole()
    finally:
        print(stack.state())
        stack.compose("down", "--volumes", "--timeout", "0", check=False)
