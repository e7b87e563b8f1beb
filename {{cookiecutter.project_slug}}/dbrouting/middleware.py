"""Gives each request its consistency context. Outermost, so that it covers what other middleware reads and writes."""

from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from dbrouting.context import consistency_context

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


class ConsistencyMiddleware:
    sync_capable = True
    async_capable = True

    def __init__(
        self,
        get_response: Callable[[HttpRequest], HttpResponseBase] | Callable[[HttpRequest], Awaitable[HttpResponseBase]],
    ) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.is_async:
            return self.__acall__(request)
        with consistency_context(safe=request.method in SAFE_METHODS):
            return self.get_response(request)

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        with consistency_context(safe=request.method in SAFE_METHODS):
            response = self.get_response(request)
            assert isinstance(response, Awaitable)
            return await response
