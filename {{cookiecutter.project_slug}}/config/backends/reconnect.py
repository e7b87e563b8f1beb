"""PgBouncer is restarted, and no request fails: the site waits for it, and sends again what has had no effect.

Three things are known to have had none. What PgBouncer refused because it shuts down, since it was not forwarded. The
first statement of a transaction, since its COMMIT was not sent. What only reads; whether it does, PostgreSQL tells: it
is sent again in a READ ONLY transaction. What else was sent when the connection broke is not sent again.
"""

import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import psycopg
from django.db import DatabaseError, OperationalError
from django.db.backends.utils import CursorWrapper
from psycopg.pq import ConnStatus, TransactionStatus

from config.backends.lease import LeaseMixin
from config.liveness import is_quiet

# Seconds that a process waits for PgBouncer, from the first attempt that failed: a restart takes up to 5.
PATIENCE = 10.0
PAUSE = 0.1

# What libpq, PgBouncer and PostgreSQL say where a connection may come about soon. There is no SQLSTATE yet.
NOT_YET = re.compile(
    "Connection refused|failed to resolve host|could not translate host name|No route to host|Connection reset by peer"
    "|server closed the connection unexpectedly|(server|pooler|system) is (shutting down|starting up)"
    "|server shutting down"
)
# PgBouncer's, in place of forwarding a statement.
REFUSED = re.compile("(server|pooler is) shutting down")
# A statement that is not known to be one, or may speak to others: not sent again unless refused.
SEVERAL = re.compile(r";\s*\S|\bnotify\b|pg_notify", re.IGNORECASE)

Connection = TypeVar("Connection")


class Away:
    """Since when nothing can be reached. One for the process, so that a PgBouncer that is away for long does not hold
    up each request as long.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.since = self.last = float("-inf")

    def patient(self) -> bool:
        """Called when an attempt has failed: whether to try again."""
        now = time.monotonic()
        with self.lock:
            if now - self.last > PATIENCE:
                # That was another time.
                self.since = now
            self.last = now
            return now - self.since < PATIENCE

    def over(self) -> None:
        self.since = self.last = float("-inf")


_away = Away()


def patiently(connect: Callable[[], Connection]) -> Connection:
    """:raises psycopg.OperationalError: at once for what waiting does not mend, a wrong password for one"""
    while True:
        try:
            connection = connect()
        except psycopg.OperationalError as error:
            if not NOT_YET.search(str(error)) or not _away.patient():
                raise
            time.sleep(PAUSE)
        else:
            _away.over()
            return connection


class PatientConnection(psycopg.Connection[Any]):
    """For psycopg's pool, whose own waits between attempts grow to longer than a request waits for the pool."""

    @classmethod
    def connect(cls, *args: Any, **kwargs: Any) -> Any:
        return patiently(lambda: super(PatientConnection, cls).connect(*args, **kwargs))


def has_ended(connection: Any) -> bool:
    """Whether the server's or PgBouncer's end of it has come. Asks nobody."""
    try:
        while not is_quiet(connection):
            if connection.pgconn.status == ConnStatus.BAD:
                return True
            connection.pgconn.consume_input()
    except psycopg.OperationalError:
        return True
    return False


class ReconnectMixin(LeaseMixin):
    """For the primary. A replica's reads go to the primary instead, and wait there."""

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        # A pool waits by itself.
        if self.pool:
            return super().get_new_connection(conn_params)
        connect = super().get_new_connection
        return patiently(lambda: connect(conn_params))

    def run(self, cursor: CursorWrapper, sql: Any, execute: Callable[[], Any]) -> Any:
        run = super().run
        connection: Any = self.connection
        begun = connection is None or connection.pgconn.transaction_status != TransactionStatus.IDLE
        if begun or self.session_used:
            return run(cursor, sql, execute)
        if has_ended(connection):
            self._renew(cursor)
        try:
            return run(cursor, sql, execute)
        except OperationalError as error:
            cause = error.__cause__
            sqlstate = getattr(cause, "sqlstate", None)
            refused = sqlstate == "08P01" and REFUSED.search(str(cause))
            # libpq has no SQLSTATE to tell for a connection that breaks. 57P: PostgreSQL ends it. The other errors of
            # PgBouncer (08) say that the primary is away; who has waited for that once does not wait again.
            broken = connection.closed if sqlstate is None else sqlstate.startswith("57P0")
            if not refused and (not broken or SEVERAL.search(str(sql))):
                raise
            self._renew(cursor)
            if refused or not self.autocommit:
                return run(cursor, sql, execute)
            return self._read(cursor, sql, execute, error)

    def _read(self, cursor: CursorWrapper, sql: Any, execute: Callable[[], Any], error: DatabaseError) -> Any:
        """Again, if it only reads.

        :raises DatabaseError: the error with which it failed, if it does not
        """
        connection: Any = self.connection
        with self.wrap_database_errors:
            connection.execute("BEGIN READ ONLY")
        try:
            result = super().run(cursor, sql, execute)
        except DatabaseError as refusal:
            with suppress(psycopg.Error):
                connection.rollback()
            # It would write, or needs to be outside of a transaction.
            if getattr(refusal.__cause__, "sqlstate", None) in ("25006", "25001"):
                raise error from error.__cause__
            raise
        with self.wrap_database_errors:
            connection.execute("COMMIT")
        return result

    def _renew(self, cursor: CursorWrapper) -> None:
        """Another connection in the place of one that has ended. Neither Django's transaction, of which nothing was
        sent, nor its hooks notice.
        """
        names = ("in_atomic_block", "savepoint_ids", "atomic_blocks", "needs_rollback", "run_on_commit")
        kept = {name: getattr(self, name) for name in names}
        autocommit, old = self.autocommit, cursor.cursor
        self.in_atomic_block = False
        try:
            # Closed first: a pool does not keep it, then. Psycopg's would find its others dead one by one, each after a
            # wait.
            self.connection.close()
            self.close()
            if (drain := getattr(self.pool, "drain", None)) is not None:
                drain()
            self.ensure_connection()
            # Not in the atomic block that it belongs to: that is told again below.
            self.set_autocommit(autocommit)
        finally:
            for name, value in kept.items():
                setattr(self, name, value)
            if self.connection is None:
                self.closed_in_transaction = self.needs_rollback = self.in_atomic_block
        # Only a server's cursor has one.
        cursor.cursor = self.create_cursor(getattr(old, "name", None))
