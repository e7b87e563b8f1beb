"""What an orchestrator asks. /livez: is the process alive? /readyz: can it serve?"""

import time
from concurrent.futures import ThreadPoolExecutor

from django.db import DatabaseError, connections
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache

from dbrouting.monitor import monitor

# Seconds. PgBouncer lets a query for a node that is away wait longer than whoever asks would.
PATIENCE = 3.0


@never_cache
def livez(request: HttpRequest) -> HttpResponse:
    """200 while the process answers. It asks no database: restarting the site would not mend one."""
    return HttpResponse("ok\n", content_type="text/plain")


def _primary() -> str:
    """`ok`, or what is wrong. In a thread of its own: it opens a connection and closes it."""
    connection = connections["default"]
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_is_in_recovery()")
            (in_recovery,) = cursor.fetchone()
    except DatabaseError as error:
        return f"unreachable: {type(error).__name__}"
    finally:
        connection.close()
    return "in recovery: writes would fail" if in_recovery else "ok"


@never_cache
def readyz(request: HttpRequest) -> JsonResponse:
    """200 `ok`; 200 `degraded` while a replica is not read, since the primary can serve alone; 503 without a primary.

    With it the state of each node as this process sees it, and how often each reason has decided where a read went:
    many reads that a replica should have served show there.
    """
    executor = ThreadPoolExecutor(1)
    probe = executor.submit(_primary)
    # Not waited for if it does not answer in time: the thread ends by itself.
    executor.shutdown(wait=False)
    deadline = time.monotonic() + PATIENCE
    try:
        primary = probe.result(PATIENCE)
    except TimeoutError:
        primary = f"no answer within {PATIENCE:g} s"
    # A process that has read no replica yet begins to ask them now.
    while "unknown" in (routing := monitor.report())["nodes"].values() and time.monotonic() < deadline:
        time.sleep(0.02)
    replicas = {alias: "ok" if state == "up" else state for alias, state in routing["nodes"].items()}
    databases = {**replicas, "default": primary}
    degraded = any(state != "ok" for state in databases.values())
    status = "unavailable" if primary != "ok" else "degraded" if degraded else "ok"
    body = {"status": status, "databases": databases, "decisions": routing["decisions"]}
    return JsonResponse(body, status=503 if status == "unavailable" else 200)
