"""A thread that may have to wait for its visitor is replaced, and the new one goes on with its connections."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from socket import MSG_PEEK, SO_RCVBUF, SOL_SOCKET, create_server, socket
from threading import Event, get_ident
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults

import pytest
from django.db import connection, connections
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.urls import path

from config.threads import Threads, pool_of_this_thread
from config.wsgi import handler

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls(__name__)]

NUMBER = 2
LARGE = 20_000_000
go_on = Event()
running: list[int] = []


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def session() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid() AS of_a_visitor")
        return str(cursor.fetchone()[0])


def page(request):
    return HttpResponse(f"{session()} {get_ident()}".ljust(1000))


def pages(request):
    return HttpResponse(session().ljust(200_000))


def waits(request):
    running.append(get_ident())
    go_on.wait(60)
    return HttpResponse(session())


def download(request):
    return HttpResponse(session().ljust(LARGE))


def file(request):
    session()
    return FileResponse(Path("/dev/zero").open("rb"))


def stream(request):
    first = session()
    return StreamingHttpResponse(f"{first} {session()}".ljust(1_000_000) for _ in range(100))


def failure(request):
    raise ValueError(session())


urlpatterns = [path(view.__name__, view) for view in (page, pages, waits, download, file, stream, failure)]


class Site:
    """As gunicorn does it: one job for a request and its answer."""

    def __init__(self, visits: ExitStack) -> None:
        self.visits = visits
        self.pool = Threads(NUMBER)
        self.server = visits.enter_context(create_server(("127.0.0.1", 0)))

    def visitor(self) -> tuple[socket, socket]:
        """:returns: what the visitor has, and what gunicorn has"""
        visitor = self.visits.enter_context(socket())
        visitor.settimeout(60)
        # What the kernel keeps for somebody who does not read.
        visitor.setsockopt(SOL_SOCKET, SO_RCVBUF, 4096)
        visitor.connect(self.server.getsockname())
        client, _ = self.server.accept()
        return visitor, self.visits.enter_context(client)

    def asks(self, url: str, client: socket) -> Any:
        environ: dict[str, Any] = {"PATH_INFO": f"/{url}", "wsgi.file_wrapper": FileWrapper, "gunicorn.socket": client}
        setup_testing_defaults(environ)
        return self.pool.submit(self._serves, environ, client)

    @staticmethod
    def _serves(environ: dict[str, Any], client: socket) -> None:
        answer: Any = handler(environ, lambda *_: None)
        try:
            for chunk in answer:
                client.sendall(chunk)
        finally:
            answer.close()

    def sees(self, url: str) -> list[str]:
        """All of a short answer."""
        visitor, client = self.visitor()
        self.asks(url, client).result(60)
        client.close()
        return visitor.makefile().read().split()

    def slow(self, url: str) -> socket:
        """A visitor who has read the beginning."""
        visitor, client = self.visitor()
        self.asks(url, client)
        assert visitor.recv(10, MSG_PEEK)
        return visitor


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """With connections that stay open after a request."""
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 600)
    with ExitStack() as visits:
        site = Site(visits)
        yield site
    site.pool.shutdown()
    eventually(lambda: sessions() == 0)


def sessions() -> int:
    """Of the visitors, in PostgreSQL."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND query = 'SELECT pg_backend_pid() AS of_a_visitor'"
        )
        return int(cursor.fetchone()[0])


def test_short_answers_replace_no_thread(site: Site) -> None:
    seen = [tuple(site.sees("page")) for _ in range(20)]
    assert 1 <= len(set(seen)) <= NUMBER
    assert sessions() <= NUMBER


@pytest.mark.parametrize("url", ["download", "file"])
def test_who_downloads_slowly_holds_neither_thread_nor_connection(site: Site, url: str) -> None:
    for _ in range(4 * NUMBER):
        site.slow(url)
    assert site.sees("page")
    assert sessions() <= NUMBER


def test_who_never_reads_is_given_no_thread_that_others_need(site: Site) -> None:
    """His short answers fit into what the kernel keeps, and one day no more does."""
    _, client = site.visitor()
    # More than the kernel keeps for anybody (tcp_wmem).
    asked = [site.asks("pages", client) for _ in range(50)]
    assert site.sees("page")
    assert not all(one.done() for one in asked)


def test_a_stream_keeps_the_connection_of_its_view(site: Site) -> None:
    streams = [site.slow("stream") for _ in range(4 * NUMBER)]
    others = {site.sees("page")[0] for _ in range(5)}
    for one in streams:
        view, body = one.recv(1000).split()[:2]
        assert view == body
        assert view.decode() not in others
        # The visitor leaves.
        one.close()
    eventually(lambda: sessions() <= NUMBER)


def test_slow_visitors_let_no_more_views_run_at_once(site: Site) -> None:
    for _ in range(4 * NUMBER):
        site.slow("download")
    go_on.clear()
    running.clear()
    clients = [site.visitor()[1] for _ in range(4 * NUMBER)]
    asked = [site.asks("waits", client) for client in clients]
    eventually(lambda: len(running) == NUMBER)
    # The others wait for a thread.
    assert site.pool._jobs.qsize() == len(asked) - NUMBER
    go_on.set()
    for one in asked:
        one.result(60)
    assert len(set(running)) <= NUMBER


def test_what_fails_is_told_and_the_thread_goes_on(site: Site) -> None:
    for _ in range(3 * NUMBER):
        with pytest.raises(ZeroDivisionError):
            site.pool.submit(lambda: 1 / 0).result(60)
        assert site.sees("failure")
    assert site.sees("page")


def test_another_thread_belongs_to_no_pool(site: Site) -> None:
    """A test's client, for one, or runserver."""
    assert pool_of_this_thread() is None
    assert site.pool.submit(pool_of_this_thread).result(60) is site.pool
