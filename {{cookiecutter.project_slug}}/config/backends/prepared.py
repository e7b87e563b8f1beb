"""Prepared statements, where nobody notices them: in autocommit, in which a statement that was refused has had no
effect and can be sent again the way Django does by default, bound on the client.

It is refused for one of two reasons. The schema has changed under it, "cached plan must not change result type", and
PgBouncer's clients share what a server has prepared, so to connect again would not help. Or it cannot be bound on the
server: a parameter both in SELECT and in GROUP BY (https://code.djangoproject.com/ticket/34255), a type that nothing
tells. In a transaction the first failure ends everything, so there it is sent the default way at once.
"""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import DatabaseError
from django.db.backends.postgresql.base import Cursor, ServerBindingCursor
from psycopg.pq import TransactionStatus
from psycopg.types.numeric import Int4, Int8

if TYPE_CHECKING:
    from django.db.backends.postgresql.base import DatabaseWrapper as Base
else:
    Base = object

# A CALL may have committed before it failed.
ROWS = ("SELECT ", "INSERT ", "UPDATE ", "DELETE ", "WITH ")
# What PostgreSQL takes for the same, bound here or there. Not int and float: 1.05 is a numeric here and a float8 there.
SAME_TYPE = {str, bool, type(None), Decimal, Int4, Int8, UUID, date, datetime, timedelta}
# A longer list is hardly as long again.
MOST_PARAMETERS = 100
# cached plan must not change result type; a prepared statement's name that is unknown, or known already; a type that is
# indeterminate, or not the function's; GROUP BY.
REFUSED = {"0A000", "26000", "42P05", "42P18", "42725", "42804", "42883", "42803"}
MOST_REMEMBERED = 1000

_refused: set[str] = set()


class PreparingCursor(ServerBindingCursor):
    """For one statement; the next one on the same cursor may not be for the likes of it."""


class PreparingMixin(Base):
    """Goes before a PostgreSQL wrapper. OPTIONS["prepare_threshold"] says how often a connection executes a statement
    before it prepares it; without it nothing is prepared.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._threshold: int | None = self.settings_dict["OPTIONS"].get("prepare_threshold")
        if self._threshold is not None:
            self.execute_wrappers.append(self._prepared)

    def get_connection_params(self) -> dict[str, Any]:
        # Else psycopg would count what other cursors send too, and keep it, with all its values.
        return {**super().get_connection_params(), "prepare_threshold": None}

    def _prepared(self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
        cursor, connection = context["cursor"], self.connection
        if type(cursor.cursor) is PreparingCursor:
            cursor.cursor = self.create_cursor()
        by_default = cursor.cursor
        if many or type(by_default) is not Cursor or not self._can_prepare(sql, params):
            return execute(sql, params, many, context)
        assert connection is not None
        errors_before = self.errors_occurred
        # By the wrapper, which gives it this thread's time zone.
        connection.cursor_factory = PreparingCursor
        cursor.cursor = self.create_cursor()
        connection.cursor_factory = Cursor
        connection.prepare_threshold = self._threshold
        try:
            return execute(sql, params, many, context)
        except DatabaseError as error:
            if getattr(error.__cause__, "sqlstate", None) not in REFUSED:
                raise
        finally:
            connection.prepare_threshold = None
        if len(_refused) >= MOST_REMEMBERED:
            _refused.clear()
        _refused.add(sql)
        self.errors_occurred = errors_before
        cursor.cursor = by_default
        return execute(sql, params, many, context)

    def _can_prepare(self, sql: Any, params: Any) -> bool:
        return (
            self.connection is not None
            and not self.in_atomic_block
            and self.autocommit
            # Nor in a transaction that Django does not know of.
            and self.connection.pgconn.transaction_status == TransactionStatus.IDLE
            # With DEBUG or assertNumQueries() the statement is to be shown with its values.
            and not self.queries_logged
            and isinstance(sql, str)
            and sql.startswith(ROWS)
            and ";" not in sql
            and sql not in _refused
            and (params is None or isinstance(params, list | tuple))
            and len(params or ()) <= MOST_PARAMETERS
            and SAME_TYPE.issuperset(map(type, params or ()))
        )
