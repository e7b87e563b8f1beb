"""Prepared statements: that there are some, and that nobody notices when they cannot be used."""

from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from django.db import IntegrityError, ProgrammingError, connection, connections, transaction
from django.db.backends.postgresql.base import Cursor
from django.db.models import Min, Value
from django.db.models.functions import Greatest, Least
from django.test.utils import CaptureQueriesContext

from articles.models import Article
from config.backends.postgresql.base import DatabaseWrapper
from config.backends.prepared import PreparingCursor, _refused

pytestmark = pytest.mark.django_db(transaction=True)
THRESHOLD = 2


@pytest.fixture
def preparing():
    """In the place of `default`, so that the ORM uses it."""
    default = connections["default"]
    options = {"connect_timeout": 3, "prepare_threshold": THRESHOLD}
    connections["default"] = DatabaseWrapper(
        {**default.settings_dict, "CONN_MAX_AGE": 600, "OPTIONS": options}, "default"
    )
    yield connections["default"]
    connections["default"].close()
    connections["default"] = default
    _refused.clear()


@pytest.fixture
def article(preparing):
    return Article.objects.create(title="One", slug="one", body="x", author_name="x")


def prepared() -> list[str]:
    """By psycopg's own cursor, which does not show itself."""
    statements = connection.connection.execute("SELECT statement FROM pg_prepared_statements").fetchall()
    return [statement for (statement,) in statements if "articles" in statement]


def read() -> str:
    return Article.objects.values_list("title", flat=True).get(slug="one")


def read_until_prepared() -> None:
    assert [read() for _ in range(THRESHOLD + 1)] == ["One"] * (THRESHOLD + 1)
    assert [one for one in prepared() if '"articles_article"."slug" = $1' in one]


def test_what_is_asked_again_is_prepared(article):
    read_until_prepared()


def test_in_a_transaction_nothing_is(article):
    with transaction.atomic():
        for _ in range(THRESHOLD + 2):
            read()
        assert prepared() == []
    transaction.set_autocommit(False)
    for _ in range(THRESHOLD + 2):
        read()
    assert prepared() == []
    transaction.rollback()
    transaction.set_autocommit(True)


def test_a_long_list_is_not(article):
    slugs = ["one"] * 101
    with connection.cursor() as cursor:
        for _ in range(THRESHOLD + 2):
            cursor.execute(f"SELECT 1 FROM articles_article WHERE slug IN ({', '.join(['%s'] * 101)})", slugs)
    assert prepared() == []


def test_what_is_shown_is_shown_with_its_values(article):
    with CaptureQueriesContext(connection) as shown:
        for _ in range(THRESHOLD + 2):
            read()
    assert all("'one'" in query["sql"] for query in shown.captured_queries)


def test_a_schema_change_is_not_noticed(article):
    """Without the second try: cached plan must not change result type."""
    read_until_prepared()
    with connections["default"].copy("another").cursor() as another:
        another.execute("ALTER TABLE articles_article ALTER COLUMN title TYPE varchar(250)")
        try:
            assert [read() for _ in range(3)] == ["One"] * 3
            with transaction.atomic():
                assert read() == "One"
            assert [one for one in prepared() if '"articles_article"."slug" = $1' in one], "it was not even tried"
        finally:
            another.execute("ALTER TABLE articles_article ALTER COLUMN title TYPE varchar(200)")
            another.connection.close()


def test_what_cannot_be_bound_on_the_server_is_bound_here(article):
    """Django's ticket 34255: PostgreSQL takes the parameter in SELECT and that in GROUP BY for two."""
    by_number = Article.objects.annotate(number=Greatest("id", Value(0))).values("number")
    least = by_number.annotate(first=Min("id"), least=Least("first", "number")).values_list("least", flat=True)
    for _ in range(THRESHOLD + 2):
        assert list(least) == [article.pk]


def test_what_was_refused_is_remembered(article):
    """Each try costs a round trip and a line in the server's log."""
    asked = []

    def note(execute, sql, params, many, context):
        asked.append(type(context["cursor"].cursor))
        return execute(sql, params, many, context)

    unknown_type = Article.objects.extra(select={"kind": "pg_typeof(%s)::text"}, select_params=["x"])
    with connection.execute_wrapper(note):
        for _ in range(2):
            assert unknown_type.get().kind == "unknown"
    assert asked == [PreparingCursor, Cursor, Cursor]
    assert not connection.errors_occurred


def test_what_is_computed_is_the_same(article):
    """1.1 is a numeric on the client, and a float8 on the server."""
    tenth = Article.objects.extra(select={"kind": "pg_typeof(%s)::text"}, select_params=[1.1])
    assert {tenth.get().kind for _ in range(THRESHOLD + 2)} == {"numeric"}


def test_the_next_statement_of_a_cursor_is_sent_its_own_way(article):
    with connection.cursor() as cursor:
        cursor.execute("SELECT title FROM articles_article WHERE slug = %s", ["one"])
        assert cursor.fetchall() == [("One",)]
        # Cannot be bound on the server.
        cursor.execute("SET LOCAL search_path TO %s", ["public"])
        with transaction.atomic():
            for _ in range(THRESHOLD + 2):
                cursor.execute("SELECT 1 FROM articles_article WHERE slug = %s", ["one"])
    assert prepared() == []


def test_in_a_transaction_that_django_does_not_know_of_nothing_is(article):
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        for _ in range(THRESHOLD + 2):
            read()
        cursor.execute("ROLLBACK")
    assert prepared() == []


def test_nothing_is_kept_of_what_is_not_prepared(article):
    for number in range(THRESHOLD + 2):
        with transaction.atomic():
            Article.objects.create(title="Long" * 50, slug=f"long-{number}", body="x", author_name="x")
    assert not [query for query, _ in connection.connection._prepared._counts if b"Long" in query]


def test_an_error_of_ones_own_is_raised_once_and_leaves_the_connection(article):
    with connection.cursor() as cursor, pytest.raises(ProgrammingError, match="no_such_column"):
        cursor.execute("SELECT no_such_column FROM articles_article WHERE id = %s", [1])
    for _ in range(THRESHOLD + 2):
        with pytest.raises(IntegrityError, match="article_slug_unique"):
            Article.objects.create(title="Two", slug="one", body="x", author_name="x")
    assert read() == "One"


def test_times_have_the_connections_zone(article):
    connection.timezone = ZoneInfo("Asia/Tokyo")
    for _ in range(THRESHOLD + 2):
        assert Article.objects.get(slug="one").created_at.utcoffset() == timedelta(hours=9)
