"""What an orchestrator asks. /livez: is the process alive? /readyz: can it serve?"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache

from dbrouting.conf import config
from dbrouting.monitor import connect, monitor

# Seconds. PgBouncer lets a query for a node that is away wait longer than whoever asks would.
PATIENCE = 3.0
# How long an answer is told again.
FRESH = 1.0


@never_cache
def livez(request: HttpRequest) -> HttpResponse:
    """200 while the process answers. It asks no database: restarting the site would not mend one."""
    return HttpResponse("ok\n", content_type="text/plain")


def _primary() -> str:
    """`ok`, or what is wrong. Over a connection of its own: a pool that has none to give may be a moment's crowd."""
    try:
        with connect(config().PRIMARY) as connection:
            row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
    except psycopg.Error as error:
        return f"unreachable: {type(error).__name__}"
    return "in recovery: writes would fail" if row == (True,) else "ok"


class Probe:
    """Asks the primary, at most once at a time and once in FRESH seconds: a stranger who asks /readyz without end opens
    no more connections than that.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answer = ""
        self._until = float("-inf")

    def answer(self) -> str:
        with self._lock:
            if time.monotonic() > self._until:
                executor = ThreadPoolExecutor(1)
                asked = executor.submit(_primary)
                # Not waited for if it does not answer in time: the thread ends by itself.
                executor.shutdown(wait=False)
                try:
                    self._answer = asked.result(PATIENCE)
                except TimeoutError:
                    self._answer = f"no answer within {PATIENCE:g} s"
                self._until = time.monotonic() + FRESH
            return self._answer


_probe = Probe()


@never_cache
def readyz(request: HttpRequest) -> JsonResponse:
    """200 `ok`; 200 `degraded` while a replica is not read, since the primary can serve alone; 503 without a primary.

    With it the state of each node as this process sees it, and how often each reason has decided where a read went:
    many reads that a replica should have served show there.
    """
    deadline = time.monotonic() + PATIENCE
    primary = _probe.answer()
    # A process that has read no replica yet begins to ask them now.
    while "unknown" in (routing := monitor.report())["nodes"].values() and time.monotonic() < deadline:
        time.sleep(0.02)
    replicas = {alias: "ok" if state == "up" else state for alias, state in routing["nodes"].items()}
    databases = {**replicas, "default": primary}
    degraded = any(state != "ok" for state in databases.values())
    status = "unavailable" if primary != "ok" else "degraded" if degraded else "ok"
    body = {"status": status, "databases": databases, "decisions": routing["decisions"]}
    return JsonResponse(body, status=503 if status == "unavailable" else 200)
