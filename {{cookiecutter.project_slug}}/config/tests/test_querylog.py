"""The page itself says which database answered."""

import asyncio
import re

import pytest
from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async
from django.contrib.auth.models import Group, Permission
from django.db import connection, connections
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.test import AsyncClient
from django.test.utils import CaptureQueriesContext
from django.urls import path

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


def one_query(request: HttpRequest) -> HttpResponse:
    Group.objects.count()
    return HttpResponse(render_to_string("_query_log.html", request=request))


def two_queries(request: HttpRequest, name: str) -> HttpResponse:
    list(Group.objects.get(name=name).permissions.all())
    return HttpResponse(render_to_string("_query_log.html", request=request))


urlpatterns = [path("", one_query), path("<name>/", two_queries)]


def group(name: str = "g") -> str:
    """:returns: the URL of its page"""
    Group.objects.create(name=name).permissions.set(Permission.objects.all()[:2])
    return f"/{name}/"


def test_it_agrees_with_django(client):
    for url, number in ((group(), 2), ("/", 1)):
        with CaptureQueriesContext(connection) as captured:
            log = client.get(url).context["query_log"]
        assert [query.sql for query in log.queries if "auth_" in query.sql]
        assert len(log.queries) == len(captured) == number
        assert {query.alias for query in log.queries} == {"default"}
        assert all(query.ms > 0 for query in log.queries)


def test_it_is_on_the_page(client):
    response = client.get(group())
    (share,) = response.context["query_log"].shares()
    assert f"<span>{share.count} queries</span>" in response.text
    assert '<span class="database primary">default</span>' in response.text


def test_it_keeps_no_values(client):
    log = client.get(group("a-secret")).context["query_log"]
    assert "a-secret" not in "".join(query.sql for query in log.queries)


def test_it_ends_with_its_request(client):
    log = client.get(group()).context["query_log"]
    before = len(log.queries)
    Group.objects.count()
    assert len(log.queries) == before


def test_under_asgi():
    response = async_to_sync(AsyncClient().get)(group())
    assert len(response.context["query_log"].queries) == 2


@pytest.mark.django_db(transaction=True)
def test_under_asgi_it_keeps_concurrent_requests_apart(settings):
    """As ASGIHandler does, give each request a thread of its own, hence connections that nobody has seen before."""
    settings.DBROUTING = {**settings.DBROUTING, "REPLICAS": []}

    async def visit(url):
        async with ThreadSensitiveContext():
            response = await AsyncClient().get(url)
            await sync_to_async(connections.close_all)()
            # Read from the page: with requests side by side, the test client mixes up their contexts.
            return len(re.findall("<code>[^<]*auth_", response.text))

    async def visit_all(urls):
        return await asyncio.gather(*(visit(url) for url in urls))

    assert asyncio.run(visit_all([group(), "/"] * 4)) == [2, 1] * 4
