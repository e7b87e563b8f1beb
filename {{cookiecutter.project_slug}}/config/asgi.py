import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from django.core.asgi import get_asgi_application
from environ import Env

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


os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
application = at_most(Env().int("WEB_CONNECTIONS", 100), get_asgi_application())
