"""A person changes .env and runs `docker compose up` again. Each test leaves the stack as it was."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.stack.stack import ComposeError, Stack
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


def test_another_number_of_replicas(stack: Stack) -> None:
    with edited(stack, REPLICAS="2"):
        stack.up()
        stack.assert_whole(comment="survives")
        assert "replica_2" in stack.get("/readyz").text
        stack.compose("rm", "--stop", "--force", "replica-2")
    # Its slot is gone too: nobody would read it, and it would keep WAL.
    assert stack.psql("primary", "SELECT string_agg(slot_name, ',') FROM pg_replication_slots") == "replica_1"


def test_synchronous_commit_local_releases_writes_that_wait_for_a_replica_that_is_gone(stack: Stack) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    with edited(stack, SYNCHRONOUS_COMMIT="on"), ThreadPoolExecutor() as visitor:
        stack.up()
        stack.compose("stop", "replica-1")
        write = "INSERT INTO articles_comment (article_id, author_name, body, created_at)"
        row = "SELECT min(id), 'x', 'waits', now() FROM articles_article"
        written = visitor.submit(
            stack.attempt, "primary", "psql", "-Upostgres", "-d", stack.slug, "-c", f"{write} {row}"
        )
        eventually(lambda: stack.psql("primary", waiting) == "1")
        assert not written.done()
        stack.edit_env(SYNCHRONOUS_COMMIT="local")
        # With no other service named, the replica would start too, and release the write itself.
        stack.up("web")
        assert "replica-1" not in stack.running()
        written.result()
        stack.comment("waits no longer")
        # It was committed on the primary, where it waited only for the replica.
        assert stack.comments("primary", "waits") == 1


# Edits that cannot work -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [("WEB_WORKER", "asgi", "WEB_WORKER=asgi has none"), ("WEB_WORKERS", "100", "The site may open 1100")],
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
            eventually(lambda node=node: "Set PRIMARY_HOST in .env again." in stack.logs(node))
