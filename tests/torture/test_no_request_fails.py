"""Sixteen clients ask for pages all the time, while the only replica is stopped, killed, frozen, cut off, restarted."""

import os
import statistics
import time
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import MakeStack
from tests.stack.load import Load
from tests.stack.stack import Stack, docker
from tests.waiting import eventually

# How often each fault happens. With 20 and an otherwise idle machine it is over 50,000 requests.
FAULTS = int(os.environ.get("FAULTS", "1"))


@pytest.fixture(scope="module")
def stack(make_stack: MakeStack) -> Iterator[Stack]:
    with make_stack() as stack:
        stack.up()
        stack.an_article()
        yield stack


@pytest.fixture(scope="module")
def load(stack: Stack) -> Iterator[Load]:
    with Load(stack) as load:
        load.serves_again(time.monotonic())
        yield load


def goes_on_without(stack: Stack, load: Load) -> None:
    """Requests meet the fault while nobody knows of it, and again when the site does."""
    eventually(lambda: not stack.ready())
    load.asks(200)


def stop(stack: Stack, load: Load) -> None:
    stack.compose("stop", "replica-1")
    goes_on_without(stack, load)
    stack.compose("start", "replica-1")


def kill(stack: Stack, load: Load) -> None:
    stack.compose("kill", "replica-1")
    goes_on_without(stack, load)
    stack.compose("start", "replica-1")


def kill_a_backend(stack: Stack, load: Load) -> None:
    """The whole node goes down with it."""
    stack.kill_backend("replica-1")


def freeze(stack: Stack, load: Load) -> None:
    with stack.paused("replica-1"):
        goes_on_without(stack, load)


def cut_off(stack: Stack, load: Load) -> None:
    network, container = f"{stack.slug}_database", stack.container("replica-1")
    docker("network", "disconnect", network, container)
    try:
        goes_on_without(stack, load)
    finally:
        docker("network", "connect", "--alias", "replica-1", network, container)


def restart(stack: Stack, load: Load) -> None:
    stack.compose("restart", "replica-1")


@pytest.mark.parametrize("fault", [stop, kill, kill_a_backend, freeze, cut_off, restart])
def test_no_request_fails(stack: Stack, load: Load, fault: Callable[[Stack, Load], None]) -> None:
    before, recoveries, longest = load.requests, [], []
    for _ in range(FAULTS):
        load.longest = 0.0
        fault(stack, load)
        recoveries.append(load.serves_again(time.monotonic()))
        load.asks(50)
        longest.append(load.longest)
    print(
        f"{fault.__name__} {FAULTS} times: {load.requests - before} requests, {len(load.failures)} failed; the longest "
        f"took {max(longest):.2f} s (median of the longest {statistics.median(longest):.2f} s); served again after "
        f"{statistics.median(recoveries):.2f} s ({min(recoveries):.2f} to {max(recoveries):.2f} s)"
    )
    assert load.failures == []
