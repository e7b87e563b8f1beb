"""Prepared statements: that there are some, and that nobody notices when they cannot be used."""

import pytest
from django.db import IntegrityError, ProgrammingError, connection, connections, transaction

from articles.models import Article
from config.backends.postgresql.base import DatabaseWrapper
from config.backends.prepared import _changed

pytestmark = pytest.mark.django_db(transaction=True)
THRESHOLD = 2


@pytest.fixture
def preparing():
    """In the place of `default`, so that the ORM uses it."""
    default = connections["default"]
    options = {"connect_timeout": 3, "server_side_binding": True, "prepare_threshold": THRESHOLD}
    connections["default"] = DatabaseWrapper(
        {**default.settings_dict, "CONN_MAX_AGE": 600, "OPTIONS": options}, "default"
    )
    yield connections["default"]
    connections["default"].close()
    connections["default"] = default
    _changed.clear()


@pytest.fixture
def article(preparing):
    return Article.objects.create(title="One", slug="one", body="x", author_name="x")


def prepared() -> list[str]:
    """By psycopg's own cursor, which does not show itself."""
    statements = connection.connection.execute("SELECT statement FROM pg_prepared_statements").fetchall()
    return [statement for (statement,) in statements if "articles" in statement]


def by_slug(statements: list[str]) -> list[str]:
    return [one for one in statements if '"articles_article"."slug" = $1' in one]


def read() -> str:
    return Article.objects.values_list("title", flat=True).get(slug="one")


def read_until_prepared() -> None:
    assert [read() for _ in range(THRESHOLD + 1)] == ["One"] * (THRESHOLD + 1)
    assert by_slug(prepared())


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


def test_a_schema_change_is_not_noticed(article):
    """Without the second try: cached plan must not change result type."""
    read_until_prepared()
    with connections["default"].copy("another").cursor() as another:
        another.execute("ALTER TABLE articles_article ALTER COLUMN title TYPE varchar(250)")
        try:
            assert [read() for _ in range(3)] == ["One"] * 3
            assert not connection.errors_occurred
            with transaction.atomic():
                assert read() == "One"
            assert by_slug(prepared()), "it was not even tried"
            assert len(_changed) == 1
        finally:
            another.execute("ALTER TABLE articles_article ALTER COLUMN title TYPE varchar(200)")
            another.connection.close()


def test_in_a_transaction_that_django_does_not_know_of_nothing_is(article):
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        for _ in range(THRESHOLD + 2):
            read()
        assert prepared() == []
        cursor.execute("ROLLBACK")


def test_an_error_of_ones_own_is_raised_once_and_leaves_the_connection(article):
    with connection.cursor() as cursor, pytest.raises(ProgrammingError, match="no_such_column"):
        cursor.execute("SELECT no_such_column FROM articles_article WHERE id = %s", [1])
    for _ in range(THRESHOLD + 2):
        with pytest.raises(IntegrityError, match="article_slug_unique"):
            Article.objects.create(title="Two", slug="one", body="x", author_name="x")
    assert read() == "One"
