"""Prepared statements that a schema change does not break.

One that was prepared before it fails with "cached plan must not change result type", and to connect again does not
help: PgBouncer's clients share what a server has prepared. In autocommit it has had no effect, so it is sent again
unprepared. In a transaction the first failure ends everything, so nothing is prepared there.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.db import NotSupportedError
from psycopg.pq import TransactionStatus

if TYPE_CHECKING:
    from django.db.backends.postgresql.base import DatabaseWrapper as Base
else:
    Base = object

# Statements of this process that are no longer prepared.
_changed: set[str] = set()


def _prepared(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """Not the method itself: kept in its object's list, it is a cycle, which only the garbage collector would end."""
    return context["connection"].prepared(execute, sql, params, many, context)


class PreparingMixin(Base):
    """Goes before a PostgreSQL wrapper. Prepares if OPTIONS has `prepare_threshold`: the number of times that a
    connection executes a statement before it is prepared.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._threshold: int | None = self.settings_dict["OPTIONS"].get("prepare_threshold")
        if self._threshold is not None:
            self.execute_wrappers.append(_prepared)

    def prepared(self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
        connection, errors_before = self.connection, self.errors_occurred
        if connection is None:
            return execute(sql, params, many, context)
        one_in_autocommit = (
            not many
            and self.autocommit
            and not self.in_atomic_block
            # Nor in a transaction that Django does not know of.
            and connection.pgconn.transaction_status == TransactionStatus.IDLE
        )
        connection.prepare_threshold = self._threshold if one_in_autocommit and str(sql) not in _changed else None
        try:
            return execute(sql, params, many, context)
        except NotSupportedError as error:
            if not one_in_autocommit or "cached plan" not in str(error):
                raise
        _changed.add(str(sql))
        # The connection is well: no reason to ask it before the next request.
        self.errors_occurred = errors_before
        connection.prepare_threshold = None
        return execute(sql, params, many, context)
