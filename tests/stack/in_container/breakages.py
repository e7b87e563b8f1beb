"""Runs in the web container, through PgBouncer: what needs a session of its own, tried by two clients. Prints JSON."""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import psycopg
from articles.models import Article
from dbrouting.monitor import configured, connect
from ops.topology import pgbouncer

ALIAS = os.environ["ALIAS"]


def has_a_server(connection: psycopg.Connection) -> bool:
    """PgBouncer has linked this client to a server just now."""
    with socket.socket(fileno=os.dup(connection.fileno())) as mine:
        _, port, *_ = mine.getsockname()
    return any(row["link"] for row in pgbouncer("SHOW CLIENTS") if row["port"] == port)


@contextmanager
def busy(connection: psycopg.Connection) -> Iterator[None]:
    """This client holds the server that was used last, so that another client gets another."""

    def hold() -> None:
        with suppress(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(25)")

    thread = threading.Thread(target=hold)
    thread.start()
    while thread.is_alive() and not has_a_server(connection):
        time.sleep(0.01)
    try:
        yield
    finally:
        connection.cancel_safe()
        thread.join()


def value(connection: psycopg.Connection, query: str) -> object:
    row = connection.execute(query).fetchone()
    assert row
    return row[0]


def begin(one, other):
    with one.transaction():
        return value(one, "SELECT 1")


def set_for_the_session(one, other):
    one.execute("SET statement_timeout = '4321s'")
    try:
        return value(other, "SHOW statement_timeout")
    finally:
        one.execute("RESET statement_timeout")


def set_local(one, other):
    with one.transaction():
        one.execute("SET LOCAL statement_timeout = '4321s'")
        mine = value(one, "SHOW statement_timeout")
    return mine, value(other, "SHOW statement_timeout")


def advisory_lock(one, other):
    one.execute("SELECT pg_advisory_lock(7)")
    return value(other, "SELECT pg_try_advisory_lock(7)")


def advisory_xact_lock(one, other):
    with one.transaction():
        one.execute("SELECT pg_advisory_xact_lock(8)")
        return value(other, "SELECT pg_try_advisory_xact_lock(8)")


def listen(one, other):
    one.execute("LISTEN breakages")
    other.execute("NOTIFY breakages")
    return len(list(one.notifies(timeout=4, stop_after=1)))


def temporary_table(one, other):
    one.execute("CREATE TEMPORARY TABLE kept (x int)")
    with busy(other):
        return value(one, "SELECT count(*) FROM kept")


def temporary_table_in_a_transaction(one, other):
    with one.transaction():
        one.execute("CREATE TEMPORARY TABLE dropped (x int) ON COMMIT DROP")
        return value(one, "SELECT count(*) FROM dropped")


def sql_prepare(one, other):
    one.execute("PREPARE answer AS SELECT 42")
    with busy(other):
        return value(one, "EXECUTE answer")


def protocol_prepare(one, other):
    def ask(number: int) -> int:
        row = one.execute("SELECT %s::int", [number], prepare=True).fetchone()
        return row[0]

    before = sum(map(ask, range(10)))
    with busy(other):
        return before + sum(map(ask, range(10)))


def cursor_with_hold(one, other):
    one.execute("DECLARE held CURSOR WITH HOLD FOR SELECT generate_series(1, 3)")
    with busy(other):
        return value(one, "FETCH 1 FROM held")


def django_iterator(one, other):
    articles = Article.objects.using(ALIAS).order_by("id")
    rows = articles.iterator(chunk_size=2)
    seen = [next(rows)]
    with busy(other):
        return len(seen + list(rows)) == articles.count()


def one_more_than_servers(one, other):
    """As persistent connections would be: they have asked once, and stay. Another role may have a server, too."""
    reserve = int(os.environ["RESERVE_POOL_SIZE"])
    with ExitStack() as idle:
        for number in range(int(os.environ["POOL_SIZE"]) + reserve):
            try:
                value(idle.enter_context(connect(ALIAS)), "SELECT 1")
            except psycopg.Error as error:
                if number > int(os.environ["POOL_SIZE"]):
                    raise
                raise AssertionError(f"the reserve of {reserve} was not used: client {number}: {error}") from error
        return value(one, "SELECT 1")


def a_test_database(one, other):
    """As the test runner does, to create it."""
    configured["test"] = configured[ALIAS] | {"NAME": "test_site"}
    with connect("test"):
        return "there is one"


def outcome(attempt) -> object:
    with connect(ALIAS) as one, connect(ALIAS) as other:
        try:
            return attempt(one, other)
        except psycopg.Error as error:
            # Without the address, where there was no connection yet.
            return str(error).strip().splitlines()[0].split("FATAL:")[-1].strip()


ATTEMPTS = (
    begin, set_for_the_session, set_local, advisory_lock, advisory_xact_lock, listen, temporary_table,
    temporary_table_in_a_transaction, sql_prepare, protocol_prepare, cursor_with_hold, django_iterator,
    one_more_than_servers, a_test_database,
)  # fmt: skip
print(json.dumps({attempt.__name__: outcome(attempt) for attempt in ATTEMPTS}))
