"""A connection breaks, or PgBouncer is away: what is sent again, and what is not."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import psycopg
import pytest
from django.contrib.auth.models import Group
from django.db import OperationalError, connections, transaction

from config.backends import reconnect
from config.backends.geventpool.base import CheckedPool
from config.backends.postgresql.base import DatabaseWrapper

pytestmark = pytest.mark.django_db(transaction=True)

LOCK = "pg_advisory_xact_lock_shared(7)"
INSERT = "INSERT INTO auth_group (name) SELECT 'x' FROM "


@pytest.fixture(autouse=True)
def ours(monkeypatch):
    default = connections["default"]
    if not isinstance(default, reconnect.ReconnectMixin):
        pytest.skip("another engine")
    monkeypatch.setattr(reconnect, "_away", reconnect.Away())
    # Session mode, which sends less again, has a test of its own.
    monkeypatch.setitem(default.settings_dict, "DISABLE_SERVER_SIDE_CURSORS", True)
    default.close()
    yield
    default.close()


@pytest.fixture
def watcher(parameters) -> Iterator[psycopg.Connection]:
    with psycopg.connect(**parameters) as connection:
        yield connection


@pytest.fixture
def killed_once(watcher, eventually) -> Callable[[], AbstractContextManager[None]]:
    """Inside, the first statement that waits for the lock loses its server; the next one gets the lock."""

    @contextmanager
    def once() -> Iterator[None]:
        waits = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"

        def kill() -> None:
            eventually(lambda: watcher.execute(waits).fetchone())
            watcher.execute(f"SELECT pg_terminate_backend(pid, 5000) FROM ({waits}) AS waiting")
            watcher.execute("SELECT pg_advisory_unlock(7)")

        watcher.execute("SELECT pg_advisory_lock(7)")
        killer = threading.Thread(target=kill)
        killer.start()
        try:
            yield
        finally:
            killer.join()

    return once


def kill(watcher: psycopg.Connection) -> None:
    watcher.execute("SELECT pg_terminate_backend(%s, 5000)", [connections["default"].connection.info.backend_pid])


def names() -> list[str]:
    return list(Group.objects.values_list("name", flat=True))


def execute(sql: str) -> list[tuple[object, ...]]:
    with connections["default"].cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else []


def test_a_connection_that_has_ended_is_replaced_before_a_write(watcher):
    names()
    kill(watcher)
    Group.objects.create(name="x")
    assert names() == ["x"]


def test_a_transaction_of_which_nothing_was_sent_begins_again(watcher):
    names()
    hooks = []
    with transaction.atomic():
        transaction.on_commit(lambda: hooks.append("run"))
        kill(watcher)
        with transaction.atomic():
            Group.objects.create(name="x")
        assert connections["default"].in_atomic_block
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            Group.objects.create(name="y")
            raise ZeroDivisionError
        assert hooks == []
    assert (names(), hooks) == (["x"], ["run"])


def test_it_is_rolled_back_as_any_other(watcher):
    names()
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        kill(watcher)
        Group.objects.create(name="x")
        raise ZeroDivisionError
    assert names() == []


def test_the_first_statement_of_a_transaction_is_sent_again(killed_once):
    with killed_once(), transaction.atomic():
        execute(f"{INSERT} {LOCK}")
    assert names() == ["x"]


def test_a_later_one_is_not(killed_once):
    with killed_once(), pytest.raises(OperationalError), transaction.atomic():
        Group.objects.create(name="y")
        execute(f"{INSERT} {LOCK}")
    assert names() == []


def test_what_only_reads_is_sent_again(killed_once):
    with killed_once():
        assert execute(f"SELECT 'read' FROM {LOCK}") == [("read",)]
    assert connections["default"].get_autocommit()
    Group.objects.create(name="x")


def test_a_server_side_cursor_is_opened_again(killed_once):
    connection = connections["default"]
    with killed_once(), connection.chunked_cursor() as cursor:
        cursor.execute(f"SELECT number FROM {LOCK}, generate_series(1, 5000) AS number")
        assert [number for (number,) in iter(cursor.fetchone, None)] == list(range(1, 5001))


@pytest.mark.parametrize(
    "write", [f"{INSERT} {LOCK}", f"SELECT 1 FROM {LOCK}; COMMIT", f"SELECT pg_notify('a', '') FROM {LOCK}"]
)
def test_what_may_have_had_an_effect_is_not(killed_once, write: str):
    with killed_once(), pytest.raises(OperationalError):
        execute(write)
    connections["default"].close()
    assert names() == []


def test_what_is_in_the_session_is_not_lost_unnoticed(watcher, monkeypatch):
    """With a session of its own, a client may have a lock there."""
    monkeypatch.setitem(connections["default"].settings_dict, "DISABLE_SERVER_SIDE_CURSORS", False)
    execute("SELECT pg_advisory_lock(8)")
    kill(watcher)
    with pytest.raises(OperationalError):
        names()


# Nobody is there ------------------------------------------------------------------------------------------------------


@pytest.fixture
def port() -> Iterator[int]:
    """On which nobody listens yet."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        number = found.getsockname()[1]
    yield number


class Relay:
    """To the database, from when it is opened."""

    def __init__(self, port: int, parameters) -> None:
        self.port, self.target = port, (parameters["host"] or "127.0.0.1", int(parameters["port"] or 5432))

    def open(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(self.target)
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=self.pass_on, args=[one, other], daemon=True).start()

    @staticmethod
    def pass_on(one: socket.socket, other: socket.socket) -> None:
        while data := one.recv(65536):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)


@pytest.fixture
def comes_soon(port, parameters, monkeypatch) -> Iterator[dict[str, object]]:
    """Parameters of a database that comes when two attempts to reach it have failed."""
    relay, attempts = Relay(port, parameters), []

    def pause(seconds: float) -> None:
        attempts.append(seconds)
        if len(attempts) == 2:
            relay.open()

    monkeypatch.setattr(reconnect.time, "sleep", pause)
    yield {**parameters, "host": "127.0.0.1", "port": port}
    relay.listener.close()
    assert len(attempts) >= 2


def wrapper(settings: dict[str, object]) -> DatabaseWrapper:
    return DatabaseWrapper({**connections["default"].settings_dict, **settings}, "elsewhere")


def test_a_connection_is_waited_for(comes_soon):
    elsewhere = wrapper({"HOST": "127.0.0.1", "PORT": comes_soon["port"]})
    with elsewhere.cursor() as cursor:
        cursor.execute("SELECT 1")
    elsewhere.close()


def test_in_psycopgs_pool_too(comes_soon):
    options = {"pool": {"min_size": 1, "max_size": 1, "timeout": 10}}
    elsewhere = wrapper({"HOST": "127.0.0.1", "PORT": comes_soon["port"], "CONN_MAX_AGE": 0, "OPTIONS": options})
    try:
        with elsewhere.cursor() as cursor:
            cursor.execute("SELECT 1")
    finally:
        elsewhere.close()
        elsewhere.close_pool()


def test_and_in_gevents(comes_soon):
    pool = CheckedPool(MAX_CONNS=1, REUSE_CONNS=1, **comes_soon)
    assert pool.get().execute("SELECT 1").fetchone() == (1,)
    pool.close()


def test_but_not_for_ever(port, monkeypatch):
    """And whoever comes when all have waited long enough does not wait again."""
    monkeypatch.setattr(reconnect, "PATIENCE", 0.5)
    elsewhere = wrapper({"HOST": "127.0.0.1", "PORT": port})
    pauses = []
    monkeypatch.setattr(reconnect.time, "sleep", lambda seconds: pauses.append(1) or threading.Event().wait(seconds))
    with pytest.raises(OperationalError):
        elsewhere.ensure_connection()
    assert pauses
    pauses.clear()
    with pytest.raises(OperationalError):
        elsewhere.ensure_connection()
    assert not pauses


@pytest.mark.parametrize("wrong", [{"PASSWORD": "wrong"}, {"NAME": "nosuch"}])
def test_what_waiting_does_not_mend_is_told_at_once(monkeypatch, wrong):
    monkeypatch.setattr(reconnect.time, "sleep", lambda seconds: pytest.fail("it waits"))
    with pytest.raises(OperationalError):
        wrapper(wrong).ensure_connection()


@pytest.mark.django_db(transaction=True, databases="__all__")
def test_a_read_that_a_replica_passes_on_does_not_fail_on_the_way(killed_once, lsn_replayed, replica_down):
    """Where the primary's connection breaks, too, after the first statement of the read's transaction."""
    lsn_replayed()
    with replica_down(), killed_once(), connections["replica"].cursor() as cursor:
        cursor.execute(f"SELECT 'read' FROM {LOCK}")
        assert cursor.fetchone() == ("read",)
