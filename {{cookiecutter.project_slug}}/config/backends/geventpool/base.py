from typing import Any

from django_db_geventpool.backends.postgresql_psycopg3 import base

from config.backends.prepared import PreparingMixin
from config.liveness import is_quiet
from dbrouting.backends.geventpool.base import Pool


class CheckedPool(Pool):
    def check_usable(self, connection: Any) -> None:
        """Whenever a connection leaves the pool."""
        if not is_quiet(connection):
            super().check_usable(connection)


class DatabaseWrapper(PreparingMixin, base.DatabaseWrapper):  # type: ignore[misc]
    """django-db-geventpool's, with a health check that costs no round trip, and with prepared statements."""

    pool_class = CheckedPool
