from django.apps import AppConfig
from django.db.backends.signals import connection_created


class OpsConfig(AppConfig):
    name = "ops"

    def ready(self) -> None:
        from config import querylog
        from ops import checks  # noqa: F401  (registers them)

        connection_created.connect(querylog.watch)
