"""Settings and URLs of a site whose log tests read."""

from typing import Any

from django.db.backends.postgresql.base import DatabaseWrapper
from django.http import HttpResponse, JsonResponse
from django.urls import path

from config.settings import *  # noqa: F403
from config.settings import DATABASES

ROOT_URLCONF = "config.tests.logged_site"
# A page tells how it was asked for.
SECURE_SSL_REDIRECT = False
ELSEWHERE = {"HOST": "127.0.0.1", "PORT": 1, "CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": False}


def elsewhere(**options: Any) -> DatabaseWrapper:
    """A database where nobody listens."""
    return DatabaseWrapper({**DATABASES["default"], **ELSEWHERE, "TIME_ZONE": None, "OPTIONS": options}, "elsewhere")


def probe(request):
    return HttpResponse(status=int(request.GET.get("status", 200)))


def who(request):
    return JsonResponse([request.META["REMOTE_ADDR"], request.scheme, request.path], safe=False)


def away(request):
    try:
        raise AttributeError("what Django's lazy objects do before they ask")
    except AttributeError:
        elsewhere().ensure_connection()


urlpatterns = [path("livez", probe), path("readyz", probe), path("who", who), path("away", away)]
