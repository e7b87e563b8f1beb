"""A developer puts new code into effect while visitors ask for pages."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import MakeStack
from tests.stack.load import Load
from tests.stack.stack import Stack, docker, run
from tests.waiting import eventually

MIGRATION = """
from django.db import migrations

class Migration(migrations.Migration):
    dependencies = [("articles", "0001_initial")]
    operations = [migrations.RunSQL({sql!r}, "")]
"""
TASKS = """
import time

from django.tasks import task

from articles.models import Article


@task
def count(seconds):
    time.sleep(seconds)
    return Article.objects.count()
"""
# It ends when somebody puts a row into this table.
WAITS = "DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM gate) LOOP PERFORM pg_sleep(0.1); END LOOP; END $$"


@pytest.fixture(scope="module")
def stack(make_stack: MakeStack) -> Iterator[Stack]:
    with make_stack() as stack:
        stack.up()
        stack.an_article()
        stack.psql("primary", "CREATE TABLE gate (open int); ALTER TABLE gate OWNER TO owner")
        yield stack


def migration(stack: Stack, name: str, sql: str) -> Path:
    path = stack.project / "articles" / "migrations" / f"{name}.py"
    path.write_text(MIGRATION.format(sql=sql))
    return path


def test_what_is_refused_replaces_nothing(stack: Stack) -> None:
    """Neither by ops/deploy nor, after that, by `docker compose up`."""
    container = stack.inspect("web")["Id"]
    with Load(stack) as load:
        # Code: a migration that fails.
        broken = migration(stack, "0002_broken", "SELECT 1/0")
        done = run("ops/deploy", cwd=stack.project, check=False)
        assert "division by zero" in done.stdout + done.stderr
        assert done.stderr.endswith("Mend what is said above, then run ops/deploy again.\n"), done.stderr
        stack.up()
        broken.unlink()
        # A choice that cannot work.
        stack.edit_env(WEB_WORKER="gevent")
        assert "CONNECTION_STRATEGY=persistent needs lasting threads" in stack.refuses_up()
        assert run("ops/deploy", cwd=stack.project, check=False).returncode == 1
        stack.edit_env(WEB_WORKER="gthread")
        load.asks(100)
    assert load.failures == []
    assert stack.inspect("web")["Id"] == container
    assert "0002_broken" not in stack.psql("primary", "SELECT name FROM django_migrations")


def test_the_old_site_answers_while_a_deploy_migrates(stack: Stack) -> None:
    migration(stack, "0002_waits", WAITS)
    footer = stack.project / "templates" / "_routing.html"
    footer.write_text("the new code\n")
    with subprocess.Popen(["ops/deploy"], cwd=stack.project, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as deploys:
        with Load(stack) as load:
            eventually(lambda: stack.psql("primary", "SELECT count(*) FROM pg_stat_activity WHERE query ~ 'gate LOOP'"))
            load.asks(100)
        assert load.failures == []
        assert "the new code" not in stack.get("/").text
        stack.psql("primary", "INSERT INTO gate VALUES (1)")
        said = deploys.communicate()[1].decode()
    assert deploys.returncode == 0, said
    assert "the new code" in stack.get("/").text
    stack.assert_whole()


def test_a_dump_is_loaded_by_one_command(stack: Stack) -> None:
    dump = '[{"model": "auth.group", "pk": 7, "fields": {"name": "editors", "permissions": []}}]'
    command = ["run", "--rm", "-T", "migrate", "python", "manage.py", "loaddata", "--format=json", "-"]
    assert "Installed 1 object(s)" in stack.compose(*command, stdin=dump).stdout
    made = "from django.contrib.auth.models import Group; print(Group.objects.create(name='authors').pk)"
    assert stack.shell(made) == "8"
    refused = stack.attempt("web", "python", "manage.py", "loaddata", "--format=json", "-", stdin=dump)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "docker compose run --rm migrate python manage.py loaddata" in refused.stderr


def test_a_worker_runs_tasks(stack: Stack) -> None:
    def enqueued(seconds: int) -> str:
        return stack.shell(f"from articles.tasks import count; print(count.enqueue({seconds}).id)")

    def state(task: str) -> str:
        return stack.psql("primary", f"SELECT status FROM django_tasks_database_dbtaskresult WHERE id = '{task}'")

    (stack.project / "articles" / "tasks.py").write_text(TASKS)
    stack.edit_env(TASK_WORKERS="2")
    run("ops/deploy", cwd=stack.project)
    task = enqueued(0)
    eventually(lambda: state(task) == "SUCCESSFUL")
    # Its connections are gone, and it goes on.
    stack.compose("restart", "pgbouncer")
    task = enqueued(0)
    eventually(lambda: state(task) == "SUCCESSFUL")
    # A task that runs ends first.
    task = enqueued(3)
    eventually(lambda: state(task) == "RUNNING")
    stack.compose("stop", "worker")
    assert state(task) == "SUCCESSFUL"
    # Without a worker nothing waits for one.
    stack.edit_env(TASK_WORKERS="0")
    run("ops/deploy", cwd=stack.project)
    assert stack.compose("ps", "--all", "--quiet", "worker").stdout == ""
    assert stack.shell("from articles.tasks import count; print(count.enqueue(0).status)") == "SUCCESSFUL"
    stack.assert_whole()


def test_a_new_replica_copies_first_and_the_site_stops_before_pgbouncer(stack: Stack) -> None:
    """The other way round the site's last requests would wait for a PgBouncer that waits for Compose."""
    of_ours = ["--filter", "type=container", "--filter", f"label=com.docker.compose.project={stack.slug}"]
    each = '{{.Action}} {{index .Actor.Attributes "com.docker.compose.service"}}'
    began = time.time()
    stack.edit_env(REPLICAS="2", POOL_MODE="session")
    run("ops/deploy", cwd=stack.project)
    events = docker(
        "events", "--since", f"{began}", "--until", f"{time.time()}", *of_ours, "--format", each
    ).splitlines()
    order = ["health_status: healthy replica-2", "die web", "kill pgbouncer", "start web"]
    assert sorted(order, key=events.index) == order, events
    stack.assert_whole()
