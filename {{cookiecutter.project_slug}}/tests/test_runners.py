"""Both test runners, on an app as Django's documentation writes it, which this project's conftest.py does not reach."""

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

SETTINGS = """
from config.settings import *

# Beside the database of the tests that are running.
DATABASES["default"]["TEST"] = dict(NAME="{name}")
{more}
"""
# As on macOS and Windows, and what Python 3.14 does (forkserver) is the same to Django.
SPAWN = "import multiprocessing; multiprocessing.set_start_method('spawn', force=True)"

UNITTESTS = """
import time
from datetime import timedelta
from urllib.request import urlopen

from django.db import DatabaseError
from django.test import LiveServerTestCase, SimpleTestCase, TestCase, TransactionTestCase
from django.test.testcases import DatabaseOperationForbidden
from django.utils import timezone

from articles.models import Article
from dbrouting.conf import config
from dbrouting.monitor import monitor


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, monitor.report()
        time.sleep(0.02)


def replicas_would_be_read():
    # Without nodes, nothing will be read but the primary.
    return all(state == "up" for state in monitor.report()["nodes"].values())


def article():
    yesterday = timezone.now() - timedelta(days=1)
    return Article.objects.create(title="new", slug="new", body="x", author_name="a", published_at=yesterday)


def aliases(page):
    return {query.alias for query in page.context["query_log"].queries}


class OneTest:
    def test_its_pages_show_what_it_has_just_made(self):
        until(replicas_would_be_read)
        for _ in range(5):
            created = article()
            page = self.client.get(created.get_absolute_url())
            self.assertEqual((page.status_code, aliases(page)), (200, {"default"}))
            created.delete()

    def test_what_names_the_replica_is_forbidden(self):
        with self.assertRaisesMessage(DatabaseOperationForbidden, "'replica'"):
            Article.objects.using("replica").count()


class PlainTest(OneTest, TestCase):
    pass


class PlainTestOfBoth(TestCase):
    databases = {"default", "replica"}

    def test_it_sees_its_own_rows(self):
        until(replicas_would_be_read)
        self.assertEqual(aliases(self.client.get(article().get_absolute_url())), {"default"})


class TransactionTest(OneTest, TransactionTestCase):
    pass


class LiveTest(LiveServerTestCase):
    def test_its_pages_show_what_it_has_just_made(self):
        until(replicas_would_be_read)
        for _ in range(5):
            created = article()
            with urlopen(self.live_server_url + created.get_absolute_url()) as page:
                self.assertEqual(page.status, 200)
            created.delete()


class ReplicaTest(TransactionTestCase):
    databases = {"default", "replica"}

    def test_the_page_comes_from_the_replica(self):
        created = article()
        until(lambda: aliases(self.client.get("/")) == {"replica"})
        until(Article.objects.using("replica").filter(pk=created.pk).exists)


class EveryDatabaseTest(TransactionTestCase):
    databases = "__all__"

    def test_a_replica_is_read(self):
        until(lambda: "default" not in aliases(self.client.get("/")))


class ReplicaLiveTest(LiveServerTestCase):
    databases = {"default", "replica"}

    def test_the_page_comes_from_the_replica(self):
        def page_is_from_the_replica():
            before = monitor.counts["replica"]
            urlopen(self.live_server_url).close()
            return monitor.counts["replica"] > before

        until(page_is_from_the_replica)


class SimpleTest(SimpleTestCase):
    def test_a_page_without_rows(self):
        self.assertEqual(self.client.get("/livez").status_code, 200)

    def test_no_database_is_allowed(self):
        # Which it would have asked, depends: pytest has looked up this class's setUpClass before there is a replica.
        with self.assertRaises(DatabaseOperationForbidden):
            self.client.get("/")


class ZAgain(TransactionTest):
    "After those that have read a replica."
"""
TESTS = 13

FUNCTIONS = """
from urllib.request import urlopen

import pytest

from trial.tests import aliases, article, replicas_would_be_read, until


@pytest.mark.django_db
def test_plain(client):
    until(replicas_would_be_read)
    assert aliases(client.get(article().get_absolute_url())) == {"default"}


@pytest.mark.django_db(databases=["default", "replica"], transaction=True)
def test_replica(client):
    until(lambda: aliases(client.get("/")) == {"replica"})


@pytest.mark.django_db(transaction=True)
def test_transaction(client):
    until(replicas_would_be_read)
    assert aliases(client.get(article().get_absolute_url())) == {"default"}


def test_live(live_server):
    until(replicas_would_be_read)
    with urlopen(live_server.url + article().get_absolute_url()) as page:
        assert page.status == 200


@pytest.fixture(params=["replica", "replica again"])
def name(request):
    return request.param


@pytest.mark.django_db(databases=["default", "replica"], transaction=True)
def test_replica_once_more(client, name):
    until(lambda: aliases(client.get("/")) == {"replica"})
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    if not settings.DBROUTING["REPLICAS"]:
        pytest.skip("REPLICAS=0: there is nothing to route")
    directory = tmp_path / "trial"
    directory.mkdir()
    (directory / "__init__.py").touch()
    (directory / "tests.py").write_text(UNITTESTS)
    return directory


def run(app: Path, *command: str | Path, more: str = "") -> str:
    """The command's output, with the test database as its own."""
    text = SETTINGS.format(name=f"test_trial_{secrets.token_hex(4)}", more=more)
    (app.parent / "trial_settings.py").write_text(text)
    # config.settings reads DATABASE_URL and the like from the environment of these tests.
    env = os.environ | {
        "DJANGO_SETTINGS_MODULE": "trial_settings",
        "PYTHONPATH": os.pathsep.join([str(app.parent), str(settings.BASE_DIR)]),
    }
    done = subprocess.run([sys.executable, *command], cwd=app.parent, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "more"), [([], ""), (["--parallel", "2"], SPAWN)], ids=["one process", "spawned processes"]
)
def test_manage_py_test(app: Path, arguments: list[str], more: str):
    said = run(app, settings.BASE_DIR / "manage.py", "test", "trial", *arguments, more=more)
    assert f"Ran {TESTS} tests" in said


def test_pytest(app: Path):
    (app / "test_functions.py").write_text(FUNCTIONS)
    (app.parent / "pytest.ini").write_text("[pytest]\n")
    said = run(app, "-m", "pytest", app / "tests.py", app / "test_functions.py")
    assert f"{TESTS + 6} passed" in said
