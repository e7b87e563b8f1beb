"""The first boot may be interrupted at any instant: kill -9 of any container, and `up` again ends whole."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from tests.stack.stack import Stack

KILLS = int(os.environ.get("FIRST_BOOT_KILLS", "15"))
SEED = int(os.environ.get("FIRST_BOOT_SEED", str(random.randrange(10**6))))


@pytest.fixture(scope="module")
def stack(make_stack: Callable) -> Iterator[Stack]:
    with make_stack(replicas="2") as stack:
        stack.compose("build")
        yield stack


@pytest.fixture(scope="module")
def boot(stack: Stack) -> float:
    """Seconds that a first boot takes here, undisturbed."""
    started = time.monotonic()
    stack.compose("up", "--detach", "--wait")
    took = time.monotonic() - started
    stack.compose("down", "--volumes", "--timeout", "5")
    return took


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True).stdout.strip()


def kill_one(stack: Stack, dice: random.Random) -> str:
    """kill -9 of a container that runs; waits until there is one. Says which, how, and how far the boot had come."""
    deadline = time.monotonic() + 30
    while True:
        running = stack.compose("ps", "--quiet", check=False).stdout.split()
        if running:
            victim = dice.choice(running)
            name, pid = docker("inspect", "--format", "{{.Name}} {{.State.Pid}}", victim).split()
            # From outside, as the kernel's out-of-memory killer does it, the restart policy acts; after `docker kill`,
            # which counts as a stop by hand, it does not.
            by_kernel = os.geteuid() == 0 and dice.random() < 0.5 and int(pid) > 0
            if by_kernel:
                try:
                    os.kill(int(pid), signal.SIGKILL)
                    killed = True
                except ProcessLookupError:
                    killed = False
            else:
                killed = subprocess.run(["docker", "kill", victim], capture_output=True).returncode == 0
            if killed:
                return f"{name} ({'kill -9' if by_kernel else 'docker kill'})"
        assert time.monotonic() < deadline, "no container could be killed"
        time.sleep(0.05)


@pytest.mark.parametrize("number", range(KILLS))
def test_a_first_boot_that_loses_a_container_ends_whole(stack: Stack, boot: float, number: int) -> None:
    dice = random.Random(f"{SEED}-{number}")
    # More of them early: what is made half is made there.
    delay = dice.uniform(0, dice.choice([boot / 2, boot]))
    first = subprocess.Popen(
        ["docker", "compose", "up", "--detach", "--wait"],
        cwd=stack.project,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(delay)
    assert first.poll() is None or delay > boot / 2, "the boot was over before it was to be interrupted"
    victim = kill_one(stack, dice)
    status = first.wait(timeout=300)
    started = time.monotonic()
    try:
        stack.compose("up", "--detach", "--wait")
        stack.assert_whole()
    except BaseException:
        print(stack.logs()[-20_000:])
        raise
    finally:
        took = time.monotonic() - started
        print(
            f"seed {SEED}-{number}: {victim} after {delay:.2f} of {boot:.1f} s; `up` ended with {status}, the next took {took:.0f} s"
        )
        stack.compose("down", "--volumes", "--timeout", "5", check=False)
