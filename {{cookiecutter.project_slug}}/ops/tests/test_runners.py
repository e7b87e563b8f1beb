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

ROOT_URLCONF = "dbrouting.tests.pages"

# Beside the database of the tests that are running.
DATABASES["default"]["TEST"] = dict(NAME="{name}")
{more}
"""
# As on macOS and Windows, and what Python 3.14 does (forkserver) is the same to Django.
SPAWN = "import multiprocessing; multiprocessing.set_start_method('spawn', force=True)"

UNITTESTS = """
import time
from urllib.request import urlopen

from django.contrib.auth.models import Group
from django.db import DatabaseError
from django.test import LiveServerTestCase, SimpleTestCase, TestCase, TransactionTestCase
from django.test.testcases import DatabaseOperationForbidden

from dbrouting.conf import config
from dbrouting.monitor import monitor


PAGE = "/groups/"


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, monitor.report()
        time.sleep(0.02)


def replicas_would_be_read():
    # Without nodes, nothing will be read but the primary.
    return all(state == "up" for state in monitor.report()["nodes"].values())


def group():
    return Group.objects.create(name="the new one")


def aliases(page):
    return {answers.alias for answers in page.context["routing"].answers.values() if answers.count}


class OneTest:
    def test_its_pages_show_what_it_has_just_made(self):
        until(replicas_would_be_read)
        for _ in range(5):
            created = group()
            page = self.client.get(PAGE)
            self.assertContains(page, created.name)
            self.assertEqual(aliases(page), {"default"})
            created.delete()

    def test_what_names_the_replica_is_forbidden(self):
        with self.assertRaisesMessage(DatabaseOperationForbidden, "'replica'"):
            Group.objects.using("replica").count()


class PlainTest(OneTest, TestCase):
    pass


class PlainTestOfBoth(TestCase):
    databases = {"default", "replica"}

    def test_it_sees_its_own_rows(self):
        until(replicas_would_be_read)
        created = group()
        page = self.client.get(PAGE)
        self.assertContains(page, created.name)
        self.assertEqual(aliases(page), {"default"})


class TransactionTest(OneTest, TransactionTestCase):
    pass


class LiveTest(LiveServerTestCase):
    def test_its_pages_show_what_it_has_just_made(self):
        until(replicas_would_be_read)
        for _ in range(5):
            created = group()
            with urlopen(self.live_server_url + PAGE) as page:
                self.assertIn(created.name, page.read().decode())
            created.delete()


class ReplicaTest(TransactionTestCase):
    databases = {"default", "replica"}

    def test_the_page_comes_from_the_replica(self):
        created = group()
        until(lambda: aliases(self.client.get(PAGE)) == {"replica"})
        until(Group.objects.using("replica").filter(pk=created.pk).exists)


class EveryDatabaseTest(TransactionTestCase):
    databases = "__all__"

    def test_a_replica_is_read(self):
        until(lambda: "default" not in aliases(self.client.get(PAGE)))


class ReplicaLiveTest(LiveServerTestCase):
    databases = {"default", "replica"}

    def test_the_page_comes_from_the_replica(self):
        def page_is_from_the_replica():
            before = monitor.counts["no token"]
            urlopen(self.live_server_url + PAGE).close()
            return monitor.counts["no token"] > before

        until(page_is_from_the_replica)


class SimpleTest(SimpleTestCase):
    def test_a_page_without_rows(self):
        self.assertEqual(self.client.get("/livez").status_code, 200)

    def test_no_database_is_allowed(self):
        # Which it would have asked, depends: pytest has looked up this class's setUpClass before there is a replica.
        with self.assertRaises(DatabaseOperationForbidden):
            self.client.get(PAGE)


class ZAgain(TransactionTest):
    "After those that have read a replica."
"""
TESTS = 13

FUNCTIONS = """
from urllib.request import urlopen

import pytest

from trial.tests import PAGE, aliases, group, replicas_would_be_read, until


@pytest.mark.django_db
def test_plain(client):
    until(replicas_would_be_read)
    created = group()
    page = client.get(PAGE)
    assert created.name in page.text
    assert aliases(page) == {"default"}


@pytest.mark.django_db(databases=["default", "replica"], transaction=True)
def test_replica(client):
    until(lambda: aliases(client.get(PAGE)) == {"replica"})


@pytest.mark.django_db(transaction=True)
def test_transaction(client):
    until(replicas_would_be_read)
    created = group()
    page = client.get(PAGE)
    assert created.name in page.text
    assert aliases(page) == {"default"}


def test_live(live_server):
    until(replicas_would_be_read)
    created = group()
    with urlopen(live_server.url + PAGE) as page:
        assert created.name in page.read().decode()


@pytest.fixture(params=["replica", "replica again"])
def name(request):
    return request.param


@pytest.mark.django_db(databases=["default", "replica"], transaction=True)
def test_replica_once_more(client, name):
    until(lambda: aliases(client.get(PAGE)) == {"replica"})
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
