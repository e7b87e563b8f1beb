"""The site; each answer says how many reads the primary and the replicas served for it.

Counted around the whole application, so that a router's own questions to the primary count as well.
"""

import threading
from collections.abc import Callable, Iterable
from typing import Any

from django.core.wsgi import get_wsgi_application
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

# A gthread worker serves a request in one thread.
counts = threading.local()


def count(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    result = execute(sql, params, many, context)
    if str(sql).lstrip().startswith("SELECT"):
        counts.reads[context["connection"].alias != "default"] += 1
    return result


def watch(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    if count not in connection.execute_wrappers:
        connection.execute_wrappers.append(count)


connection_created.connect(watch)
site = get_wsgi_application()


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    counts.reads = [0, 0]

    def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
        # No page of this site streams: by now all reads are done.
        return start_response(status, [*headers, ("Race-Reads", "{} {}".format(*counts.reads))], *rest)

    return site(environ, start)
