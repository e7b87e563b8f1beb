import queue
from contextlib import suppress
from typing import Any

from django_db_geventpool.backends import creation
from django_db_geventpool.backends.postgresql_psycopg3 import base

from dbrouting.backends.replica import CreationMixin, ReplicaMixin


class Pool(base.PostgresConnectionPool):  # type: ignore[misc]  # it ships no types
    """django-db-geventpool's, but no larger in a burst than it may be. And whoever waits for a connection goes on if
    those in use break: they never come back.
    """

    _opening = 0

    @property
    def size(self) -> int:
        """With those on their way; without the broken ones, of which some wait for the garbage collector."""
        with self.lock:
            return self._opening + sum(not connection.closed for connection in self._conns)

    def create_connection(self) -> Any:
        self._opening += 1
        try:
            return super().create_connection()
        finally:
            self._opening -= 1

    def get(self) -> Any:
        while self.size >= self.maxsize and not self.pool.qsize():
            with suppress(queue.Empty):
                self.pool.peek(timeout=0.1)
        return super().get()


class ReplicaPool(Pool):
    def check_usable(self, connection: Any) -> None:
        """Not by a query, which a frozen host would never answer: the read finds out, and is run on the primary."""


class DatabaseCreation(CreationMixin, creation.DatabaseCreation):  # type: ignore[misc]
    pass


class DatabaseWrapper(ReplicaMixin, base.DatabaseWrapper):  # type: ignore[misc]
    creation_class = DatabaseCreation
    pool_class = ReplicaPool
