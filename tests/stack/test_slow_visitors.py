"""More visitors who take their answers slowly than there are connections: the others notice nothing."""

import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import MakeStack
from tests.stack.stack import Stack
from tests.waiting import eventually

CHOSEN: dict[str, dict[str, str]] = {
    "gthread": {},
    "gthread, pool": {"connection_strategy": "pool"},
    "gevent": {"web_worker": "gevent", "connection_strategy": "pool"},
    "asgi": {"web_worker": "asgi", "connection_strategy": "pool"},
}
# Two processes with pools, or threads, of four.
VISITORS = 20
MOUNT = "services: { web: { volumes: ['./slow_urls.py:/app/config/urls.py:ro'] } }\n"


@pytest.fixture(scope="module", params=CHOSEN)
def stack(request: pytest.FixtureRequest, make_stack: MakeStack) -> Iterator[Stack]:
    with make_stack(replicas="0", **CHOSEN[request.param]) as stack:
        shutil.copy(Path(__file__).parent / "in_container" / "slow_urls.py", stack.project)
        (stack.project / "compose.override.yaml").write_text(MOUNT)
        stack.up()
        others_are_served(stack)
        yield stack


class Visitor:
    """Asks for a page, and reads of it what it is told to."""

    def __init__(self, stack: Stack, page: str) -> None:
        self.socket = socket.socket()
        # What the kernel keeps for somebody who does not read.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(60)
        self.socket.connect(("127.0.0.1", stack.port))
        self.socket.sendall(f"GET {page} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    def status(self) -> str:
        """Waits for the beginning of the answer."""
        return self.socket.recv(12).decode()

    def chunks(self, number: int) -> None:
        """Reads on until so many have come. Each ends so, and the headers before them."""
        seen = b""
        while seen.count(b"\n\r\n") <= number:
            more = self.socket.recv(100)
            assert more, "it has ended"
            seen += more


def others_are_served(stack: Stack) -> None:
    assert {stack.get(page).status_code for page in ("/", stack.an_article(), "/readyz") for _ in range(4)} == {200}
    stack.comment("beside slow visitors")
    stack.psql("primary", "DELETE FROM articles_comment WHERE body = 'beside slow visitors'")


def test_slow_downloads_hold_no_connection(stack: Stack) -> None:
    with ExitStack() as visits:
        visitors = [Visitor(stack, "/download") for _ in range(VISITORS)]
        for visitor in visitors:
            visits.enter_context(visitor.socket)
        assert {visitor.status() for visitor in visitors} == {"HTTP/1.1 200"}
        others_are_served(stack)
        # And none of theirs has ended: there is more than was read and the kernel may hold.
        for visitor in visitors:
            visitor.socket.recv(1000)
    eventually(stack.ready)


def test_event_streams_hold_no_connection_while_nothing_happens(stack: Stack) -> None:
    page = "/async-events" if stack.env("WEB_WORKER") == "asgi" else "/events"
    with ExitStack() as visits:
        visitors = [Visitor(stack, page) for _ in range(VISITORS)]
        for visitor in visitors:
            visits.enter_context(visitor.socket)
        assert {visitor.status() for visitor in visitors} == {"HTTP/1.1 200"}
        others_are_served(stack)
        for visitor in visitors:
            visitor.chunks(2)
    eventually(stack.ready)
