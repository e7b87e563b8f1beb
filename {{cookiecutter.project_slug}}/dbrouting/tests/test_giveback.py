"""A connection is held while something runs on it, and no longer."""

import asyncio
import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from contextvars import copy_context
from itertools import chain
from pathlib import Path

import django
import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Group
from django.db import connection, connections, transaction
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client
from django.urls import path

from config.backends.postgresql.base import DatabaseWrapper
from config.backends.replica.base import DatabaseWrapper as ReplicaWrapper
from dbrouting.giveback import after

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls(__name__)]

ROWS = 2500  # more than Django fetches at once
seen: list[object] = []
another_thread = ThreadPoolExecutor(1)


def held() -> bool:
    return connections["default"].connection is not None


def read() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchall() == [(1,)]


def page(request):
    read()
    return HttpResponse("page")


def events(request):
    def body():
        for number in range(3):
            read()
            seen.append(held())
            yield f"{number}\n"

    read()
    return StreamingHttpResponse(body())


def in_a_transaction(request):
    def body():
        with transaction.atomic():
            Group.objects.create(name="x")
            yield "in it\n"
            seen.append(Group.objects.count())
        yield "after it\n"
        seen.append(held())

    return StreamingHttpResponse(body())


def export(request):
    """One cursor, rows in several fetches, other statements between them; the same cursor executes again."""

    def body():
        with connection.cursor() as cursor:
            cursor.execute("SELECT generate_series(1, %s)", [ROWS])
            while chunk := cursor.fetchmany(100):
                yield "".join(f"{number}\n" for (number,) in chunk)
                read()
            cursor.execute("SELECT 'end'")
            yield cursor.fetchone()[0]

    return StreamingHttpResponse(body())


def procedure(request):
    def body():
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            yield "before\n"
            cursor.callproc("pg_backend_pid")
            seen.append(connection.connection is not None and cursor.cursor.connection is connection.connection)
            yield "after\n"

    return StreamingHttpResponse(body())


def in_another_thread(request):
    """As asyncio.to_thread() and sync_to_async(thread_sensitive=False) do it: with the request's context."""
    return HttpResponse(str(another_thread.submit(copy_context().run, Group.objects.count).result()))


def by_iterator(request):
    groups = Group.objects.order_by("id").values_list("id", flat=True).iterator(chunk_size=10)
    first = next(groups)
    return StreamingHttpResponse(f"{group}\n" for group in chain([first], groups))


def fails(request):
    def body():
        yield "one\n"
        read()
        raise ZeroDivisionError

    return StreamingHttpResponse(body())


def closed(request):
    def body():
        try:
            while True:
                yield "more\n"
        finally:
            seen.append("closed")

    return StreamingHttpResponse(body())


async def async_page(request):
    await Group.objects.acount()
    return HttpResponse("page")


async def async_events(request):
    async def body():
        try:
            for number in range(3):
                await Group.objects.acount()
                yield f"{number}\n"
        finally:
            seen.append("closed")

    await Group.objects.acount()
    return StreamingHttpResponse(body())


urlpatterns = [
    path("page", page),
    path("events", events),
    path("in-a-transaction", in_a_transaction),
    path("export", export),
    path("procedure", procedure),
    path("in-another-thread", in_another_thread),
    path("by-iterator", by_iterator),
    path("fails", fails),
    path("closed", closed),
    path("async-page", async_page),
    path("async-events", async_events),
]


@pytest.fixture(params=["pool", "per-request, session", "pool, session"])
def wrapper(request, monkeypatch):
    """In the place of `default`: a pool of one connection, or one that is opened and closed."""
    seen.clear()
    default = connections["default"]
    session = "session" in request.param
    options = {"connect_timeout": 3}
    if "pool" in request.param:
        options["pool"] = {"min_size": 1, "max_size": 1, "timeout": 5}
    settings = {"CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": True, "DISABLE_SERVER_SIDE_CURSORS": not session}
    # As the alias of a pool, "default" is not free in a project that has one.
    monkeypatch.setattr(DatabaseWrapper, "_connection_pools", {})
    connections["default"] = DatabaseWrapper({**default.settings_dict, **settings, "OPTIONS": options}, "default")
    yield connections["default"]
    connections["default"].close()
    connections["default"].close_pool()
    connections["default"] = default


def text(response) -> str:
    return b"".join(response.streaming_content).decode()


def test_a_page_holds_none_when_it_is_sent(wrapper):
    assert Client().get("/page").content == b"page"
    assert not held()


def test_a_transaction_around_the_request_keeps_it(wrapper):
    with transaction.atomic():
        Client().get("/page")
        assert held()


def test_a_body_holds_none_when_it_sends_or_sleeps(wrapper):
    """But in session mode, where nobody can tell what it has in its session."""
    response = Client().get("/events")
    assert held() == wrapper.owns_session
    chunks = iter(response.streaming_content)
    assert seen == []
    for number in range(3):
        assert next(chunks) == f"{number}\n".encode()
        assert held() == wrapper.owns_session
    assert list(chunks) == []
    assert seen == [wrapper.owns_session] * 3


def test_a_transaction_in_a_body_stays_whole(wrapper):
    assert text(Client().get("/in-a-transaction")) == "in it\nafter it\n"
    assert seen == [1, wrapper.owns_session]
    assert Group.objects.count() == 1


def test_rows_that_are_here_are_fetched_after_the_connection_went_back(wrapper):
    wanted = "".join(f"{number}\n" for number in range(1, ROWS + 1)) + "end"
    assert text(Client().get("/export")) == wanted


def test_a_servers_cursor_keeps_it(wrapper):
    Group.objects.bulk_create(Group(name=str(n)) for n in range(50))
    # A request finds none open, where connections go back.
    connections["default"].close()
    response = Client().get("/by-iterator")
    assert held() == wrapper.owns_session
    assert len(text(response).split()) == 50


def test_what_a_body_raises_passes_through(wrapper):
    chunks = iter(Client().get("/fails").streaming_content)
    assert next(chunks) == b"one\n"
    with pytest.raises(ZeroDivisionError):
        next(chunks)


def test_closing_the_answer_closes_the_body(wrapper):
    response = Client().get("/closed")
    assert next(iter(response.streaming_content)) == b"more\n"
    response.close()
    assert seen == ["closed"]


def test_a_file_is_left_to_the_server():
    """wsgi.file_wrapper. (Django's test client would wrap it.)"""
    response = FileResponse(Path(__file__).open("rb"))  # noqa: SIM115  # the response closes it
    after(response, [])
    assert response.file_to_stream is not None
    response.close()


def test_what_is_in_the_session_stays_there(wrapper):
    """LISTEN, for one: the body reads from a connection that is its own."""
    connections["default"].close()
    with connection.cursor() as cursor:
        cursor.execute("LISTEN something")
    assert wrapper.session_used == wrapper.owns_session
    wrapper.give_back()
    assert held() == wrapper.owns_session


def test_a_procedure_that_a_body_calls_has_a_connection_of_its_own(wrapper):
    assert text(Client().get("/procedure")) == "before\nafter\n"
    assert seen == [True]


def test_a_connection_of_another_thread_is_left_to_it(wrapper):
    """Django lets nobody else close it."""
    try:
        assert Client().get("/in-another-thread").content == b"0"
    finally:
        another_thread.submit(connections.close_all).result()


def test_an_asynchronous_page_holds_none_either(wrapper):
    assert async_to_sync(AsyncClient().get)("/async-page").content == b"page"
    assert not held()


def test_a_transaction_of_which_nothing_was_sent_keeps_it(wrapper):
    with transaction.atomic():
        wrapper.give_back()
        assert held()


def test_an_asynchronous_body_holds_none_either(wrapper):
    async def visit() -> None:
        response = await AsyncClient().get("/async-events")
        chunks = aiter(response.streaming_content)
        async for _ in chunks:
            # Not by the alias: `connections` of this thread has another.
            assert (wrapper.connection is not None) == wrapper.owns_session

    async_to_sync(visit)()
    assert seen == ["closed"]


def test_leaving_it_closes_the_body(wrapper):
    async def visit() -> None:
        response = await AsyncClient().get("/async-events")
        # As Django's handler does. What is below is closed when nobody refers to it.
        async with aclosing(aiter(response)) as chunks:
            await anext(chunks)
        del response, chunks
        async with asyncio.timeout(10):
            while not seen:
                gc.collect()
                await asyncio.sleep(0)

    async_to_sync(visit)()
    assert seen == ["closed"]


def test_a_users_own_check_stays():
    if django.VERSION < (6, 1):
        pytest.skip("Django takes none")
    checks = []
    settings = {"OPTIONS": {"pool": {"check": checks.append}}, "CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": True}
    own = DatabaseWrapper({**connections["default"].settings_dict, **settings}, "own")
    assert own.pool._check == checks.append
    own.close_pool()


@pytest.fixture
def garbage() -> Iterator[list[object]]:
    """What only the collector ends. Django's wrappers free themselves: their parts let go of them."""
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    yield gc.garbage
    gc.set_debug(0)
    gc.garbage.clear()


@pytest.mark.parametrize("wrapper_class", [DatabaseWrapper, ReplicaWrapper])
def test_a_wrapper_is_no_cycle(garbage, wrapper_class):
    if django.VERSION < (6, 1):
        pytest.skip("Django's own wrapper is one")
    settings = connections["default"].settings_dict
    made = wrapper_class({**settings, "OPTIONS": {"prepare_threshold": 5}}, "made")
    made.close()
    made = None
    gc.collect()
    assert garbage == []
