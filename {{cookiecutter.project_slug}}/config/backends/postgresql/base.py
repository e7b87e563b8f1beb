from typing import Any

from django.db.backends.postgresql import base

from config.backends.prepared import PreparingMixin
from config.liveness import check, is_quiet


class DatabaseWrapper(PreparingMixin, base.DatabaseWrapper):
    """Django's, with a health check that costs no round trip, and with prepared statements."""

    def is_usable(self) -> bool:
        # After an error the socket may be well, and the session not.
        quiet = self.connection is not None and not self.errors_occurred and is_quiet(self.connection)
        return quiet or super().is_usable()

    @property
    def pool(self) -> Any:
        pool = super().pool
        # Not by OPTIONS, in which Django 5.2 takes no `check`.
        if pool is not None and self.settings_dict["CONN_HEALTH_CHECKS"]:
            pool._check = check
        return pool
