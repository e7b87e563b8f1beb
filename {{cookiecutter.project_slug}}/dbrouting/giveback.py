"""Gives the connections back when the view and all middleware are done, before the answer is sent: a visitor who reads
slowly would hold them until the last byte.

The body of a streaming answer runs later. It gives back what has a method `give_back()`, which knows whether that is
safe.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeGuard

from asgiref.sync import sync_to_async
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase

# Whether the body of an answer runs.
in_body: ContextVar[bool] = ContextVar("in_body", default=False)

# Those that were opened for the running request, under ASGI in the thread that ran its view. Others were there before.
_opened: ContextVar[list[BaseDatabaseWrapper] | None] = ContextVar("opened", default=None)


def _note(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    if (opened := _opened.get()) is not None and connection not in opened:
        opened.append(connection)


connection_created.connect(_note)


@contextmanager
def noted() -> Iterator[list[BaseDatabaseWrapper]]:
    """The connections that are opened inside, in whatever thread."""
    opened: list[BaseDatabaseWrapper] = []
    before = _opened.set(opened)
    try:
        yield opened
    finally:
        _opened.reset(before)


def give_back(opened: list[BaseDatabaseWrapper], *, body_follows: bool) -> None:
    """What Django does when the last byte is sent. In a test's transaction they stay.

    :param opened: what `noted()` has told; those of other threads stay with them
    :param body_follows: code that may still read from a server's cursor, or rely on what is in the session
    """
    for connection in connections.all(initialized_only=True):
        if connection not in opened:
            continue
        if not body_follows:
            if not connection.in_atomic_block:
                connection.close_if_unusable_or_obsolete()
        elif hasattr(connection, "give_back"):
            connection.give_back()


def after(response: HttpResponseBase, opened: list[BaseDatabaseWrapper]) -> None:
    """For a view that ran in this thread."""
    give_back(opened, body_follows=has_body_to_run(response))
    if has_body_to_run(response):
        _wrap(response, opened)


async def aafter(response: HttpResponseBase, opened: list[BaseDatabaseWrapper]) -> None:
    """For one that ran in a thread of its own."""
    await _give_back_in_its_thread(opened, body_follows=has_body_to_run(response))
    if has_body_to_run(response):
        _wrap(response, opened)


async def _give_back_in_its_thread(opened: list[BaseDatabaseWrapper], *, body_follows: bool) -> None:
    """Only if something is open: a view that asked no database has no thread, and gets none."""
    if any(connection.connection is not None for connection in opened):
        await sync_to_async(give_back)(opened, body_follows=body_follows)


def has_body_to_run(response: HttpResponseBase) -> TypeGuard[StreamingHttpResponse]:
    """A file is none: the server sends it by itself (wsgi.file_wrapper)."""
    return isinstance(response, StreamingHttpResponse) and getattr(response, "file_to_stream", None) is None


def _wrap(response: StreamingHttpResponse, opened: list[BaseDatabaseWrapper]) -> None:
    content: Any = response.streaming_content
    # What closes the user's own iterator is with the response since it was made. An asynchronous one has nothing there.
    wrapped: Any = _async_body(content, opened) if response.is_async else _body(content, opened)
    response.streaming_content = wrapped


@contextmanager
def _running_body(opened: list[BaseDatabaseWrapper]) -> Iterator[None]:
    entered, before = in_body.set(True), _opened.set(opened)
    try:
        yield
    finally:
        in_body.reset(entered)
        _opened.reset(before)


def _body(content: Iterator[bytes], opened: list[BaseDatabaseWrapper]) -> Iterator[bytes]:
    while True:
        with _running_body(opened):
            chunk = next(content, None)
        # What a transaction has used, since a single statement gives back by itself.
        give_back(opened, body_follows=True)
        if chunk is None:
            return
        yield chunk


async def _async_body(content: AsyncIterator[bytes], opened: list[BaseDatabaseWrapper]) -> AsyncIterator[bytes]:
    try:
        while True:
            with _running_body(opened):
                chunk = await anext(content, None)
            await _give_back_in_its_thread(opened, body_follows=True)
            if chunk is None:
                return
            yield chunk
    finally:
        await content.aclose()  # type: ignore[attr-defined]  # Django's own generator around the user's
