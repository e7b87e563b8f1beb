"""A connection is held for as long as something runs on it, and no longer.

Django gives a connection back when the last byte of an answer is sent. A visitor who reads slowly would hold it all
that time, so dbrouting/giveback.py gives it back when the view has returned. The body of a streaming answer takes one
for each statement, and not while it sends or sleeps.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.db.backends.postgresql.base import CursorDebugWrapper
from django.db.backends.utils import CursorWrapper
from psycopg.pq import TransactionStatus

from dbrouting.giveback import in_body

if TYPE_CHECKING:
    from django.db.backends.postgresql.base import DatabaseWrapper as Base
else:
    Base = object


class LeaseMixin(Base):
    """Goes before a PostgreSQL wrapper."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Something may be in the session that another session does not have: a lock, a setting, a temporary table.
        self.session_used = False

    @property
    def owns_session(self) -> bool:
        """Whether what is left in a session stays there for the next statement. In the other pool modes it may be
        another client's by then, so nobody relies on it. The choice that turns on server-side cursors tells.
        """
        return not self.settings_dict["DISABLE_SERVER_SIDE_CURSORS"]

    def connect(self) -> None:
        super().connect()
        self.session_used = False

    def make_cursor(self, cursor: Any) -> CursorWrapper:
        return Cursor(cursor, self)

    def make_debug_cursor(self, cursor: Any) -> CursorDebugWrapper:
        return DebugCursor(cursor, self)

    def attach(self, cursor: CursorWrapper) -> None:
        """A cursor that was made before its connection went back must not speak on what is another's by now."""
        inner: Any = cursor.cursor
        if not in_body.get() or getattr(inner, "connection", None) in (None, self.connection):
            return
        self.ensure_connection()
        cursor.cursor = self.create_cursor()

    def run(self, cursor: CursorWrapper, sql: Any, execute: Callable[[], Any]) -> Any:
        """Each statement passes here, inside of all execute wrappers."""
        result = execute()
        # By any statement: which function takes a lock, nobody can tell.
        self.session_used = self.owns_session
        if in_body.get():
            self.give_back()
        return result

    def give_back(self) -> None:
        """To the pool, if nothing needs it. The rows of a cursor are here already. In session mode, where they may not
        be, and where a lock or a setting may be in the session, it stays until the answer ends.

        Without a pool a connection that waits keeps nobody out, and the next statement would pay for a login.
        """
        if (
            self.pool
            and not self.owns_session
            and self.connection is not None
            and self.autocommit
            and not self.in_atomic_block
            and self.connection.pgconn.transaction_status in (TransactionStatus.IDLE, TransactionStatus.UNKNOWN)
        ):
            self.close_if_unusable_or_obsolete()


class CursorMixin(CursorWrapper):
    # What Django's wrapper passes on. Both speak to the server.
    def __getattr__(self, name: str) -> Any:
        if name in ("copy", "stream"):
            self.db.attach(self)
        return super().__getattr__(name)

    def callproc(self, *args: Any, **kwargs: Any) -> Any:
        self.db.attach(self)
        return super().callproc(*args, **kwargs)

    def _execute(self, sql: Any, params: Any, *context: Any) -> Any:
        self.db.attach(self)
        execute = super()._execute  # type: ignore[misc]  # django-stubs has neither
        return self.db.run(self, sql, lambda: execute(sql, params, *context))

    def _executemany(self, sql: Any, params: Any, *context: Any) -> Any:
        self.db.attach(self)
        execute = super()._executemany  # type: ignore[misc]
        return self.db.run(self, sql, lambda: execute(sql, params, *context))


class Cursor(CursorMixin):
    pass


class DebugCursor(CursorMixin, CursorDebugWrapper):
    # Django's has a method for it.
    def copy(self, *args: Any) -> Any:
        self.db.attach(self)
        return super().copy(*args)
