"""Prepared statements: that there are some, and that nobody notices when they cannot be used."""

import pytest
from django.db import IntegrityError, ProgrammingError, connection, connections, transaction

from config.backends.postgresql.base import DatabaseWrapper
from config.backends.prepared import _changed
from users.models import User

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
def user(preparing):
    return User.objects.create(username="one", first_name="One")


def prepared() -> list[str]:
    """By psycopg's own cursor, which does not show itself."""
    statements = connection.connection.execute("SELECT statement FROM pg_prepared_statements").fetchall()
    return [statement for (statement,) in statements if "users_user" in statement]


def by_name(statements: list[str]) -> list[str]:
    return [one for one in statements if '"users_user"."username" = $1' in one]


def read() -> str:
    return User.objects.values_list("first_name", flat=True).get(username="one")


def read_until_prepared() -> None:
    assert [read() for _ in range(THRESHOLD + 1)] == ["One"] * (THRESHOLD + 1)
    assert by_name(prepared())


def test_what_is_asked_again_is_prepared(user):
    read_until_prepared()


def test_in_a_transaction_nothing_is(user):
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


def test_a_schema_change_is_not_noticed(user):
    """Without the second try: cached plan must not change result type."""
    read_until_prepared()
    with connections["default"].copy("another").cursor() as another:
        another.execute("ALTER TABLE users_user ALTER COLUMN first_name TYPE varchar(250)")
        try:
            assert [read() for _ in range(3)] == ["One"] * 3
            assert not connection.errors_occurred
            with transaction.atomic():
                assert read() == "One"
            assert by_name(prepared()), "it was not even tried"
            assert len(_changed) == 1
        finally:
            another.execute("ALTER TABLE users_user ALTER COLUMN first_name TYPE varchar(150)")
            another.connection.close()


def test_in_a_transaction_that_django_does_not_know_of_nothing_is(user):
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        for _ in range(THRESHOLD + 2):
            read()
        assert prepared() == []
        cursor.execute("ROLLBACK")


def test_an_error_of_ones_own_is_raised_once_and_leaves_the_connection(user):
    with connection.cursor() as cursor, pytest.raises(ProgrammingError, match="no_such_column"):
        cursor.execute("SELECT no_such_column FROM users_user WHERE id = %s", [1])
    for _ in range(THRESHOLD + 2):
        with pytest.raises(IntegrityError, match="users_user_username_key"):
            User.objects.create(username="one", first_name="Two")
    assert read() == "One"
