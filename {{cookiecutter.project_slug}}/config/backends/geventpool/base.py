from django_db_geventpool.backends.postgresql_psycopg3 import base

from dbrouting.backends.geventpool.base import Pool


class DatabaseWrapper(base.DatabaseWrapper):  # type: ignore[misc]  # it ships no types
    pool_class = Pool
