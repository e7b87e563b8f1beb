from typing import Any

import psycopg
from django.db.backends.postgresql import base

from config.backends.prepared import PreparingMixin
from config.backends.reconnect import PatientConnection, ReconnectMixin
from config.liveness import check, is_quiet


class DatabaseWrapper(PreparingMixin, ReconnectMixin, base.DatabaseWrapper):
    """Django's, with a health check that costs no round trip, and with prepared statements. It gives its connection
    back early, and waits for a PgBouncer that is restarted.
    """

    def is_usable(self) -> bool:
        # After an error the socket may be well, and the session not.
        quiet = self.connection is not None and not self.errors_occurred and is_quiet(self.connection)
        return quiet or super().is_usable()

    @property
    def pool(self) -> Any:
        pool = super().pool
        if pool is not None:
            # Not by OPTIONS, in which Django 5.2 takes no `check`. What a user has put there stays.
            options = self.settings_dict["OPTIONS"]["pool"]
            chosen = options if isinstance(options, dict) else {}
            if self.settings_dict["CONN_HEALTH_CHECKS"] and "check" not in chosen:
                pool._check = check
            if pool.connection_class is psycopg.Connection:
                pool.connection_class = PatientConnection
        return pool
