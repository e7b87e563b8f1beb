"""The first boot may be interrupted at any instant: kill -9 of any container, and `up` again ends whole."""

import os
import random
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.stack.stack import Stack

# Seconds within which a first boot is over on a small machine; a kill falls anywhere in it.
BOOT = 7.0
KILLS = int(os.environ.get("FIRST_BOOT_KILLS", "30"))
SEED = int(os.environ.get("FIRST_BOOT_SEED", str(random.randrange(10**6))))


@pytest.fixture(scope="module")
def stack(make_stack: Callable) -> Stack:
    with make_stack(replicas="2") as stack:
        stack.compose("build")
        yield stack


def containers(stack: Stack) -> list[str]:
    return stack.compose("ps", "--quiet", check=False).stdout.split()


def kill_one(stack: Stack, dice: random.Random) -> str:
    """kill -9 of a container that runs, and its name; waits until one runs."""
    deadline = time.monotonic() + 30
    while not (running := containers(stack)):
        assert time.monotonic() < deadline, "no container ever ran"
        time.sleep(0.05)
    victim = dice.choice(running)
    name = subprocess.run(
        ["docker", "inspect", "--format", "{{.Name}}", victim], capture_output=True, text=True
    ).stdout.strip()
    subprocess.run(["docker", "kill", "--signal", "KILL", victim], capture_output=True)
    return name


@pytest.mark.parametrize("number", range(KILLS))
def test_a_first_boot_that_loses_a_container_ends_whole(stack: Stack, number: int) -> None:
    dice = random.Random(f"{SEED}-{number}")
    delay = dice.uniform(0, BOOT)
    first = subprocess.Popen(
        ["docker", "compose", "up", "--detach", "--wait"],
        cwd=stack.project,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(delay)
    victim = kill_one(stack, dice)
    status = first.wait(timeout=300)
    print(f"seed {SEED}-{number}: killed {victim} after {delay:.2f} s; that `up` ended with {status}")

    try:
        stack.compose("up", "--detach", "--wait")
        stack.assert_whole()
    except BaseException:
        print(stack.logs()[-20_000:])
        raise
    finally:
        stack.compose("down", "--volumes", "--timeout", "5", check=False)
