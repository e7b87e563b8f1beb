"""Tasks of django-tasks-db carry what they must see: at least what whoever enqueued them had seen and written.

So a task reads a replica that has all of that, otherwise the primary. One that was enqueued before there were replicas
has no token, and reads the primary.
"""

from contextlib import ExitStack
from typing import Any

from django.db.models.signals import pre_save
from django_tasks_db.compat import task_finished, task_started
from django_tasks_db.models import DBTaskResult

from dbrouting.conf import config
from dbrouting.context import current_token, with_token

# Beside `args` and `kwargs`, which are all that the worker looks for in the column.
TOKEN = "dbrouting_token"

# A worker runs one task at a time, in its only thread.
_running = ExitStack()


def _enqueued(instance: DBTaskResult[Any, Any], raw: bool, **kwargs: Any) -> None:
    if instance._state.adding and not raw and config().REPLICAS:
        instance.args_kwargs[TOKEN] = current_token()


def _started(task_result: Any, **kwargs: Any) -> None:
    if not hasattr(task_result, "db_result"):
        return  # of another backend, such as one that runs it at once, perhaps inside ours
    if token := task_result.db_result.args_kwargs.get(TOKEN):
        _running.enter_context(with_token(token))


def _finished(task_result: Any, **kwargs: Any) -> None:
    if hasattr(task_result, "db_result"):
        _running.close()


def connect() -> None:
    """To be called when the apps are ready."""
    pre_save.connect(_enqueued, sender=DBTaskResult)
    # From any sender: the worker names its backend here by its class, and there by an instance.
    task_started.connect(_started)
    task_finished.connect(_finished)
