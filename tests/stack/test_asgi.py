"""asgi serves many at once, each request in a thread of its own: what its visitors do to the connections."""

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.stack.stack import Stack, eventually

# At most, in two processes: what four connections of each pool, or five requests at once, open.
BOUNDS = {"pool": 8, "per-request": 10}


@pytest.fixture(scope="module", params=BOUNDS)
def stack(request: pytest.FixtureRequest, make_stack: Callable) -> Iterator[Stack]:
    with make_stack(web_worker="asgi", connection_strategy=request.param, replicas="0") as stack:
        stack.edit_env(WEB_CONNECTIONS="5")
        stack.up()
        stack.an_article()
        yield stack


@contextmanager
def slow(stack: Stack, seconds: int) -> Iterator[None]:
    """Whoever asks for articles waits until they are unlocked."""
    lock = f"BEGIN; LOCK TABLE articles_article; SELECT pg_sleep({seconds}); COMMIT"
    psql = [
        "docker",
        "compose",
        "exec",
        "-T",
        "primary",
        "psql",
        "-XAtq",
        "-U",
        "postgres",
        "-d",
        stack.slug,
        "-c",
        lock,
    ]
    with subprocess.Popen(psql, cwd=stack.project, stdout=subprocess.DEVNULL) as locking:
        granted = (
            "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation IS NOT NULL"
        )
        eventually(lambda: stack.psql("primary", granted) != "0", patience=seconds)
        yield
        assert locking.wait() == 0


def test_who_leaves_before_the_page_is_there_takes_no_connection_along(stack: Stack) -> None:
    with slow(stack, 8):
        visitors = [socket.create_connection(("127.0.0.1", stack.port)) for _ in range(16)]
        for visitor in visitors:
            visitor.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(1)
        for visitor in visitors:
            visitor.close()
    started = time.monotonic()
    assert {stack.get("/").status_code for _ in range(20)} == {200}
    assert time.monotonic() - started < 8, "they waited for a pool"
    if stack.env("CONNECTION_STRATEGY") == "per-request":
        eventually(lambda: stack.clients() == 0, patience=5)


def test_no_more_connections_at_once_than_the_budget_counts(stack: Stack) -> None:
    with ThreadPoolExecutor(40) as visitors:
        with slow(stack, 4):
            answers = [visitors.submit(stack.get, "/") for _ in range(40)]
            time.sleep(2)
            assert 1 < stack.clients() <= BOUNDS[stack.env("CONNECTION_STRATEGY")]
        assert {answer.result().status_code for answer in answers} == {200}
