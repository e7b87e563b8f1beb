"""A person changes .env and runs `docker compose up` again. Each test leaves the stack as it was."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.stack.stack import ComposeError, Stack, run
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("the_row_survives")


@pytest.fixture
def stack(lived_in_stack: Stack) -> Stack:
    return lived_in_stack


@contextmanager
def edited(stack: Stack, **values: str) -> Iterator[None]:
    """.env holds these values inside. At the end it is as before, and what runs follows."""
    before = {name: stack.env(name) for name in values}
    stack.edit_env(**values)
    try:
        yield
    finally:
        stack.edit_env(**before)
        stack.up()


# Edits that work ------------------------------------------------------------------------------------------------------


def test_another_pool_mode_takes_effect_without_generating_again(stack: Stack) -> None:
    def modes() -> dict[str, str]:
        rows = stack.pgbouncer("SHOW DATABASES")
        return {row["name"]: row["pool_mode"] for row in rows if row["name"] != "pgbouncer"}

    cursors = "from django.conf import settings; print(settings.DATABASES['default']['DISABLE_SERVER_SIDE_CURSORS'])"
    with edited(stack, POOL_MODE="session"):
        stack.up()
        assert modes() == {stack.slug: "session", "replica_1": "session"}
        assert stack.shell(cursors) == "False"
        stack.edit_env(POOL_MODE="statement")
        stack.up()
        assert modes() == {stack.slug: "transaction", "replica_1": "statement"}
        assert stack.shell(cursors) == "True"
    assert modes() == {stack.slug: "transaction", "replica_1": "transaction"}


def test_a_restart_of_pgbouncer_in_session_mode_does_not_wait_long_for_its_clients(stack: Stack) -> None:
    """The site's clients stay, and while PgBouncer waits for them it lets nobody in. Docker kills it after 3 s."""
    with edited(stack, POOL_MODE="session"):
        stack.up()
        eventually(stack.ready)
        assert stack.inspect("pgbouncer")["Config"]["StopTimeout"] == 3
        stack.compose("restart", "--no-deps", "pgbouncer")
        eventually(stack.ready)


def test_another_number_of_replicas_leaves_the_primary_alone(stack: Stack) -> None:
    primary = stack.inspect("primary")["Id"]
    with edited(stack, REPLICAS="2"):
        stack.up()
        stack.assert_whole(comment="survives")
        assert "replica_2" in stack.get("/readyz").text
        refused = run("ops/remove-replica", "replica-2", cwd=stack.project, check=False)
        assert refused.returncode == 1
        assert "Lower REPLICAS in .env first" in refused.stderr
    run("ops/remove-replica", "replica-2", cwd=stack.project)
    assert "replica-2" not in stack.running()
    # Nobody would read its slot, and it would keep WAL.
    assert stack.psql("primary", "SELECT string_agg(slot_name, ',') FROM pg_replication_slots") == "replica_1"
    assert stack.inspect("primary")["Id"] == primary


def test_an_edit_of_the_site_leaves_the_nodes_and_pgbouncer_alone(stack: Stack) -> None:
    others = ("primary", "replica-1", "pgbouncer")
    before = [stack.inspect(service)["Id"] for service in others]
    with edited(stack, LOG_LEVEL="WARNING", SITE_URL="http://localhost:8000", WEB_WORKERS="1"):
        stack.up()
        assert stack.exec("web", "printenv", "LOG_LEVEL") == "WARNING"
        assert [stack.inspect(service)["Id"] for service in others] == before


def test_synchronous_commit_local_releases_writes_that_wait_for_replicas_that_are_gone(stack: Stack) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    with edited(stack, REPLICAS="2", SYNCHRONOUS_COMMIT="on"), ThreadPoolExecutor() as visitor:
        stack.up()
        # One replica is enough.
        stack.compose("stop", "replica-1")
        stack.comment("waits for the other")
        stack.compose("stop", "replica-2")
        write = "INSERT INTO articles_comment (article_id, author_name, body, created_at)"
        row = "SELECT min(id), 'x', 'waits', now() FROM articles_article"
        written = visitor.submit(
            stack.attempt, "primary", "psql", "-Upostgres", "-d", stack.slug, "-c", f"{write} {row}"
        )
        eventually(lambda: stack.psql("primary", waiting) == "1")
        assert not written.done()
        stack.edit_env(SYNCHRONOUS_COMMIT="local")
        # With no other service named, the replicas would start too, and release the write themselves.
        stack.up("web")
        assert not {"replica-1", "replica-2"} & set(stack.running())
        written.result()
        stack.comment("waits no longer")
        # It was committed on the primary, where it waited only for a replica.
        assert stack.comments("primary", "waits") == 1
    run("ops/remove-replica", "replica-2", cwd=stack.project)


def test_the_nodes_settings_follow_their_memory(stack: Stack) -> None:
    with edited(stack, NODE_MEMORY="512m"):
        stack.up()
        for node in ("primary", "replica-1"):
            assert stack.inspect(node)["HostConfig"]["Memory"] == 512 * 1024**2
            assert stack.inspect(node)["HostConfig"]["ShmSize"] == 512 * 1024**2
            assert stack.facts(
                node, **{name: f"current_setting('{name}')" for name in ("shared_buffers", "work_mem")}
            ) == {"shared_buffers": "128MB", "work_mem": "2MB"}


def test_slow_statements_stay_out_of_the_log_if_env_says_so(stack: Stack) -> None:
    sleep = "import django.db; django.db.connection.cursor().execute(\"SELECT 'a visitor', pg_sleep(0.15)\")"
    stack.shell(sleep)
    eventually(lambda: "SELECT 'a visitor', pg_sleep(0.15)" in stack.logs("primary"))
    with edited(stack, LOG_SLOW_STATEMENTS="off"):
        stack.up()
        stack.shell(sleep)
        assert "a visitor" not in stack.logs("primary")
        assert "SELECT $1, pg_sleep" in stack.psql("primary", "SELECT query FROM pg_stat_statements")


def test_postgresqls_log_holds_no_row_that_an_error_is_about(stack: Stack) -> None:
    """Its sentence is there, for whoever looks for the cause."""
    insert = "INSERT INTO django_session VALUES ('its key', 'what nobody may read', now())"
    code = f'import django.db; django.db.connection.cursor().execute("{insert}")'
    stack.shell(code)
    for failing in (code, code.replace("now()", "NULL"), code.replace("its key", "x" * 41)):
        with pytest.raises(ComposeError):
            stack.shell(failing)
    stack.psql("primary", "DELETE FROM django_session WHERE session_key = 'its key'")

    def logged() -> str:
        return stack.logs("primary")

    eventually(lambda: "duplicate key value violates unique constraint" in logged() and "violates not-null" in logged())
    assert "what nobody may read" not in logged() and "its key" not in logged()


# Edits that cannot work -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("WEB_WORKER", "asgi", "WEB_WORKER=asgi has none"),
        ("WEB_WORKERS", "100", "The site may open 1100"),
        ("SYNCHRONOUS_COMMIT", "on", "SYNCHRONOUS_COMMIT=on needs two replicas, and REPLICAS is 1"),
        ("NODE_MEMORY", "100m", "NODE_MEMORY=100m is no size for a node"),
        ("CACHE_BACKEND", "valky", "CACHE_BACKEND=valky is no cache"),
        ("PRIMARY_HOST", "replica-2", "PRIMARY_HOST=replica-2 is no node that runs with REPLICAS=1"),
    ],
)
def test_an_edit_that_cannot_work_replaces_nothing(stack: Stack, name: str, value: str, told: str) -> None:
    before = {service: stack.inspect(service)["Id"] for service in stack.running()}
    with edited(stack, **{name: value}):
        assert told in stack.refuses_up()
        assert {service: stack.inspect(service)["Id"] for service in stack.running()} == before


@pytest.mark.parametrize(
    ("choices", "told"),
    [
        (
            {"POOL_MODE": "session", "POOL_SIZE": "30"},
            [
                "(ops.E011) PgBouncer pools default with POOL_MODE=transaction, and .env says session.",
                "(ops.E011) PgBouncer pools default with POOL_SIZE=20, and .env says 30.",
            ],
        ),
        (
            {"WEB_WORKERS": "100", "POOL_SIZE": "90"},
            [
                "(ops.E005) The site may open 1100",
                "(ops.E015) default, as it runs: The site may open 1100",
                "(ops.E006) PgBouncer may open 95",
                "(ops.E016) default, as it runs: PgBouncer may open 95",
            ],
        ),
        (
            {"POOL_MODE": "session", "CONNECTION_STRATEGY": "pool", "WEB_WORKERS": "5"},
            [
                "(ops.E007) In session mode idle connections keep 25",
                "(ops.E017) default, as it runs: In session mode",
            ],
        ),
    ],
)
def test_a_choice_that_what_runs_does_not_fit_is_told(stack: Stack, choices: dict[str, str], told: list[str]) -> None:
    with pytest.raises(ComposeError) as error:
        stack.manage("check", "--database", "default", **choices)
    for message in told:
        assert message in str(error.value)


@pytest.mark.parametrize(
    ("setting", "told"),
    [("max_connections = 30", "30, 3 of them reserved"), ("reserved_connections = 80", "100, 83 of them reserved")],
)
def test_a_server_that_the_choices_do_not_fit_is_told(stack: Stack, setting: str, told: str) -> None:
    """The files say 100 sessions, 3 of them reserved; somebody has changed the node itself."""
    stack.psql("primary", f"ALTER SYSTEM SET {setting}")
    stack.compose("restart", "primary")
    stack.up()
    message = rf"\(ops\.E016\) default, as it runs: PgBouncer may open 25 connections to a node .*, which has {told}"
    with pytest.raises(ComposeError, match=message):
        stack.manage("check", "--database", "default")
    stack.psql("primary", "ALTER SYSTEM RESET ALL")
    stack.compose("restart", "primary")
    stack.up()
    assert "no issues" in stack.manage("check", "--database", "default")


def test_another_major_version_is_refused_and_told_why(stack: Stack) -> None:
    with edited(stack, POSTGRES_VERSION="17"):
        stack.refuses_up()
        told = stack.logs("primary")
        assert "the volume holds data of PostgreSQL 18" in told
        assert "Set POSTGRES_VERSION=18 in .env again" in told


def test_a_role_does_not_change_by_accident(stack: Stack) -> None:
    """PRIMARY_HOST names another node: neither may the replica's volume take writes, nor the primary's follow."""
    with edited(stack, PRIMARY_HOST="replica-1"):
        stack.refuses_up("primary", "replica-1")
        for node in ("primary", "replica-1"):
            eventually(lambda node=node: "et PRIMARY_HOST in .env to" in stack.logs(node))
