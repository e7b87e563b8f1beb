"""What an orchestrator asks. /livez: is the process alive? /readyz: can it serve?"""

import time
from concurrent.futures import Future, ThreadPoolExecutor

from django.conf import settings
from django.db import DatabaseError, connections
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache

# Seconds. PgBouncer lets a query for a node that is away wait longer than whoever asks would.
PATIENCE = 3.0


@never_cache
def livez(request: HttpRequest) -> HttpResponse:
    """200 while the process answers. It asks no database: restarting the site would not mend one."""
    return HttpResponse("ok\n", content_type="text/plain")


def _probe(alias: str) -> str:
    """`ok`, or what is wrong with this database. In a thread of its own: it opens a connection and closes it."""
    connection = connections[alias]
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_is_in_recovery()")
            (in_recovery,) = cursor.fetchone()
    except DatabaseError as error:
        return f"unreachable: {type(error).__name__}"
    finally:
        connection.close()
    if alias == "default" and in_recovery:
        return "in recovery: writes would fail"
    if alias != "default" and not in_recovery:
        return "not a replica: it takes writes"
    return "ok"


def _answer(probe: "Future[str]", deadline: float) -> str:
    try:
        return probe.result(max(0.0, deadline - time.monotonic()))
    except TimeoutError:
        return f"no answer within {PATIENCE:g} s"


@never_cache
def readyz(request: HttpRequest) -> JsonResponse:
    """200 `ok`; 200 `degraded` while a replica is missing, since the primary can serve alone; 503 without a primary."""
    aliases = ["default", *settings.DBROUTING["REPLICAS"]]
    # All at once, and none is waited for that does not answer in time: its thread ends by itself.
    executor = ThreadPoolExecutor(len(aliases))
    probes = {alias: executor.submit(_probe, alias) for alias in aliases}
    executor.shutdown(wait=False)
    deadline = time.monotonic() + PATIENCE
    found = {alias: _answer(probe, deadline) for alias, probe in probes.items()}
    if found["default"] != "ok":
        return JsonResponse({"status": "unavailable", "databases": found}, status=503)
    degraded = any(state != "ok" for state in found.values())
    return JsonResponse({"status": "degraded" if degraded else "ok", "databases": found})
