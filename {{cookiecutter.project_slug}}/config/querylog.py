"""Which database answered, and how fast: the page itself says so, in its footer, if SHOW_QUERIES is on.

Statements are kept with their placeholders, never with a visitor's values.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.db import DEFAULT_DB_ALIAS
from django.db.backends.base.base import BaseDatabaseWrapper
from django.http import HttpRequest
from django.http.response import HttpResponseBase


@dataclass(frozen=True)
class Query:
    """One statement as it was sent."""

    alias: str
    sql: str
    ms: float

    @property
    def is_primary(self) -> bool:
        return self.alias == DEFAULT_DB_ALIAS


@dataclass
class Share:
    """What one database contributed to a page."""

    alias: str
    is_primary: bool
    count: int = 0
    ms: float = 0.0


@dataclass
class QueryLog:
    """The queries of one request, in the order in which they ended."""

    queries: list[Query] = field(default_factory=list)

    def shares(self) -> list[Share]:
        """Count and time for each database, the busiest first."""
        shares: dict[str, Share] = {}
        for query in self.queries:
            share = shares.setdefault(query.alias, Share(query.alias, query.is_primary))
            share.count += 1
            share.ms += query.ms
        return sorted(shares.values(), key=lambda share: (-share.count, share.alias))


# Connections belong to threads, and under ASGI the view runs in another thread than the middleware. A context
# variable follows the request into that thread, and the log in it is one object on both sides.
_current: ContextVar[QueryLog | None] = ContextVar("query_log", default=None)


@contextmanager
def recording() -> Iterator[QueryLog]:
    """Collect the queries of the enclosed code, in whichever thread it runs them."""
    log = QueryLog()
    token = _current.set(log)
    try:
        yield log
    finally:
        _current.reset(token)


def watch(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    """Put `record` on a new connection. Receives `connection_created`, before the first query is sent.

    Connected once, by `ready` of ops/apps.py: wrapping per request would have to find the view's thread first.
    A wrapper outlives reconnects, so a connection may already have it. Inside the router's, which is the first, and not
    last: that one `execute_wrapper()` would take away, if the connection is made inside it.
    """
    if record not in connection.execute_wrappers:
        connection.execute_wrappers.insert(1, record)


def record(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """Database instrumentation: time a query, a failed one too, if a request is being recorded."""
    log = _current.get()
    if log is None:
        return execute(sql, params, many, context)
    start = perf_counter()
    try:
        return execute(sql, params, many, context)
    finally:
        log.queries.append(Query(context["connection"].alias, str(sql).strip(), (perf_counter() - start) * 1000))


class QueryLogMiddleware:
    """Records each request's queries. Last in `MIDDLEWARE`, it leaves out what other middleware asks for itself."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.is_async:
            return self.__acall__(request)
        with recording():
            answer: HttpResponseBase = self.get_response(request)
        return answer

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        with recording():
            answer: HttpResponseBase = await self.get_response(request)
        return answer


def query_log(request: HttpRequest) -> dict[str, QueryLog | None]:
    """Context processor. Hands out the log itself: the footer, rendered last, finds the whole page's queries in it."""
    return {"query_log": _current.get()}
