"""Nodes stop, die, lose their data, and come back. Each test leaves a stack that is whole."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.stack.stack import Stack, docker
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("the_row_survives")

HEALTH = "/etc/postgresql/healthcheck.sh"
STOPPED = ("primary", "replica-1", "pgbouncer", "web")
AWAY = "the primary is away: serving what was replayed until then\n"


@pytest.fixture
def stack(lived_in_stack: Stack) -> Stack:
    return lived_in_stack


def test_restart(stack: Stack) -> None:
    stack.compose("restart")
    stack.up()


def test_down_and_up(stack: Stack) -> None:
    stack.compose("down")
    assert stack.running() == []
    stack.up()


def test_a_stop_is_clean(stack: Stack) -> None:
    """No node is killed at the end of its grace period, and none has to recover when it starts again."""
    stack.compose("stop")
    codes = {service: stack.inspect(service)["State"]["ExitCode"] for service in STOPPED}
    assert codes == dict.fromkeys(codes, 0)
    stack.up()
    last_start = stack.logs("primary").rsplit("starting PostgreSQL", 1)[1]
    assert "database system was shut down" in last_start
    assert "not properly shut down" not in last_start


def test_a_killed_primary_comes_back_with_its_data(stack: Stack) -> None:
    docker("kill", stack.container("primary"))
    stack.up()


def test_a_node_that_was_frozen_does_not_tell_of_an_attack(stack: Stack) -> None:
    """It reads at once what PgBouncer had sent before it gave up."""

    def given_up() -> int:
        return stack.logs("pgbouncer").count("connect timeout")

    before = given_up()
    with stack.paused("replica-1"):
        eventually(lambda: given_up() > before)
    stack.recovers("replica-1")
    eventually(stack.ready)
    assert "man-in-the-middle" not in stack.logs("replica-1")


def test_a_process_that_a_health_check_leaves_behind_does_not_restart_postgresql(stack: Stack) -> None:
    """A process without a parent goes to process 1. PostgreSQL in that place takes its end for the crash of a backend."""
    for node in ("primary", "replica-1"):
        left = stack.exec(node, "bash", "-c", "(sleep 0.5; exit 2) >/dev/null 2>&1 & echo $!")
        eventually(lambda node=node, left=left: stack.attempt(node, "test", "-e", f"/proc/{left}").returncode != 0)
        assert stack.psql(node, "SELECT 1") == "1"
    assert "terminating any other active server processes" not in stack.logs("primary", "replica-1")


def test_two_servers_never_share_a_volume(stack: Stack) -> None:
    done = stack.compose("run", "--rm", "--no-deps", "-e", "NODE_NAME=primary", "primary", check=False)
    assert done.returncode == 1
    assert "another server runs on" in done.stderr + done.stdout


# What the site and the health checks say ------------------------------------------------------------------------------


def test_a_missing_replica_is_degraded_not_failed(stack: Stack) -> None:
    stack.compose("stop", "replica-1")
    answer = eventually(lambda: (found := stack.get("/readyz")).json()["status"] == "degraded" and found)
    assert (answer.status_code, answer.json()["databases"]["default"]) == (200, "ok")
    stack.up()


def test_a_missing_primary_makes_the_site_not_ready_but_alive_and_nobody_else_unhealthy(stack: Stack) -> None:
    """`up --wait` gives up at once on a container that is unhealthy when it looks, so it could not bring the primary back."""
    stack.compose("stop", "primary")

    def answers() -> set[tuple[int, str]]:
        """Of both workers: each tells what it found within the last second."""
        return {(found.status_code, found.json()["status"]) for found in (stack.get("/readyz") for _ in range(8))}

    eventually(lambda: answers() == {(503, "unavailable")})
    assert stack.get("/livez").status_code == 200
    eventually(lambda: stack.attempt("replica-1", HEALTH).stdout == AWAY)
    eventually(lambda: stack.attempt("pgbouncer", "pgbouncer-healthcheck").stdout.startswith("the primary is away"))
    for service, check in {"replica-1": HEALTH, "pgbouncer": "pgbouncer-healthcheck"}.items():
        assert stack.attempt(service, check).returncode == 0
    # A PgBouncer that does not run is unhealthy all the same,
    alone = ["run", "--rm", "--no-deps", "--entrypoint", "pgbouncer-healthcheck", "pgbouncer"]
    assert stack.compose(*alone, check=False).returncode != 0
    stack.up()
    # and so is one that lets no query through to a primary that is there.
    assert stack.attempt("pgbouncer", "pgbouncer-healthcheck", DATABASE_NAME="nosuch").returncode != 0


def test_a_replica_that_does_not_stream_is_unhealthy(stack: Stack) -> None:
    """Although its receiver streams for an instant in each attempt."""
    # The command line wins over ALTER SYSTEM: the choices are in .env, and nowhere else.
    stack.psql("replica-1", "ALTER SYSTEM SET primary_conninfo = 'host=nobody'; SELECT pg_reload_conf()")
    assert stack.exec("replica-1", HEALTH) == "ok"
    stack.psql("replica-1", "ALTER SYSTEM RESET primary_conninfo")
    stack.drop_slot("replica_1")
    eventually(lambda: stack.attempt("replica-1", HEALTH).stdout.startswith("no WAL receiver streams"))
    assert {stack.attempt("replica-1", HEALTH).returncode for _ in range(20)} == {1}
    # Each start of a replica makes sure of its slot.
    stack.compose("restart", "replica-1")
    stack.up()


def test_a_replica_that_lags_is_unhealthy(stack: Stack) -> None:
    stack.psql("replica-1", "SELECT pg_wal_replay_pause()")
    stack.psql("primary", "CREATE TABLE filler AS SELECT generate_series(1, 10000); DROP TABLE filler")

    def lags() -> tuple[int, str]:
        done = stack.attempt("replica-1", HEALTH, REPLICA_MAX_LAG_BYTES="1000")
        return done.returncode, done.stdout

    try:
        eventually(lambda: lags() == (1, "more than 1000 bytes of WAL left to replay\n"))
    finally:
        stack.resume_replay("replica-1")
    eventually(lambda: lags() == (0, "ok\n"))


# Addresses ------------------------------------------------------------------------------------------------------------


@contextmanager
def strangers(stack: Stack, wanted: str) -> Iterator[list[str]]:
    """Containers that take the lowest free addresses of the nodes' network, up to this one, which is the last's."""
    network, image = f"{stack.slug}_database", stack.inspect("web")["Image"]
    address = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    made: list[str] = []
    try:
        while not made or docker("inspect", "--format", address, made[-1]) != wanted:
            assert len(made) < 10, f"{wanted} is not free"
            made.append(docker("run", "--detach", "--network", network, "--entrypoint", "sleep", image, "300"))
        yield made
    finally:
        docker("rm", "--force", *made)


@pytest.mark.parametrize("node", ["primary", "replica-1"])
def test_a_node_is_found_at_another_address(stack: Stack, node: str) -> None:
    before = stack.address(node)
    stack.compose("stop", node)
    with strangers(stack, before):
        stack.up()
        assert stack.address(node) != before
        eventually(stack.ready)


def test_a_replica_at_the_primarys_old_address_is_not_taken_for_it(stack: Stack) -> None:
    before = stack.address("primary")
    stack.compose("stop", "primary", "replica-1")
    with strangers(stack, before) as made:
        docker("rm", "--force", made.pop())
        stack.compose("start", "replica-1")
        assert stack.address("replica-1") == before
        eventually(lambda: stack.attempt("replica-1", "pg_isready").returncode == 0)
        # PgBouncer looks for the nodes each second. Until it has, and when it has, the answer is the same.
        found = f"replica_1 = host={before} "
        databases = "/run/pgbouncer/databases.ini"
        eventually(lambda: found in stack.exec("pgbouncer", "cat", databases))
        for _ in range(5):
            assert stack.get("/readyz").json()["databases"]["default"].startswith(("unreachable", "no answer"))
        stack.up()
