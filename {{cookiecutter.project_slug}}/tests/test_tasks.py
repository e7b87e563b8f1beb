"""Background tasks that carry their request's token into another process: Django's tasks, with a real worker."""

import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from subprocess import Popen
from unittest import mock

import pytest
from django.db import connection, transaction
from django.utils import timezone

from articles.models import Article
from dbrouting import consistency_context, current_token, with_token
from dbrouting.monitor import configured
from ops.devstack import stop

tasks = pytest.importorskip("django.tasks", reason="Django 6.0 is the first with tasks")
pytestmark = pytest.mark.django_db(transaction=True)

APP = "django_tasks_db"
TASKS = {"default": {"BACKEND": f"{APP}.DatabaseBackend"}}


@tasks.task
def find(slug: str, token: str | None) -> tuple[str, bool]:
    """Which database the task reads, and whether the article is there."""
    with with_token(token):
        return Article.objects.all().db, Article.objects.filter(slug=slug).exists()


def write(slug: str) -> None:
    Article.objects.create(title=slug, slug=slug, body="…", author_name="a", published_at=timezone.now())


def outcome(enqueued) -> tuple[str, bool]:
    """What the task returned, when the worker is done with it."""
    deadline = timezone.now() + timedelta(seconds=20)
    while not enqueued.is_finished:
        assert timezone.now() < deadline, enqueued.status
        enqueued.refresh()
    assert enqueued.status == tasks.TaskResultStatus.SUCCESSFUL, enqueued.errors
    return tuple(enqueued.return_value)


@pytest.fixture(autouse=True)
def worker(settings, tmp_path: Path, eventually) -> Iterator[None]:
    """On the test database, and past its first second: a process that has just begun reads the primary."""
    if not settings.DBROUTING["REPLICAS"]:
        pytest.skip("REPLICAS=0: a task reads what there is")
    # Which is true of the worker too, so that there is one name for "a replica".
    settings.DBROUTING = {"REPLICAS": ["replica"]}
    ...
