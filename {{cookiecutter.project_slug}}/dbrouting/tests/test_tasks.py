"""Background tasks that carry their request's token into another process: Django's tasks, with a real worker."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from unittest import SkipTest

import pytest
from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction

from dbrouting import consistency_context, current_token, with_token
from ops.devstack import stop

try:
    from django import tasks
except ImportError:
    # Of unittest: manage.py test imports this file too, and would take pytest's own for an error.
    raise SkipTest("Django 6.0 is the first with tasks") from None
pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

APP = "django_tasks_db"
TASKS = {"default": {"BACKEND": f"{APP}.DatabaseBackend"}}


@tasks.task
def find(name: str, token: str | None) -> tuple[str, bool]:
    """Which database the task reads, and whether the row is there."""
    with with_token(token):
        return ContentType.objects.all().db, ContentType.objects.filter(model=name).exists()


def write(name: str) -> None:
    ContentType.objects.create(app_label="tests", model=name)


def outcome(enqueued) -> tuple[str, bool]:
    """What the task returned, when the worker is done with it."""
    deadline = time.monotonic() + 20
    while not enqueued.is_finished:
        assert time.monotonic() < deadline, enqueued.status
        time.sleep(0.02)
        enqueued.refresh()
    assert enqueued.status == tasks.TaskResultStatus.SUCCESSFUL, enqueued.errors
    return tuple(enqueued.return_value)


@pytest.fixture(autouse=True)
def worker(settings, tmp_path: Path, eventually) -> Iterator[None]:
    """A process that runs the tasks, and knows by now where the replicas stand."""
    if not settings.DBROUTING["REPLICAS"]:
        pytest.skip("REPLICAS=0: there is nothing to be behind")
    # The table is a package's for development: it exists while this runs. Two apps are all it takes here.
    settings.INSTALLED_APPS = ["django.contrib.contenttypes", APP]
    settings.TASKS = TASKS
    (table,) = apps.get_app_config("django_tasks_database").get_models()
    with connection.schema_editor() as editor:
        editor.create_model(table)
    (tmp_path / "worker_settings.py").write_text(
        f"from config.settings import *\nINSTALLED_APPS += [{APP!r}]\nTASKS = {TASKS}\n"
        f"for entry in DATABASES.values():\n    entry['NAME'] = {connection.settings_dict['NAME']!r}\n"
    )
    options = ["--settings=worker_settings", f"--pythonpath={tmp_path}", "--interval=0.05", "--no-startup-delay"]
    process = Popen([sys.executable, "manage.py", "db_worker", *options], start_new_session=True)
    try:
        eventually(lambda: outcome(find.enqueue("", None))[0].startswith("replica"), patience=20)
        yield
    finally:
        stop(process)
        with connection.schema_editor() as editor:
            editor.delete_model(table)


def test_a_task_finds_what_its_request_wrote(replay_paused, eventually):
    with replay_paused():
        with consistency_context():
            write("mine")
            token = current_token()
            enqueued = find.enqueue("mine", token)
        assert outcome(enqueued) == ("default", True)
        # Who demands nothing is served by a replica, which has nothing.
        eventually(lambda: outcome(find.enqueue("mine", None))[1] is False)
    eventually(lambda: outcome(find.enqueue("mine", token))[0].startswith("replica"))
    assert outcome(find.enqueue("mine", token))[1]


def test_a_task_of_a_transaction_takes_its_token_at_the_commit(replay_paused):
    """Before, there is no position that it could stand for."""
    enqueued = []
    with replay_paused():
        with consistency_context(), transaction.atomic():
            write("mine")
            transaction.on_commit(lambda: enqueued.append(find.enqueue("mine", current_token())))
        assert outcome(enqueued[0]) == ("default", True)
