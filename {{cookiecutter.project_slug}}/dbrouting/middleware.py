"""Gives each request its consistency context, and the visitor the token for the next one.

Outermost, so that it covers what other middleware reads and writes, the session for one. Hence it also gives the
connections back, when all of that is done.
"""

from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers

from dbrouting.conf import config
from dbrouting.context import ConsistencyContext, consistency_context
from dbrouting.giveback import aafter, after, noted
from dbrouting.tokens import SessionToken, parse

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
# For clients without cookies: in each answer that has one, to be sent with the next request (several: with commas).
HEADER = "Consistency-Token"
# Not by request.headers, which makes a dictionary of all headers, for each request, to look up this one.
META = "HTTP_CONSISTENCY_TOKEN"


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
        brought, safe = _Brought(request), request.method in SAFE_METHODS
        with noted() as opened, consistency_context(safe=safe, tokens=brought.tokens) as context:
            response = self.get_response(request)
            assert isinstance(response, HttpResponseBase)
            if brought.needs_another(context):
                brought.replace(context.token(), response)
        after(response, opened)
        return response

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        brought, safe = _Brought(request), request.method in SAFE_METHODS
        with noted() as opened, consistency_context(safe=safe, tokens=brought.tokens) as context:
            response = self.get_response(request)
            assert isinstance(response, Awaitable)
            response = await response
            if brought.needs_another(context):
                # In the thread that ran the view, since it may ask the primary.
                brought.replace(await sync_to_async(context.token)(), response)
        await aafter(response, opened)
        return response


class _Brought:
    """The tokens that came with a request, and what becomes of them."""

    def __init__(self, request: HttpRequest) -> None:
        self.request = request
        prefix, life = f"{config().COOKIE}-", config().TOKEN_LIFE
        cookies = {name: parse(value) for name, value in request.COOKIES.items() if name.startswith(prefix)}
        # Another site on the same host may have the same names.
        self.cookies = [name for name, token in cookies.items() if token is not None]
        header = (parse(value.strip()) for value in request.META.get(META, "").split(",") if value.strip())
        brought = [token for token in (*cookies.values(), *header) if token is not None]
        self.tokens = tuple(token for token in brought if token.age <= life)
        self.young = all(token.age <= life / 2 for token in brought)

    def needs_another(self, context: ConsistencyContext) -> bool:
        """Whoever has written needs one, and whoever is known, by a token or a session, is never shown less than
        before. An anonymous reader gets none: the answer stays the same for all.
        """
        if not config().REPLICAS:
            return False
        if context.wrote or (context.touched and not context.safe):
            return True
        if not self.tokens and settings.SESSION_COOKIE_NAME not in self.request.COOKIES:
            return False
        if context.touched:
            return True
        if context.proof is None:
            return False
        pin = (context.proof.alias, context.proof.incarnation)
        return not (len(self.tokens) == 1 and self.tokens[0].pin == pin and self.young)

    def replace(self, token: SessionToken | None, response: HttpResponseBase) -> None:
        """The new token demands all that the brought ones did, so those go; one that came meanwhile, by another answer,
        has a name of its own and stays.
        """
        if token is None:
            return
        signed, name = token.sign(), token.cookie_name()
        for old in self.cookies:
            if old != name:
                response.delete_cookie(
                    old,
                    path=settings.SESSION_COOKIE_PATH,
                    domain=settings.SESSION_COOKIE_DOMAIN,
                    samesite=settings.SESSION_COOKIE_SAMESITE,
                )
        response.set_cookie(
            name,
            signed,
            max_age=int(config().TOKEN_LIFE),
            path=settings.SESSION_COOKIE_PATH,
            domain=settings.SESSION_COOKIE_DOMAIN,
            secure=settings.SESSION_COOKIE_SECURE,
            httponly=True,
            samesite=settings.SESSION_COOKIE_SAMESITE,
        )
        response.headers[HEADER] = signed
        patch_vary_headers(response, ("Cookie",))
