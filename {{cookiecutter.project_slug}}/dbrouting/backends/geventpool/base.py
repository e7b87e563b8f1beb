from typing import Any

from django_db_geventpool.backends.postgresql_psycopg3 import base

from dbrouting.backends.replica import ReplicaMixin


class Pool(base.PostgresConnectionPool):  # type: ignore[misc]  # it ships no types
    def check_usable(self, connection: Any) -> None:
        """Not by a query, which a frozen host would never answer: the read finds out, and is run on the primary."""


class DatabaseWrapper(ReplicaMixin, base.DatabaseWrapper):  # type: ignore[misc]
    pool_class = Pool
