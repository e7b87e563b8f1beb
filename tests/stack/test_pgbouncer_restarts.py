"""Sixteen clients ask for pages and write all the time, while PgBouncer is restarted."""

import os
from collections.abc import Iterator

import pytest

from tests.conftest import MakeStack
from tests.stack.load import Load
from tests.stack.stack import Stack
from tests.waiting import eventually

# For each of the four below.
RESTARTS = int(os.environ.get("PGBOUNCER_RESTARTS", "1"))

CHOSEN: dict[str, dict[str, str]] = {
    "persistent": {},
    "pool, session": {"connection_strategy": "pool", "pool_mode": "session"},
    "gevent": {"connection_strategy": "pool", "web_worker": "gevent"},
    "asgi": {"connection_strategy": "pool", "web_worker": "asgi"},
}


@pytest.fixture(scope="module", params=CHOSEN)
def stack(request: pytest.FixtureRequest, make_stack: MakeStack) -> Iterator[Stack]:
    with make_stack(**CHOSEN[request.param]) as stack:
        stack.up()
        stack.an_article()
        eventually(stack.ready)
        yield stack


def test_no_request_fails_while_pgbouncer_is_restarted(stack: Stack) -> None:
    with Load(stack) as load:
        load.asks(50)
        for _ in range(RESTARTS):
            stack.compose("restart", "pgbouncer")
            load.asks(50)
    print(f"{RESTARTS} restarts: {load.requests} requests, {len(load.failures)} failed; longest {load.longest:.1f} s")
    assert load.failures == []
