import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from django.conf import settings
from django.core.asgi import get_asgi_application
from environ import Env

from config.proxies import visitor

# Of scope, receive, send.
App = Callable[[Any, Any, Any], Awaitable[None]]


def at_most(number: int, app: App) -> App:
    """Requests at once; more wait for their turn. Each may open a connection to each database, and gunicorn's
    `worker_connections` does not count for its asgi worker.
    """
    turns = asyncio.Semaphore(number)

    async def bounded(scope: Any, receive: Any, send: Any) -> None:
        async with turns:
            await app(scope, receive, send)

    return bounded


def told_who_visits(app: App) -> App:
    """Where a trusted proxy tells."""

    async def told(scope: Any, receive: Any, send: Any) -> None:
        peer, port = scope.get("client") or ("", 0)
        values = [value.decode("latin-1") for name, value in scope.get("headers", ()) if name == b"x-forwarded-for"]
        if values:
            scope = {**scope, "client": (visitor(peer, ",".join(values), settings.TRUSTED_PROXIES), port)}
        await app(scope, receive, send)

    return told


os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
application = at_most(Env().int("WEB_CONNECTIONS", 100), told_who_visits(get_asgi_application()))
