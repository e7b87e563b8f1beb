"""asgi serves many requests at once, each in a thread of its own: what its visitors do to the connections."""

import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import requests

from tests.conftest import MakeStack
from tests.stack.stack import Stack
from tests.waiting import eventually

# What two processes open at most: four connections of each pool, or five requests at once.
BOUNDS = {"pool": 8, "per-request": 10}


@pytest.fixture(scope="module", params=BOUNDS)
def stack(request: pytest.FixtureRequest, make_stack: MakeStack) -> Iterator[Stack]:
    with make_stack(web_worker="asgi", connection_strategy=request.param, replicas="0") as stack:
        stack.edit_env(WEB_CONNECTIONS="5")
        stack.up()
        stack.an_article()
        # So that a request waits as long as the test locks the table. (statement_timeout stays at 30 s.)
        stack.psql("primary", "ALTER ROLE app SET lock_timeout = '60s'")
        stack.pgbouncer("RECONNECT")
        yield stack


@contextmanager
def articles_locked(stack: Stack) -> Iterator[None]:
    """A request for an article waits until the block ends."""
    psql = ["docker", "exec", "--interactive", stack.container("primary"), "psql", "-XAtq", "-U", "postgres"]
    with subprocess.Popen([*psql, "-d", stack.slug], stdin=subprocess.PIPE, text=True) as session:
        assert session.stdin
        session.stdin.write("BEGIN; LOCK TABLE articles_article;\n")
        session.stdin.flush()
        granted = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation > 16000"
        eventually(lambda: stack.psql("primary", granted) != "0")
        yield
        session.stdin.close()


def waiting(stack: Stack) -> int:
    """Sessions of the site that wait for the lock."""
    sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND wait_event_type = 'Lock'"
    return int(stack.psql("primary", sql))


def test_a_visitor_who_leaves_before_the_page_is_there_takes_no_connection_along(stack: Stack) -> None:
    visitors: list[socket.socket] = []

    def enough() -> bool:
        """The system decides which process takes a request: more of them, until both have no connection left."""
        visitors.append(socket.create_connection(("127.0.0.1", stack.port)))
        visitors[-1].sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return waiting(stack) == BOUNDS[stack.env("CONNECTION_STRATEGY")]

    with articles_locked(stack):
        eventually(enough)
        for visitor in visitors:
            visitor.close()
        # By default gunicorn cancels the request of such a visitor after 3 s. Their connections are then lost.
        time.sleep(4)
    # A connection that is lost for good makes a later request wait for the pool until it fails.
    assert {stack.get("/").status_code for _ in range(20)} == {200}
    if stack.env("CONNECTION_STRATEGY") == "per-request":
        eventually(lambda: stack.clients() == 0)


def test_no_more_connections_at_once_than_the_budget_counts(stack: Stack) -> None:
    bound = BOUNDS[stack.env("CONNECTION_STRATEGY")]
    with ThreadPoolExecutor(60) as visitors:
        answers: list[Future[requests.Response]] = []

        def enough() -> bool:
            answers.append(visitors.submit(stack.get, "/"))
            return waiting(stack) == bound

        with articles_locked(stack):
            eventually(enough)
            answers += [visitors.submit(stack.get, "/") for _ in range(20)]
            assert max(stack.clients() for _ in range(5)) <= bound
        # A request that has waited 10 s for a connection fails, as it should. Without a lock none waits so long.
        for answer in answers:
            answer.result()
        crowd = [visitors.submit(stack.get, "/") for _ in range(40)]
        assert {answer.result().status_code for answer in crowd} == {200}
