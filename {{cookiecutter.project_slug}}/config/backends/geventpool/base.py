from typing import Any

from django_db_geventpool.backends.postgresql_psycopg3 import base

from config.backends.prepared import PreparingMixin
from config.backends.reconnect import ReconnectMixin, patiently
from config.liveness import is_quiet
from dbrouting.backends.geventpool.base import Pool


class CheckedPool(Pool):
    def check_usable(self, connection: Any) -> None:
        """Whenever a connection leaves the pool."""
        if not is_quiet(connection):
            super().check_usable(connection)

    def create_connection(self) -> Any:
        return patiently(super().create_connection)


class DatabaseWrapper(PreparingMixin, ReconnectMixin, base.DatabaseWrapper):  # type: ignore[misc]
    """django-db-geventpool's, with what the project's other wrapper has."""

    pool_class = CheckedPool
