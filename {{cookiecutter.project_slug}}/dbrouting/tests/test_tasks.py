"""Background tasks see what whoever enqueued them has written: Django's tasks, with a real worker, another process."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from unittest import SkipTest

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction

from dbrouting import consistency_context
from ops.devstack import stop

try:
    from django import tasks
except ImportError:
    # Of unittest: manage.py test imports this file too, and would take pytest's own for an error.
    raise SkipTest("Django 6.0 is the first with tasks") from None
pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}


@tasks.task
def find(name: str) -> tuple[str, bool]:
    """Which database the task reads, and whether the row is there."""
    return ContentType.objects.all().db, ContentType.objects.filter(model=name).exists()


@tasks.task
async def find_async(name: str) -> tuple[str, bool]:
    return ContentType.objects.all().db, await ContentType.objects.filter(model=name).aexists()


@tasks.task
def fail() -> None:
    raise ValueError("of the task")


def write(name: str) -> None:
    ContentType.objects.create(app_label="tests", model=name)


def finished(enqueued: tasks.TaskResult) -> tasks.TaskResult:
    deadline = time.monotonic() + 20
    while not enqueued.is_finished:
        assert time.monotonic() < deadline, enqueued.status
        time.sleep(0.02)
        enqueued.refresh()
    return enqueued


def outcome(enqueued: tasks.TaskResult) -> tuple[str, bool]:
    """What the task returned, when the worker is done with it."""
    assert finished(enqueued).status == tasks.TaskResultStatus.SUCCESSFUL, enqueued.errors
    return tuple(enqueued.return_value)


@pytest.fixture(autouse=True)
def worker(settings, tmp_path: Path, eventually) -> Iterator[None]:
    """A process that runs the tasks, and knows by now where the replicas stand."""
    if not settings.DBROUTING["REPLICAS"]:
        pytest.skip("REPLICAS=0: there is nothing to be behind")
    settings.TASKS = TASKS
    (tmp_path / "worker_settings.py").write_text(
        f"from config.settings import *\nTASKS = {TASKS}\n"
        f"for entry in DATABASES.values():\n    entry['NAME'] = {connection.settings_dict['NAME']!r}\n"
    )
    # The interval: most tasks wait for longer than until the next proof of what a replica has.
    options = ["--settings=worker_settings", f"--pythonpath={tmp_path}", "--interval=0.3", "--no-startup-delay"]
    process = Popen([sys.executable, "manage.py", "db_worker", *options], start_new_session=True)
    try:
        eventually(lambda: outcome(find.enqueue(""))[0].startswith("replica"), patience=20)
        yield
    finally:
        stop(process)


@pytest.mark.parametrize("task", [find, find_async])
def test_a_task_finds_what_its_request_wrote(task, replay_paused, eventually):
    with replay_paused():
        with consistency_context():
            write("mine")
            enqueued = task.enqueue("mine")
        assert outcome(enqueued) == ("default", True)
    # A replica serves whoever demands no more than it has.
    eventually(lambda: outcome(task.enqueue("mine"))[0].startswith("replica"))


def test_a_task_of_a_transaction_finds_what_that_wrote(replay_paused):
    with replay_paused():
        with consistency_context(), transaction.atomic():
            enqueued = find.enqueue("mine")
            write("mine")
        assert outcome(enqueued) == ("default", True)


def test_a_task_that_fails_ends_like_others(eventually):
    failed = finished(fail.enqueue())
    assert failed.status == tasks.TaskResultStatus.FAILED
    assert "ValueError: of the task" in failed.errors[0].traceback
    # The worker goes on: it asks the primary for the next one.
    eventually(lambda: outcome(find.enqueue(""))[0].startswith("replica"))


def test_a_task_from_before_there_were_replicas_reads_the_primary(replay_paused, settings):
    with replay_paused():
        settings.DBROUTING = {**settings.DBROUTING, "REPLICAS": []}
        write("mine")
        enqueued = find.enqueue("mine")
        assert outcome(enqueued) == ("default", True)
