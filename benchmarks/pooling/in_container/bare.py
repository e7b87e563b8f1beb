"""The bound: no framework, one open connection for each thread, the statement that Django sends for `read`."""

import threading
from collections.abc import Callable, Iterable
from random import randrange
from typing import Any

import psycopg
from django.conf import settings
from works import ARTICLES, BYTES, slug

SQL = """SELECT "articles_article"."id", "articles_article"."title", "articles_article"."slug",
"articles_article"."author_name", "articles_article"."published_at", "articles_article"."created_at"
FROM "articles_article" WHERE "articles_article"."slug" = %s LIMIT 21"""
_thread = threading.local()


def connection() -> "psycopg.Connection[Any]":
    if not hasattr(_thread, "connection"):
        of = settings.DATABASES["default"]
        _thread.connection = psycopg.connect(
            dbname=of["NAME"], user=of["USER"], password=of["PASSWORD"], host=of["HOST"], port=of["PORT"],
            autocommit=True, prepare_threshold=None, **of["OPTIONS"],
        )  # fmt: skip
    return _thread.connection


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    # As Django's: bound on the client, and not prepared.
    with psycopg.ClientCursor(connection()) as cursor:
        row = cursor.execute(SQL, [slug(randrange(ARTICLES))]).fetchone()
    assert row
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(BYTES))])
    return [row[1].ljust(BYTES)[:BYTES].encode()]
