"""Health, topology, slow queries, secrets."""

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path
from unittest import mock

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connections
from django.test import Client
from psycopg import OperationalError

from config import health
from dbrouting.monitor import configured
from ops import topology
from ops.setup import GIVEN, NAMES, make_secrets

everywhere = pytest.mark.django_db(transaction=True, databases="__all__")


def output(*command: str) -> str:
    out = StringIO()
    call_command(*command, stdout=out)
    return out.getvalue()


@pytest.fixture(autouse=True)
def nothing_is_known_of_the_primary(monkeypatch):
    monkeypatch.setattr(health, "_probe", health.Probe())


def test_livez_asks_no_database(client: Client):
    assert client.get("/livez").status_code == 200


@everywhere
def test_readyz(client: Client, lsn_replayed):
    lsn_replayed()
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")


@everywhere
def test_many_who_ask_readyz_open_one_connection(client: Client, monkeypatch):
    monkeypatch.setattr(health, "FRESH", 60.0)
    with mock.patch.object(health, "connect", side_effect=health.connect) as opened, ThreadPoolExecutor(8) as crowd:
        answers = list(crowd.map(lambda _: client.get("/readyz").status_code, range(20)))
    assert (answers, opened.call_count) == ([200] * 20, 1)


@everywhere
def test_readyz_without_a_replica(client: Client, lsn_replayed, replica_down):
    lsn_replayed()
    with replica_down():
        answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert answer.json()["databases"]["replica"] == "down"


@everywhere
def test_readyz_without_the_primary(client: Client):
    # A port where nobody listens.
    nowhere = {"PORT": 1, "HOST": "127.0.0.1"}
    with mock.patch.dict(configured["default"], nowhere):
        answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
    assert answer.json()["databases"]["default"] == "unreachable: OperationalError"


@everywhere
def test_topology_measures_each_replica(lsn_replayed):
    if not settings.DBROUTING["REPLICAS"]:
        pytest.skip("REPLICAS=0")
    lsn_replayed()
    primary, *replicas = topology.nodes()
    assert (primary.role, primary.lag_ms, primary.problem) == ("primary", None, "")
    assert [(node.role, node.problem) for node in replicas] == [("replica", "")] * len(replicas)
    assert all(node.lag_ms is not None and node.lag_ms < 1000 * topology.PATIENCE for node in replicas)
    assert "primary" in output("topology")


@everywhere
def test_slowqueries_shows_what_ran():
    # Square brackets are markup to the library that prints the table, and must come through.
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT (ARRAY[id, id])[1] AS found_me FROM auth_group AS a")
    shown = output("slowqueries", "--limit", "500", "--by", "calls")
    assert "SELECT (ARRAY[id, id])[$1] AS found_me FROM auth_group AS a" in " ".join(shown.split())


@pytest.mark.django_db
def test_slowqueries_refuses_a_limit_below_one():
    with pytest.raises(CommandError, match=r"--limit is 0\. Give a number from 1 up\."):
        call_command("slowqueries", "--limit", "0")


@pytest.mark.parametrize("command", ["slowqueries", "topology"])
def test_a_dead_node_is_a_message_not_a_traceback(command: str):
    """A port where nobody listens."""
    env = os.environ | {"DATABASE_URL": "postgresql://app:x@127.0.0.1:1/nowhere", "REPLICAS": "0"}
    done = subprocess.run([sys.executable, "manage.py", command], env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert "CommandError" in done.stderr and "refused" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.django_db(transaction=True, databases=["default"])
def test_each_connection_goes_where_djangos_does(monkeypatch):
    """OPTIONS may name the server, and what nothing names is libpq's to know."""
    entry = configured["default"]
    nowhere = {**entry, "HOST": "", "PORT": ""}
    named = {"host": entry["HOST"], "port": entry["PORT"]}
    with mock.patch.dict(configured, {"default": {**nowhere, "OPTIONS": {**entry["OPTIONS"], **named}}}):
        (primary,) = [node for node in topology.nodes() if node.alias == "default"]
        assert (primary.role, topology.pgbouncer("SHOW POOLS")) == ("primary", None)
    monkeypatch.setenv("PGHOST", str(entry["HOST"]))
    monkeypatch.setenv("PGPORT", str(entry["PORT"]))
    with mock.patch.dict(configured, {"default": nowhere}):
        (primary,) = [node for node in topology.nodes() if node.alias == "default"]
        assert (primary.role, topology.pgbouncer("SHOW POOLS")) == ("primary", None)
        assert primary.address.startswith(f"{entry['HOST']}:{entry['PORT']}/{entry['NAME']} on ")


def test_pgbouncers_console_is_reached_with_djangos_options():
    """This server has no TLS."""
    options = {**configured["default"]["OPTIONS"], "sslmode": "require"}
    with (
        mock.patch.dict(configured, {"default": {**configured["default"], "OPTIONS": options}}),
        pytest.raises(OperationalError, match="SSL"),
    ):
        topology.pgbouncer("SHOW POOLS")


@pytest.mark.parametrize(
    ("command", "works"), [(["topology"], "primary"), (["check", "--database", "default"], "no issues")]
)
def test_a_server_that_only_libpqs_variables_name(command: list[str], works: str):
    entry = configured["default"]
    env = os.environ | {"PGHOST": str(entry["HOST"]), "PGPORT": str(entry["PORT"]), "PGPASSWORD": entry["PASSWORD"]}
    env |= {"DATABASE_URL": f"postgresql://{entry['USER']}@/{entry['NAME']}", "REPLICAS": "0"}
    # These go with a replica only.
    env |= {"SYNCHRONOUS_COMMIT": "local", "POOL_MODE": "transaction"}
    done = subprocess.run([sys.executable, "manage.py", *command], env=env, capture_output=True, text=True)
    assert done.returncode == 0 and works in done.stdout, done.stdout + done.stderr
    assert "ops.W001" not in done.stderr


def test_slow_statements_are_logged(db):
    with connections["default"].cursor() as cursor:
        cursor.execute("SHOW log_min_duration_statement")
        assert cursor.fetchone() == ("100ms",)


def test_secrets_are_made_once(tmp_path: Path):
    directory = tmp_path / "secrets"
    assert make_secrets(directory) == list(NAMES)
    first = {path.name: path.read_text() for path in directory.iterdir()}
    assert set(first) == {*NAMES, *GIVEN}
    assert len({first[name] for name in NAMES}) == len(NAMES)
    assert {first[name] for name in GIVEN} == {""}
    (directory / "email_password").write_text("given")
    (directory / "app_password").unlink()
    (directory / "monitor_password").write_text("")
    assert make_secrets(directory) == ["app_password", "monitor_password"]
    second = {path.name: path.read_text() for path in directory.iterdir()}
    assert {name for name in NAMES if first[name] != second[name]} == {"app_password", "monitor_password"}
    assert second["email_password"] == "given"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o644}
