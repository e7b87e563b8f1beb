from django_db_geventpool.backends.postgresql_psycopg3 import base

from dbrouting.backends.replica import ReplicaMixin


class DatabaseWrapper(ReplicaMixin, base.DatabaseWrapper):  # type: ignore[misc]  # it ships no types
    pass
