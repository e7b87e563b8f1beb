"""A replica's database wrapper: what cannot be read there is read on the primary, and its user notices nothing."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from django.db import InterfaceError, OperationalError, connections, transaction
from django.db.backends.utils import CursorWrapper

from dbrouting.conf import config
from dbrouting.context import replica_in_use
from dbrouting.monitor import Replica, monitor

if TYPE_CHECKING:
    from django.db.backends.postgresql.base import DatabaseWrapper as Base
else:
    Base = object

CONFLICT_WITH_RECOVERY = {"40001", "40P01"}
# The server's fault, not the statement's: connection lost (08, also what PgBouncer answers), out of resources (53),
# shut down or not up yet (57P), input/output (58).
SERVER_FAULTS = ("08", "53", "57P", "58")


class NotConnected:
    """Stands for the driver's cursor where there is no connection to make one, or none is wanted."""

    def close(self) -> None:
        pass


class ReplicaMixin(Base):
    """Goes before a PostgreSQL wrapper; that one's OPTIONS, pool and reconnecting stay as they are."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connected_at = float("-inf")
        # The first is the outermost: wrappers that others add see what is really sent here.
        self.execute_wrappers.append(self._read)

    def connect(self) -> None:
        super().connect()
        self._connected_at = time.monotonic()

    def cursor(self) -> CursorWrapper:
        if self.alias not in config().REPLICAS or self.in_atomic_block:
            return super().cursor()
        replica = monitor.replica(self.alias)
        if self.connection is not None and self._connected_at < replica.failed_at:
            # From before the replica was down: not worth a try that would count as the next failure.
            self.close()
        if replica.out:
            return self.make_cursor(cast(Any, NotConnected()))
        try:
            return super().cursor()
        except (OperationalError, InterfaceError) as error:
            if _fault(error) is None:
                raise
            self._give_up(replica, error)
            return self.make_cursor(cast(Any, NotConnected()))

    def _read(self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
        """Around each statement. In autocommit what failed here has had no effect, so it can be asked elsewhere."""
        if self.alias not in config().REPLICAS or self.in_atomic_block:
            return execute(sql, params, many, context)
        cursor: CursorWrapper = context["cursor"]
        replica = monitor.replica(self.alias)
        if isinstance(cursor.cursor, NotConnected):
            monitor.count("read again: the replica is out")
            return _on_primary(cursor, sql, params, many)
        try:
            with replica.waiting(self.connection.fileno()):
                result = execute(sql, params, many, context)
        except (OperationalError, InterfaceError) as error:
            fault = _fault(error)
            if fault is None:
                raise
            if fault not in CONFLICT_WITH_RECOVERY:
                self._give_up(replica, error)
            monitor.count(f"read again: {fault}")
            return _on_primary(cursor, sql, params, many)
        proof = replica_in_use(self.alias)
        if proof is None or replica.holds(proof):
            return result
        monitor.count("read again: the proof has expired")
        return _on_primary(cursor, sql, params, many)

    def _give_up(self, replica: Replica, error: Exception) -> None:
        """The connection, and the replica until it proves itself. A pool's other connections are likely dead too."""
        replica.fail(error)
        self.close()
        # psycopg's pool only; it is None, or without drain(), elsewhere.
        if (drain := getattr(self.pool, "drain", None)) is not None:
            drain()


def _fault(error: Exception) -> str | None:
    """The SQLSTATE, or `connection` if libpq or a pool has none to tell; None if not the server is to blame."""
    sqlstate: str | None = getattr(error.__cause__, "sqlstate", None)
    if sqlstate is None:
        return "connection"
    return sqlstate if sqlstate in CONFLICT_WITH_RECOVERY or sqlstate.startswith(SERVER_FAULTS) else None


def _on_primary(cursor: CursorWrapper, sql: Any, params: Any, many: bool) -> Any:
    """Puts a cursor of the primary into the wrapper: whoever fetches from it does not notice. Read only, as on a
    replica: a write that was sent to the wrong place does not happen in another one.
    """
    primary = connections[config().PRIMARY]
    with transaction.atomic(using=primary.alias):
        instead = primary.cursor()
        instead.execute("SET TRANSACTION READ ONLY")
        result = (instead.executemany if many else instead.execute)(sql, params)
    cursor.cursor, cursor.db = instead.cursor, primary
    return result
