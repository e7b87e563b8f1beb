import sys
from typing import Any

from django.apps import AppConfig, apps
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from dbrouting.conf import config


def _watch(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    """Sent when a connection has been opened, before its first statement."""
    from dbrouting.routers import touch

    # A wrapper outlives reconnects, so it may be there already. In front: execute_wrapper() takes the last away again.
    if connection.alias == config().PRIMARY and touch not in connection.execute_wrappers:
        connection.execute_wrappers.insert(0, touch)


class DbRoutingConfig(AppConfig):
    name = "dbrouting"

    def ready(self) -> None:
        from dbrouting import checks  # noqa: F401
        from dbrouting.monitor import remember_settings

        remember_settings()
        connection_created.connect(_watch)
        if apps.is_installed("django_tasks_db"):
            from dbrouting import tasks

            tasks.connect()
        # A process that the test runner has spawned: it does not configure the aliases that its tests do not name.
        if "django.test" in sys.modules:
            from dbrouting.testing import follow_tests

            follow_tests()
