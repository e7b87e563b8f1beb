"""A replica's database wrapper: what cannot be read there is read on the primary, and its user notices nothing."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from django.db import Error, OperationalError, connections, transaction
from django.db.backends.utils import CursorWrapper

from dbrouting.conf import config
from dbrouting.context import current_context, has_moved_on, replica_in_use
from dbrouting.monitor import monitor

if TYPE_CHECKING:
    from django.db.backends.base.creation import BaseDatabaseCreation as BaseCreation
    from django.db.backends.postgresql.base import DatabaseWrapper as Base
else:
    Base = BaseCreation = object

# SQLSTATEs, or how they begin. The server is going, gone, or not there yet: connection lost, which is also what
# PgBouncer says (08), shut down or starting (57P), input/output (58).
AWAY = ("08", "57P", "58")
# It is well, but this cannot be had from it now: a conflict or deadlock with recovery (40), a lock that replay holds
# (55P03), out of resources (53), what a migration has made and it has not replayed yet (42, 3F), what is not replicated
# (0A).
ELSEWHERE = ("40001", "40P01", "55P03", "53", "42P01", "42703", "42704", "42883", "3F000", "0A000")


class NotConnected:
    """Stands for the driver's cursor where there is no connection to make one, or none is wanted."""

    def close(self) -> None:
        pass


class CreationMixin(BaseCreation):
    """Goes before the `creation_class` of the wrapper."""

    def set_as_test_mirror(self, primary_settings_dict: dict[str, Any]) -> None:
        """What both test runners do with a replica before the first test; nobody else does."""
        from dbrouting.testing import follow_tests

        follow_tests()
        super().set_as_test_mirror(primary_settings_dict)


def _read(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """Not the method itself: kept in its object's list, it is a cycle, which only the garbage collector would end."""
    result = context["connection"].read(execute, sql, params, many, context)
    if (current := current_context()) is not None and not hasattr(context["cursor"], "on_primary"):
        current.answers_of(context["connection"].alias).count += 1
    return result


class ReplicaMixin(Base):
    """Goes before a PostgreSQL wrapper; that one's OPTIONS, pool and reconnecting stay as they are."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connected_at = float("-inf")
        # The first is the outermost: wrappers that others add see what is really sent here.
        self.execute_wrappers.append(_read)

    def connect(self) -> None:
        # Before, since connecting asks the server things, by cursors of this connection.
        self._connected_at = float("inf")
        started = time.monotonic()
        super().connect()
        self._connected_at = started

    def cursor(self) -> CursorWrapper:
        if self.alias not in config().REPLICAS or self.in_atomic_block:
            return super().cursor()
        replica = monitor.replica(self.alias)
        if self.connection is not None and self._connected_at < replica.failed_at:
            # From before the replica was down: not worth a try that would count as the next failure.
            self.close()
        if replica.out:
            return self._without_connection()
        try:
            return super().cursor()
        except Error as error:
            # A pool that has nothing to give may just be busy; whether the node is well, the monitor tells.
            if self._drain is None:
                replica.suspect(error)
            self.close()
            return self._without_connection()

    def _without_connection(self) -> CursorWrapper:
        return self.make_cursor(cast(Any, NotConnected()))

    def read(self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
        """Around each statement. In autocommit what failed here has had no effect, so it can be asked elsewhere."""
        if self.alias not in config().REPLICAS or self.in_atomic_block:
            return execute(sql, params, many, context)
        cursor: CursorWrapper = context["cursor"]
        replica, proof = monitor.replica(self.alias), replica_in_use(self.alias)
        # It may have gone while this waited for its turn in a pool.
        if isinstance(cursor.cursor, NotConnected) or self.connection is None or replica.out:
            return self._again("the replica is out", cursor, sql, params, many)
        if hasattr(cursor, "on_primary"):
            return self._again("like the cursor's last one", cursor, sql, params, many)
        if has_moved_on():
            # Not the router's choice, but an object's that was read here before: get_next_by_…(), a generic relation.
            return self._again("this context has asked the primary", cursor, sql, params, many)
        try:
            with replica.waiting(self.connection.fileno()):
                result = execute(sql, params, many, context)
        except Error as error:
            sqlstate = getattr(error.__cause__, "sqlstate", None) or ""
            # libpq has no SQLSTATE to tell for a connection that breaks, nor for a statement that it cannot send.
            if self.connection.closed or sqlstate.startswith(AWAY):
                replica.suspect(error)
                self.close()
                if self._drain is not None:
                    self._drain()
            elif not sqlstate.startswith(ELSEWHERE):
                raise
            return self._again(sqlstate or "connection lost", cursor, sql, params, many)
        if proof is None or replica.holds(proof):
            return result
        return self._again("the proof has expired", cursor, sql, params, many)

    @property
    def _drain(self) -> Callable[[], None] | None:
        """Psycopg's pool replaces its other connections, likely dead too. None where there is no such pool."""
        return getattr(self.pool, "drain", None)

    def _again(self, why: str, cursor: CursorWrapper, sql: Any, params: Any, many: bool) -> Any:
        """Puts a cursor of the primary into the wrapper: whoever fetches from it does not notice. Read only, as on a
        replica: a write that was sent to the wrong place does not happen in another one.
        """
        monitor.count(f"read again: {why}")
        if (current := current_context()) is not None:
            current.answers_of(config().PRIMARY, why)
        in_a_transaction = connections[config().PRIMARY].in_atomic_block
        try:
            result, instead = self._on_primary(sql, params, many)
        except OperationalError as error:
            # What has taken the replica's connection, a restart of PgBouncer for one, takes the primary's a moment
            # later. atomic() has made another, if it could.
            if in_a_transaction or not (getattr(error.__cause__, "sqlstate", None) or "08").startswith(AWAY):
                raise
            result, instead = self._on_primary(sql, params, many)
        cursor.cursor = instead.cursor
        cursor.on_primary = True  # type: ignore[attr-defined]
        return result

    @staticmethod
    def _on_primary(sql: Any, params: Any, many: bool) -> tuple[Any, CursorWrapper]:
        primary = config().PRIMARY
        with transaction.atomic(using=primary):
            instead = connections[primary].cursor()
            instead.execute("SET TRANSACTION READ ONLY")
            return (instead.executemany if many else instead.execute)(sql, params), instead
