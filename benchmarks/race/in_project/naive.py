"""The router that Django's documentation shows under "Multiple databases", and many a blog post after it."""

import random
from typing import Any

from django.conf import settings


class PrimaryReplicaRouter:
    def db_for_read(self, model: type, **hints: Any) -> str:
        return random.choice(settings.REPLICA_ALIASES)

    def db_for_write(self, model: type, **hints: Any) -> str:
        return "default"

    def allow_relation(self, one: object, other: object, **hints: Any) -> bool:
        return True

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return db == "default"
