"""In the place of config/urls.py: the site, and pages that take their visitors long."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

from articles.models import Article
from config.health import livez, readyz
from django.contrib import admin
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import include, path

# Far more than the kernel keeps for a visitor who reads nothing. One for all of them: the container's memory is limited.
BODY = b"x" * 35_000_000


def download(request: HttpRequest) -> HttpResponse:
    return HttpResponse(BODY if Article.objects.exists() else b"")


def events(request: HttpRequest) -> StreamingHttpResponse:
    def body() -> Iterator[str]:
        while True:
            yield f"{Article.objects.count()}\n"
            time.sleep(0.5)

    return StreamingHttpResponse(body())


async def async_events(request: HttpRequest) -> StreamingHttpResponse:
    async def body() -> AsyncIterator[str]:
        while True:
            yield f"{await Article.objects.acount()}\n"
            await asyncio.sleep(0.5)

    return StreamingHttpResponse(body())


urlpatterns = [
    path("admin/", admin.site.urls),
    path("livez", livez),
    path("readyz", readyz),
    path("download", download),
    path("events", events),
    path("async-events", async_events),
    path("", include("articles.urls")),
]
