"""Prints how many microseconds one routing decision takes: the median over requests, each with the reads of a page."""

import statistics
import time

import django
from django.conf import settings

django.setup()

from articles.models import Article, Comment  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.contrib.sessions.models import Session  # noqa: E402
from django.db import router  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.test import RequestFactory  # noqa: E402
from django.utils.module_loading import import_string  # noqa: E402

READS = (Session, User, Article, Comment)
REQUESTS = 3000
PATIENCE = 20.0


def main() -> None:
    took: list[float] = []

    def page(request: HttpRequest) -> HttpResponse:
        begun = time.perf_counter_ns()
        aliases = [router.db_for_read(model) for model in READS]
        elapsed = time.perf_counter_ns() - begun
        # The decision for a replica is what is compared; before ours knows the nodes, it takes a shorter way.
        if "default" not in aliases:
            took.append(elapsed / len(READS) / 1000)
        return HttpResponse()

    # Within the router's own middleware, which is what makes it a request.
    handler = page
    for path in reversed(settings.ROUTER_MIDDLEWARE):
        handler = import_string(path)(handler)
    deadline = time.monotonic() + PATIENCE
    while len(took) < REQUESTS:
        assert time.monotonic() < deadline, f"{len(took)} of {REQUESTS} requests were sent to a replica"
        handler(RequestFactory().get("/"))
    # The first third warms up.
    print(statistics.median(took[REQUESTS // 3 :]))


main()
