"""What a router costs one process where nobody else asks, as JSON: the time of a decision, statements on the primary."""

import json
import statistics
import time
from collections import Counter
from collections.abc import Callable

import django
from django.conf import settings

django.setup()

from articles.models import Article, Comment  # noqa: E402
from django.contrib.auth import get_user_model  # noqa: E402
from django.contrib.sessions.models import Session  # noqa: E402
from django.db import connection, router  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.test import Client, RequestFactory  # noqa: E402
from django.utils.module_loading import import_string  # noqa: E402

User = get_user_model()
READS = (Session, User, Article, Comment)
REQUESTS, PAGES = 3000, 50
PATIENCE = 20.0
# Seconds in which nobody asks.
IDLE = 1.0


def decision() -> float:
    """Microseconds: the median over requests, each with the reads of a page."""
    took: list[float] = []

    def page(request: HttpRequest) -> HttpResponse:
        begun = time.perf_counter_ns()
        aliases = [router.db_for_read(model) for model in READS]
        elapsed = time.perf_counter_ns() - begun
        # Only decisions for a replica are compared. Before the monitor knows the nodes, ours takes a shorter path.
        if "default" not in aliases:
            took.append(elapsed / len(READS) / 1000)
        return HttpResponse()

    # The router's own middleware makes this a request.
    handler = page
    for path in reversed(settings.ROUTER_MIDDLEWARE):
        handler = import_string(path)(handler)
    deadline = time.monotonic() + PATIENCE
    while len(took) < REQUESTS:
        assert time.monotonic() < deadline, f"{len(took)} of {REQUESTS} requests were sent to a replica"
        handler(RequestFactory().get("/"))
    # The first third warms up.
    return statistics.median(took[REQUESTS // 3 :])


def sent() -> Counter[int]:
    """How often the site has sent each statement to the primary, by PostgreSQL's own name for it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT queryid, calls FROM pg_stat_statements WHERE userid = current_user::regrole")
        return Counter(dict(cursor.fetchall()))


def statements() -> dict[str, float]:
    reader, writer = Client(SERVER_NAME="localhost"), Client(SERVER_NAME="localhost")
    for client in (reader, writer):
        client.force_login(User.objects.order_by("pk").first())
    path = Article.objects.published()[0].get_absolute_url()
    steps = {
        "page": lambda: reader.get("/admin/"),
        "write": lambda: writer.post(path, {"author_name": "race", "body": "x"}),
    }

    def each(ask: Callable[[], HttpResponse]) -> float:
        ask()
        before = sent()
        for _ in range(PAGES):
            assert ask().status_code in (200, 302)
        new = sent() - before
        return sum(calls for statement, calls in new.items() if statement not in idle) / PAGES

    for step in steps.values():
        step()
    sent()
    before, begun = sent(), time.monotonic()
    # Meanwhile replicas get what the first requests have made.
    time.sleep(IDLE)
    # A router's own, and the question of `sent`.
    idle = sent() - before
    asked = {"idle_statements": (idle.total() - 1) / (time.monotonic() - begun)}
    return asked | {f"{name}_statements": each(step) for name, step in steps.items()}


print(json.dumps({name: round(value, 3) for name, value in {"microseconds": decision(), **statements()}.items()}))
