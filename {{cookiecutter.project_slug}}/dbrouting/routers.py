"""The read/write router: writes to the primary, reads to a replica where that cannot be told from the primary.

What this version does not know yet: what the visitor wrote in *earlier* requests (straight after a write, the next page
may come from a replica that has not replayed it), and a write that names its database itself, `using("default")` or a
cursor, for which Django asks no router.
"""

import random
from typing import Any

from django.conf import settings
from django.db import connections
from django.db.models import Model

from dbrouting.context import current_context

PRIMARY = "default"


class ReadWriteRouter:
    """For DATABASE_ROUTERS. Reads `DBROUTING = {"REPLICAS": [alias, …], "PRIMARY_ONLY_APPS": [label, …]}`."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str:
        """A replica's alias, unless one of these holds, in this order:

        there is no replica, or no request · the model's app is primary-only · the primary is in an `atomic()` block ·
        the request has written, or its method says that it will.
        """
        context = current_context()
        replicas: list[str] = settings.DBROUTING["REPLICAS"]
        if context is None or not replicas:
            return PRIMARY
        if model._meta.app_label in settings.DBROUTING["PRIMARY_ONLY_APPS"]:
            return PRIMARY
        # Django asks no router about atomic(): what a transaction has written only its own connection sees.
        if connections[PRIMARY].in_atomic_block:
            return PRIMARY
        if context.dirty or not context.safe:
            return PRIMARY
        if context.replica is None:
            context.replica = random.choice(replicas)
        return context.replica

    def db_for_write(self, model: type[Model], **hints: Any) -> str:
        """The primary, which from here on also serves this request's reads."""
        if (context := current_context()) is not None:
            context.dirty = True
        return PRIMARY

    def allow_relation(self, one: Model, other: Model, **hints: Any) -> bool | None:
        """Between these aliases always: all are copies of one database. About others it has no opinion."""
        ours = {PRIMARY, *settings.DBROUTING["REPLICAS"]}
        return True if {one._state.db or PRIMARY, other._state.db or PRIMARY} <= ours else None

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        """Never on a replica, which gets its schema by replication. About others it has no opinion."""
        return False if db in settings.DBROUTING["REPLICAS"] else None
