"""The health check that costs no round trip: what it sends, what it finds, when it asks after all."""

from collections.abc import Iterator

import psycopg
import pytest
from django.db import connections
from psycopg_pool import ConnectionPool

from config.backends.geventpool.base import CheckedPool
from config.backends.postgresql.base import DatabaseWrapper
from config.liveness import check, is_quiet

on_the_primary = pytest.mark.django_db(transaction=True)


@pytest.fixture
def watcher(parameters) -> Iterator[psycopg.Connection]:
    with psycopg.connect(**parameters) as connection:
        yield connection


@pytest.fixture
def checked(monkeypatch):
    """The primary's wrapper, with a connection that is checked when the next request begins."""
    wrapper = connections["default"]
    if wrapper.settings_dict["ENGINE"] != "config.backends.postgresql":
        pytest.skip("a pool checks its own connections")
    monkeypatch.setitem(wrapper.settings_dict, "CONN_HEALTH_CHECKS", True)
    monkeypatch.setitem(wrapper.settings_dict, "CONN_MAX_AGE", 600)
    wrapper.close()
    wrapper.ensure_connection()
    yield wrapper
    wrapper.close()


def last_statement(watcher: psycopg.Connection, pid: int) -> str | None:
    row = watcher.execute("SELECT query FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone()
    return row and row[0]


def pid(wrapper) -> int:
    return wrapper.connection.info.backend_pid


def next_request(wrapper) -> None:
    wrapper.close_if_unusable_or_obsolete()
    wrapper.close_if_health_check_failed()


def kill(watcher: psycopg.Connection, victim: int, eventually) -> None:
    watcher.execute("SELECT pg_terminate_backend(%s)", [victim])
    eventually(lambda: last_statement(watcher, victim) is None)


@on_the_primary
def test_a_quiet_connection_is_kept_and_sent_nothing(checked, watcher):
    before = pid(checked)
    checked.connection.execute("SELECT 'the last'")
    next_request(checked)
    assert checked.health_check_done
    assert pid(checked) == before
    assert last_statement(watcher, before) == "SELECT 'the last'"


@on_the_primary
def test_a_dead_connection_is_replaced(checked, watcher, eventually):
    before = pid(checked)
    kill(watcher, before, eventually)
    next_request(checked)
    assert checked.connection is None
    with checked.cursor() as cursor:
        cursor.execute("SELECT 1")
    assert pid(checked) != before


@on_the_primary
def test_who_has_something_to_say_is_asked(checked, watcher, eventually):
    before = pid(checked)
    checked.connection.execute("LISTEN liveness")
    watcher.execute("NOTIFY liveness")
    eventually(lambda: not is_quiet(checked.connection))
    next_request(checked)
    assert pid(checked) == before
    assert last_statement(watcher, before) == "SELECT 1"


@on_the_primary
def test_after_an_error_the_server_is_asked(checked, watcher):
    before = pid(checked)
    checked.errors_occurred = True
    assert is_quiet(checked.connection)
    next_request(checked)
    assert last_statement(watcher, before) == "SELECT 1"


@on_the_primary
def test_a_connection_left_in_a_failed_transaction_is_replaced(checked):
    """Its socket is quiet; the query finds out."""
    checked.connection.autocommit = False
    with pytest.raises(psycopg.Error):
        checked.connection.execute("SELECT no_such_column")
    assert not is_quiet(checked.connection)
    checked.health_check_done = False
    checked.close_if_health_check_failed()
    assert checked.connection is None


@on_the_primary
def test_a_connection_that_was_closed_here_is_found(checked):
    checked.connection.close()
    next_request(checked)
    assert checked.connection is None


@on_the_primary
def test_psycopgs_pool_gives_no_dead_connection(parameters, watcher, eventually):
    with ConnectionPool(kwargs=parameters, min_size=1, max_size=1, check=check) as pool:
        with pool.connection() as connection:
            before = connection.info.backend_pid
            connection.execute("SELECT 'the last'")
        with pool.connection() as connection:
            assert connection.info.backend_pid == before
            assert last_statement(watcher, before) == "SELECT 'the last'"
        kill(watcher, before, eventually)
        with pool.connection() as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
            assert connection.info.backend_pid != before


@on_the_primary
def test_who_finds_one_dead_does_not_find_them_all(parameters, watcher, eventually):
    """The pool waits longer before each that it makes in place of a dead one."""
    found = []

    def watched(connection) -> None:
        try:
            check(connection)
        except psycopg.Error:
            found.append(connection)
            raise

    with ConnectionPool(kwargs=parameters, min_size=3, max_size=3, check=watched) as pool:
        pool.wait()
        connections_of_it = [pool.getconn() for _ in range(3)]
        victims = [connection.info.backend_pid for connection in connections_of_it]
        for connection in connections_of_it:
            pool.putconn(connection)
        for victim in victims:
            kill(watcher, victim, eventually)
        with pool.connection() as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert len(found) == 1


@on_the_primary
def test_djangos_pool_gives_no_dead_connection(watcher, eventually):
    """Django 5.2 lets nobody choose the pool's check, 6.1 has its own: in both it is ours."""
    default = connections["default"].settings_dict
    options = {"pool": {"min_size": 1, "max_size": 1, "timeout": 10}, "connect_timeout": 3}
    wrapper = DatabaseWrapper(
        {**default, "CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": True, "OPTIONS": options}, "with a pool"
    )
    try:
        with wrapper.cursor() as cursor:
            before = pid(wrapper)
            cursor.execute("SELECT 'the last'")
        wrapper.close()
        wrapper.ensure_connection()
        assert pid(wrapper) == before
        assert last_statement(watcher, before) == "SELECT 'the last'"
        wrapper.close()
        kill(watcher, before, eventually)
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT 1")
        assert pid(wrapper) != before
    finally:
        wrapper.close()
        wrapper.close_pool()


@on_the_primary
def test_geventpool_gives_no_dead_connection(parameters, watcher, eventually):
    pool = CheckedPool(MAX_CONNS=1, REUSE_CONNS=1, **parameters)
    connection = pool.get()
    before = connection.info.backend_pid
    connection.execute("SELECT 'the last'")
    pool.put(connection)
    assert pool.get() is connection
    assert last_statement(watcher, before) == "SELECT 'the last'"
    pool.put(connection)
    kill(watcher, before, eventually)
    assert pool.get().info.backend_pid != before
