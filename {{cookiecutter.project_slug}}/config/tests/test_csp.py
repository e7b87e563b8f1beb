import re

import django
import pytest
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.test import Client
from django.urls import path

pytestmark = pytest.mark.skipif(django.VERSION < (6, 0), reason="Django 5.2 has no content security policy")


def page(request: HttpRequest) -> HttpResponse:
    template = engines["django"].from_string(request.GET["template"])
    return HttpResponse(template.render({}, request))


urlpatterns = [path("page", page)]


@pytest.mark.urls(__name__)
def test_a_script_in_a_template_runs_with_the_nonce_of_its_page(client: Client):
    # Put together: cookiecutter would take it for its own.
    variable = f"{'{' * 2} csp_nonce {'}' * 2}"
    written = f'<script nonce="{variable}"></script>'
    nonces = set()
    for _ in range(2):
        answer = client.get("/page", {"template": written})
        (nonce,) = re.findall('nonce="(.{16,})"', answer.text)
        policy = answer.headers["Content-Security-Policy"]
        for directive in ("script-src", "style-src"):
            assert f"{directive} 'self' 'nonce-{nonce}';" in f"{policy};"
        nonces.add(nonce)
    assert len(nonces) == 2


@pytest.mark.urls(__name__)
def test_without_a_nonce_nothing_in_a_page_runs(client: Client):
    policy = client.get("/page", {"template": "<script></script>"}).headers["Content-Security-Policy"]
    assert "script-src 'self';" in policy and "style-src 'self';" in policy and "unsafe" not in policy
