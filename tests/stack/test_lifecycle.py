"""What happens to a stack in its life: restarts, lost volumes, regretted answers, changed secrets."""

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.stack.stack import ComposeError, Stack, eventually


@pytest.fixture(scope="module")
def stack(make_stack: Callable) -> Iterator[Stack]:
    """With a row in it that must survive whatever the tests do."""
    with make_stack() as stack:
        # What is wrong with a primary is told when its start period is over: shortened, or each such test takes it.
        compose = stack.project / "compose.yaml"
        compose.write_text(compose.read_text().replace("start_period: 2m", "start_period: 15s"))
        stack.up()
        stack.comment("survives")
        yield stack


@pytest.fixture(autouse=True)
def the_row_survives(stack: Stack) -> Iterator[None]:
    yield
    stack.assert_whole()
    for node in ["primary", *stack.replicas]:
        eventually(lambda node=node: stack.comments(node, "survives") == 1)
    # PgBouncer tries a node that was away again within seconds.
    eventually(lambda: stack.get("/readyz").json()["status"] == "ok", patience=10)


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def remove_volume(stack: Stack, service: str) -> None:
    stack.compose("rm", "--stop", "--force", service)
    docker("volume", "rm", f"{stack.slug}_{service}")


def test_restart(stack: Stack) -> None:
    stack.compose("restart")
    stack.compose("up", "--detach", "--wait")


def test_down_and_up(stack: Stack) -> None:
    stack.compose("down")
    assert stack.running() == []
    stack.compose("up", "--detach", "--wait")


def test_stopping_is_clean_and_quick(stack: Stack) -> None:
    """No node is killed at the end of its grace period, and none has to recover when it starts again."""
    stack.compose("stop")
    codes = {
        service: stack.inspect(service)["State"]["ExitCode"] for service in ["primary", "replica-1", "pgbouncer", "web"]
    }
    assert codes == dict.fromkeys(codes, 0)
    stack.compose("up", "--detach", "--wait")
    last_start = stack.logs("primary").rsplit("starting PostgreSQL", 1)[1]
    assert "database system was shut down" in last_start
    assert "not properly shut down" not in last_start


def test_a_killed_primary_comes_back_with_its_data(stack: Stack) -> None:
    docker("kill", stack.container("primary"))
    stack.compose("up", "--detach", "--wait")


def test_a_removed_replica_volume_is_seeded_again(stack: Stack) -> None:
    remove_volume(stack, "replica-1")
    stack.compose("up", "--detach", "--wait")


def test_reseed_is_one_command(stack: Stack) -> None:
    volume = ["volume", "inspect", "--format", "{{.CreatedAt}}", f"{stack.slug}_replica-1"]
    before = docker(*volume)
    done = subprocess.run(["ops/reseed", "replica-1"], cwd=stack.project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert docker(*volume) != before


def test_reseed_names_what_it_does_not_know(stack: Stack) -> None:
    done = subprocess.run(["ops/reseed", "primary"], cwd=stack.project, capture_output=True, text=True)
    assert done.returncode == 2
    assert "usage: ops/reseed replica-1 (seen: 'primary')" in done.stderr


def test_reseed_keeps_what_may_be_the_last_copy(stack: Stack) -> None:
    """A primary whose volume was lost is made anew, empty. The replica's data is then the only data."""
    stack.compose("stop", "primary")
    data = f"{stack.slug}_primary"
    image = stack.inspect("primary")["Image"]
    root = ["run", "--rm", "--user", "0", "--volume", f"{data}:/v", "--entrypoint", "bash", image, "-c"]
    docker(*root, "mkdir /v/kept && mv /v/18 /v/kept/")
    stack.compose("up", "--detach", "--wait", "primary")
    assert stack.psql("primary", "SELECT to_regclass('articles_comment') IS NULL") == "t"
    done = subprocess.run(["ops/reseed", "replica-1"], cwd=stack.project, capture_output=True, text=True)
    assert done.returncode == 1
    assert "it may be the only copy of that data" in done.stderr
    assert stack.comments("replica-1", "survives") == 1
    stack.compose("stop", "primary")
    docker(*root, "rm -rf /v/18 && mv /v/kept/18 /v/ && rmdir /v/kept")
    stack.compose("up", "--detach", "--wait")


def test_what_a_health_check_leaves_behind_does_not_restart_postgresql(stack: Stack) -> None:
    """A process without a parent goes to process 1. Were that PostgreSQL, it would see a backend crash."""
    for node in ("primary", "replica-1"):
        stack.compose("exec", "-T", node, "bash", "-c", "(sleep 0.5; exit 2) >/dev/null 2>&1 & exit 0")
    before = stack.psql("primary", "SELECT pg_postmaster_start_time()")
    time.sleep(2)
    assert "terminating any other active server processes" not in stack.logs("primary", "replica-1")
    assert stack.psql("primary", "SELECT pg_postmaster_start_time()") == before


def test_two_servers_never_share_a_volume(stack: Stack) -> None:
    done = stack.compose("run", "--rm", "--no-deps", "-e", "NODE_NAME=primary", "primary", check=False)
    assert done.returncode == 1
    assert "another server runs on" in done.stderr + done.stdout


def test_a_missing_replica_is_degraded_not_failed(stack: Stack) -> None:
    stack.compose("stop", "replica-1")
    # Noticed when it has not answered for a second.
    answer = eventually(lambda: (found := stack.get("/readyz")).json()["status"] == "degraded" and found, patience=5)
    assert (answer.status_code, answer.json()["databases"]["default"]) == (200, "ok")
    stack.compose("up", "--detach", "--wait")


def test_a_missing_primary_is_not_ready_but_alive(stack: Stack) -> None:
    stack.compose("stop", "primary")
    answer = stack.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
    assert stack.get("/livez").status_code == 200
    stack.compose("up", "--detach", "--wait")


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
        stack.compose("up", "--detach", "--wait")
        assert stack.address(node) != before
        eventually(lambda: stack.get("/readyz").json()["status"] == "ok", patience=10)


def test_a_replica_at_the_primarys_old_address_is_not_taken_for_it(stack: Stack) -> None:
    before = stack.address("primary")
    stack.compose("stop", "primary", "replica-1")
    with strangers(stack, before) as made:
        docker("rm", "--force", made.pop())
        stack.compose("start", "replica-1")
        assert stack.address("replica-1") == before
        eventually(lambda: stack.compose("exec", "-T", "replica-1", "pg_isready", check=False).returncode == 0)
        time.sleep(2)
        for _ in range(5):
            assert stack.get("/readyz").json()["databases"]["default"].startswith(("unreachable", "no answer"))
        stack.compose("up", "--detach", "--wait")


def test_a_replica_that_does_not_stream_is_unhealthy(stack: Stack) -> None:
    check = ["exec", "-T", "replica-1", "/etc/postgresql/healthcheck.sh"]
    assert stack.compose(*check).stdout == "ok\n"
    stack.psql("replica-1", "ALTER SYSTEM SET primary_conninfo = 'host=nobody'; SELECT pg_reload_conf()")
    # The command line wins over ALTER SYSTEM: the choices are in .env, and nowhere else.
    assert stack.compose(*check).stdout == "ok\n"
    stack.psql("replica-1", "ALTER SYSTEM RESET primary_conninfo")
    stack.compose("stop", "replica-1")
    stack.psql("primary", "SELECT pg_drop_replication_slot('replica_1')")
    stack.compose("start", "replica-1")
    cut = eventually(lambda: stack.compose(*check, check=False).stdout.startswith("no WAL receiver streams"))
    assert cut
    # Slots are made sure of at every start.
    stack.compose("restart", "primary")
    stack.compose("up", "--detach", "--wait")


def test_a_primary_that_is_away_does_not_make_the_others_unhealthy(stack: Stack) -> None:
    """`up --wait` gives up at once on a container that is unhealthy when it looks, so it could not bring the primary back."""
    stack.compose("stop", "primary")
    checks = {"replica-1": "/etc/postgresql/healthcheck.sh", "pgbouncer": "pgbouncer-healthcheck"}
    for _ in range(3):
        for service, check in checks.items():
            done = stack.compose("exec", "-T", service, check, check=False)
            assert (done.returncode, done.stdout.splitlines()[0][:19]) == (0, "the primary is away"), service
        time.sleep(1)
    # A PgBouncer that does not run is one all the same,
    alone = ["run", "--rm", "--no-deps", "--entrypoint", "pgbouncer-healthcheck", "pgbouncer"]
    assert stack.compose(*alone, check=False).returncode != 0
    stack.compose("up", "--detach", "--wait")
    # and so is one that lets no query through to a primary that is there.
    wrong = ["exec", "-T", "-e", "DATABASE_NAME=nosuch", "pgbouncer", "pgbouncer-healthcheck"]
    assert stack.compose(*wrong, check=False).returncode != 0


def test_a_replica_that_lags_is_unhealthy(stack: Stack) -> None:
    check = ["exec", "-T", "-e", "REPLICA_MAX_LAG_BYTES=1000", "replica-1", "/etc/postgresql/healthcheck.sh"]
    stack.psql("replica-1", "SELECT pg_wal_replay_pause()")
    stack.psql("primary", "CREATE TABLE filler AS SELECT generate_series(1, 10000); DROP TABLE filler")
    lagging = eventually(lambda: stack.compose(*check, check=False).stdout.strip() != "ok")
    assert lagging
    done = stack.compose(*check, check=False)
    assert (done.returncode, done.stdout) == (1, "more than 1000 bytes of WAL left to replay\n")
    stack.psql("replica-1", "SELECT pg_wal_replay_resume()")
    eventually(lambda: stack.compose(*check, check=False).returncode == 0)


def test_a_migration_that_was_killed_before_it_was_recorded_is_not_run_again(stack: Stack) -> None:
    stack.psql("primary", "DELETE FROM django_migrations WHERE app = 'articles'")
    stack.compose("up", "--detach", "--wait")
    stack.assert_whole()


def test_a_regretted_pool_mode_takes_effect_without_generating_again(stack: Stack) -> None:
    def modes() -> dict[str, str]:
        return {
            row["name"]: row["pool_mode"] for row in stack.pgbouncer("SHOW DATABASES") if row["name"] != "pgbouncer"
        }

    cursors = "from django.conf import settings; print(settings.DATABASES['default']['DISABLE_SERVER_SIDE_CURSORS'])"
    for mode, primary_mode in (("session", "session"), ("statement", "transaction"), ("transaction", "transaction")):
        stack.edit_env(POOL_MODE=mode)
        stack.compose("up", "--detach", "--wait")
        assert modes() == {stack.slug: primary_mode, "replica_1": mode}
        assert stack.shell(cursors) == str(mode != "session")


def test_a_pooler_restarted_in_session_mode_is_not_long_away(stack: Stack) -> None:
    """It lets nobody in until its clients have left, and the site's samplers stay."""
    stack.edit_env(POOL_MODE="session")
    stack.compose("up", "--detach", "--wait")
    eventually(lambda: stack.get("/readyz").json()["status"] == "ok", patience=10)
    with subprocess.Popen(["docker", "compose", "restart", "--no-deps", "pgbouncer"], cwd=stack.project) as restarting:
        eventually(lambda: stack.get("/").status_code == 500)
        eventually(lambda: stack.get("/").status_code == 200, patience=15)
    assert restarting.returncode == 0
    stack.edit_env(POOL_MODE="transaction")
    stack.compose("up", "--detach", "--wait")


def test_a_regretted_number_of_replicas(stack: Stack) -> None:
    stack.edit_env(REPLICAS="2")
    stack.compose("up", "--detach", "--wait")
    stack.assert_whole()
    assert "replica_2" in stack.get("/readyz").text
    stack.compose("rm", "--stop", "--force", "replica-2")
    stack.edit_env(REPLICAS="1")
    stack.compose("up", "--detach", "--wait")
    # Its slot is gone too: nobody would read it, and it would keep WAL.
    assert stack.psql("primary", "SELECT string_agg(slot_name, ',') FROM pg_replication_slots") == "replica_1"


@pytest.mark.parametrize(
    ("name", "value", "told"), [("WEB_WORKER", "asgi", "ops.E003"), ("WEB_WORKERS", "100", "ops.E005")]
)
def test_an_edit_that_cannot_work_stops_at_migrate(stack: Stack, name: str, value: str, told: str) -> None:
    before = stack.env(name)
    stack.edit_env(**{name: value})
    with pytest.raises(ComposeError):
        stack.compose("up", "--detach", "--wait")
    assert told in stack.logs("migrate")
    stack.edit_env(**{name: before})
    stack.compose("up", "--detach", "--wait")


@pytest.mark.parametrize(
    ("choices", "told"),
    [
        ({"POOL_MODE": "session"}, ["(ops.E011) PgBouncer pools default with POOL_MODE=transaction, and .env says session."]),
        ({"POOL_SIZE": "30"}, ["(ops.E011) PgBouncer pools default with POOL_SIZE=20, and .env says 30."]),
        ({"WEB_WORKERS": "100"}, ["(ops.E005) The site may open 1100", "(ops.E015) default, as it runs: The site may open 1100"]),
        ({"POOL_SIZE": "90"}, ["(ops.E006) PgBouncer may open 95", "(ops.E016) default, as it runs: PgBouncer may open 95"]),
        (
            {"POOL_MODE": "session", "CONNECTION_STRATEGY": "pool", "WEB_WORKERS": "5"},
            ["(ops.E007) In session mode idle connections keep 25", "(ops.E017) default, as it runs: In session mode"],
        ),
    ],
)  # fmt: skip
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
    stack.compose("up", "--detach", "--wait")
    message = rf"\(ops\.E016\) default, as it runs: PgBouncer may open 25 connections to a node .*, which has {told}"
    with pytest.raises(ComposeError, match=message):
        stack.manage("check", "--database", "default")
    stack.psql("primary", "ALTER SYSTEM RESET ALL")
    stack.compose("restart", "primary")
    stack.compose("up", "--detach", "--wait")
    assert "no issues" in stack.manage("check", "--database", "default")


def test_another_major_version_is_refused_and_told_why(stack: Stack) -> None:
    stack.edit_env(POSTGRES_VERSION="17")
    with pytest.raises(ComposeError):
        stack.compose("up", "--detach", "--wait")
    assert "the volume holds data of PostgreSQL 18" in stack.logs("primary")
    assert "Set POSTGRES_VERSION=18 in .env again" in stack.logs("primary")
    stack.edit_env(POSTGRES_VERSION="18")
    stack.compose("up", "--detach", "--wait")


@pytest.mark.parametrize("node", ["primary", "replica-1"])
def test_a_role_does_not_change_by_accident(stack: Stack, node: str) -> None:
    """PRIMARY_HOST names another node: neither may the replica's volume take writes, nor the primary's follow."""
    stack.edit_env(PRIMARY_HOST="replica-1")
    with pytest.raises(ComposeError):
        stack.compose("up", "--detach", "--wait", "primary", "replica-1")
    assert "Set PRIMARY_HOST in .env again." in stack.logs(node)
    stack.edit_env(PRIMARY_HOST="primary")
    stack.compose("up", "--detach", "--wait")


@pytest.mark.parametrize("role", ["app", "replicator"])
def test_a_changed_password_is_a_clear_error_with_its_remedy(stack: Stack, role: str) -> None:
    """Made new the way the message and the README tell."""
    (stack.project / "secrets" / f"{role}_password").unlink()
    subprocess.run(["python3", "ops/make_secrets.py"], cwd=stack.project, check=True)
    # Compose brings PgBouncer back after its primary, which is not to be had.
    assert "primary-1 is unhealthy" in stack.compose("restart", "primary", check=False).stderr
    with pytest.raises(ComposeError, match="primary-1 is unhealthy"):
        stack.compose("up", "--detach", "--wait")
    told = stack.inspect("primary")["State"]["Health"]["Log"][-1]["Output"]
    assert f"secrets/ does not hold the password that this volume has for: {role}." in told
    assert f"does not hold the password that this volume has for: {role}." in stack.logs("primary")

    # The remedy, as the message gives it.
    remedy = re.search(r"docker compose exec (primary \S+ --adopt-passwords) && docker compose (restart)", told)
    assert remedy
    stack.compose("exec", "-T", *remedy[1].split())
    stack.compose(remedy[2])
    stack.compose("up", "--detach", "--wait")


def test_an_empty_password_file_is_told(stack: Stack) -> None:
    path = stack.project / "secrets" / "app_password"
    before = path.read_text()
    path.write_text("")
    with pytest.raises(ComposeError):
        stack.compose("up", "--detach", "--wait", "--force-recreate", "primary")
    told = stack.logs("primary")
    assert "the secret app_password is empty or has characters other than" in told
    assert "Delete the file. Run: python ops/make_secrets.py && docker compose restart primary" in told
    path.write_text(before)
    stack.compose("restart", "primary")
    stack.compose("up", "--detach", "--wait")
