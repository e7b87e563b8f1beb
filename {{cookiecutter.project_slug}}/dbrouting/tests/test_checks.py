"""What the checks find: each wrong setting gives its id and no other, the right ones give none."""

import itertools
import os
import select
import socket
import socketserver
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.core.checks import CheckMessage, run_checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError

from config.databases import connection_settings, replica_settings
from dbrouting import monitor
from dbrouting.checks import MIDDLEWARE, ROUTER, servers
from dbrouting.monitor import configured
from ops.devstack import PATH, free_port, not_as_root, pooler_note, stop, usable_pgbouncer

CONTRIB = "django.contrib"
SESSIONS = f"{CONTRIB}.sessions.backends"


class OwnAuthentication(AuthenticationMiddleware):
    """Of somebody's project."""


def stopwatch(get_response):
    """Middleware that asks no database, as monitoring packages have."""
    return get_response


def configuration() -> list[CheckMessage]:
    return [message for message in run_checks() if (message.id or "").startswith("dbrouting.")]


def assert_only(found: list[CheckMessage], check: str, named: str) -> None:
    """One message, with the value that is wrong and what to do about it."""
    assert [message.id for message in found] == [f"dbrouting.{check}"]
    assert named in found[0].msg
    assert found[0].hint


# Settings -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def entry(settings, monkeypatch) -> dict[str, object]:
    """That of one replica, with nothing wrong, whatever REPLICAS is; to be spoilt."""
    settings.DBROUTING = {"REPLICAS": ["replica"]}
    chosen = connection_settings("transaction", "persistent", "gthread", threads=4)
    monkeypatch.setitem(settings.DATABASES, "default", {**settings.DATABASES["default"], **chosen})
    monkeypatch.setitem(settings.DATABASES, "replica", {**settings.DATABASES["replica"], **replica_settings(chosen)})
    return settings.DATABASES["replica"]


def test_the_settings_as_they_stand_are_right():
    assert configuration() == []


@pytest.mark.parametrize(
    ("strategy", "worker"),
    [("persistent", "gthread"), ("pool", "gthread"), ("pool", "gevent"), ("per-request", "asgi")],
)
def test_every_way_to_connect_is_right(entry, strategy: str, worker: str):
    entry.update(replica_settings(connection_settings("session", strategy, worker, threads=4)))
    assert configuration() == []


def test_middleware_that_asks_no_database_may_come_first(entry, settings):
    first = ["django.middleware.security.SecurityMiddleware", f"{__name__}.stopwatch"]
    settings.MIDDLEWARE = [*first, *settings.MIDDLEWARE]
    assert configuration() == []


@pytest.mark.parametrize(
    ("name", "value", "check", "named"),
    [
        ("MIDDLEWARE", [f"{CONTRIB}.sessions.middleware.SessionMiddleware", MIDDLEWARE], "E001", MIDDLEWARE),
        ("MIDDLEWARE", [f"{__name__}.OwnAuthentication", MIDDLEWARE], "E001", "OwnAuthentication comes before"),
        ("MIDDLEWARE", (), "E013", MIDDLEWARE),
        ("DATABASE_ROUTERS", [], "E002", "DATABASE_ROUTERS"),
        ("SESSION_ENGINE", f"{SESSIONS}.db", "E006", f"{SESSIONS}.db:"),
        ("SESSION_ENGINE", f"{SESSIONS}.cached_db", "E006", f"{SESSIONS}.cached_db:"),
    ],
)
def test_a_wrong_setting_of_djangos(entry, settings, name: str, value: object, check: str, named: str):
    setattr(settings, name, value)
    assert_only(configuration(), check, named)


@pytest.mark.parametrize(
    ("given", "check", "named"),
    [
        ({"REPLICAS": ["replica", "replica_9"]}, "E003", "replica_9, which DATABASES does not have"),
        ({"PRIMARY": "main"}, "E003", "main, which DATABASES does not have"),
        ({"REPLICAS": ["default"]}, "E003", "default, the primary"),
        ({"TOKEN_LIFE": 22}, "E004", "TOKEN_LIFE is 22 s"),
        ({"MAX_STALENESS": 300}, "E004", "TOKEN_LIFE is 300 s"),
        ({"SAMPLE_INTERVAL": 0.4}, "E005", "SAMPLE_INTERVAL is 0.4 s, too long for proofs of 1"),
    ],
)
def test_a_wrong_setting_of_ours(entry, settings, given: dict[str, object], check: str, named: str):
    settings.DBROUTING = {**settings.DBROUTING, **given}
    assert_only(configuration(), check, named)


@pytest.mark.parametrize(
    ("name", "value", "check", "named"),
    [
        ("ENGINE", "django.db.backends.postgresql", "E007", "replica is django.db.backends.postgresql"),
        ("CONN_HEALTH_CHECKS", True, "E008", "on for replica"),
        ("ATOMIC_REQUESTS", True, "E009", "on for replica"),
        ("DISABLE_SERVER_SIDE_CURSORS", False, "W002", "replica has server-side cursors"),
    ],
)
def test_a_wrong_entry_of_a_replica(entry, name: str, value: object, check: str, named: str):
    entry[name] = value
    assert_only(configuration(), check, named)


def test_a_primary_that_leaves_the_replicas_idle(entry, settings):
    settings.DATABASES["default"]["ATOMIC_REQUESTS"] = True
    assert_only(configuration(), "W001", "the primary")


def test_the_bounds_themselves_are_right(entry, settings):
    settings.DBROUTING = {**settings.DBROUTING, "TOKEN_LIFE": 22.1, "SAMPLE_INTERVAL": 1 / 3}
    assert configuration() == []


def test_djangos_sessions_are_right_on_the_primary(entry, settings):
    settings.SESSION_ENGINE = f"{SESSIONS}.db"
    settings.DBROUTING = {**settings.DBROUTING, "PRIMARY_ONLY_APPS": ["sessions", "auth"]}
    assert configuration() == []


def test_without_replicas_what_concerns_them_is_right(entry, settings):
    settings.DBROUTING = {}
    settings.SESSION_ENGINE = f"{SESSIONS}.db"
    settings.DATABASES["default"]["ATOMIC_REQUESTS"] = entry["ATOMIC_REQUESTS"] = True
    assert configuration() == []


def test_each_wrong_setting_is_told(entry, settings):
    """Not one after the other, each after the edit before."""
    settings.MIDDLEWARE, settings.DATABASE_ROUTERS = [], []
    entry["CONN_HEALTH_CHECKS"] = entry["ATOMIC_REQUESTS"] = True
    assert {message.id for message in configuration()} == {f"dbrouting.E{number:03}" for number in (2, 8, 9, 13)}
    assert ROUTER in "".join(message.hint or "" for message in configuration())


# Servers --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def one_replica(settings) -> None:
    """In name; without replicas it is the primary."""
    settings.DBROUTING = {"REPLICAS": ["replica"]}


@pytest.fixture
def standby(settings, one_replica) -> None:
    if not settings.REPLICAS:
        pytest.skip("REPLICAS=0: no server is a standby")


def reach(alias: str, like: str, **address: object):
    """Inside, the alias reaches the server of another one, or an address of its own."""
    return mock.patch.dict(configured, {alias: {**configured[like], **address}})


@contextmanager
def taking_turns(*aliases: str) -> Iterator[dict[str, object]]:
    """The address of a TCP relay that takes each connection to the next of these servers."""
    turns = itertools.cycle([(configured[alias]["HOST"], configured[alias]["PORT"]) for alias in aliases])

    class Relay(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(next(turns)) as server:
                other = {self.request: server, server: self.request}
                while True:
                    for end in select.select(list(other), [], [])[0]:
                        if not (data := end.recv(65536)):
                            return
                        other[end].sendall(data)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Relay) as relay:
        threading.Thread(target=relay.serve_forever).start()
        try:
            yield {"HOST": "127.0.0.1", "PORT": relay.server_address[1]}
        finally:
            relay.shutdown()


def test_the_servers_as_they_stand_are_right(settings):
    assert servers(["default", *settings.DBROUTING["REPLICAS"]]) == []


def test_the_primary_is_no_replica(one_replica):
    with reach("replica", like="default"):
        assert_only(servers(["default", "replica"]), "E011", "replica is no replica: it takes writes")


def test_several_servers_behind_one_alias(standby):
    # Two standbys if there are, otherwise the primary and its standby.
    two = list(configured)[-2:]
    with taking_turns(*two) as address, reach("replica", like="replica", **address):
        assert_only(servers(["replica"]), "E012", "replica is several servers")


def test_one_server_behind_a_relay_is_right(standby):
    with taking_turns("replica") as address, reach("replica", like="replica", **address):
        assert servers(["replica"]) == []


def test_one_server_behind_two_aliases(settings, standby):
    settings.DBROUTING = {"REPLICAS": ["replica", "twin"]}
    with reach("twin", like="replica"):
        assert_only(servers(["replica", "twin"]), "W003", "twin and replica are the same")


def test_a_server_that_restarts_by_itself(one_replica, monkeypatch):
    """Of the servers that run here only the primary does, so it has to pass for a standby."""
    ask = monitor.ask
    monkeypatch.setattr(monitor, "ask", lambda *of: replace(ask(*of), recovering=True))
    with reach("replica", like="default"):
        assert_only(servers(["replica"]), "W004", "restart_after_crash = on")


@pytest.mark.parametrize("address", [{"PORT": 1}, {"PASSWORD": "wrong"}])
def test_a_server_that_does_not_answer_is_no_wrong_setting(one_replica, address: dict[str, object]):
    address = {"HOST": "127.0.0.1", **address}
    with reach("default", like="default", **address), reach("replica", like="replica", **address):
        assert servers(["default", "replica"]) == []


def test_only_the_databases_that_are_named_are_asked(entry, monkeypatch):
    monkeypatch.setattr(monitor, "connect", lambda alias: pytest.fail(f"asked {alias}"))
    assert configuration() == servers() == servers(["another"]) == []


def test_manage_py_check_stops_at_what_it_finds(one_replica):
    with reach("replica", like="default"), pytest.raises(SystemCheckError, match=r"\(dbrouting\.E011\) replica is no"):
        call_command("check", databases=["default", "replica"])


@pytest.fixture
def pgbouncer(tmp_path: Path, eventually) -> Callable[..., AbstractContextManager[dict[str, object]]]:
    """Before the primary, in any pool mode: the project's own configuration cannot be had in the wrong one."""
    if not usable_pgbouncer():
        pytest.skip(pooler_note(""))
    primary, port = configured["default"], free_port()
    target = f"host={primary['HOST']} port={primary['PORT']} user={primary['USER']} password={primary['PASSWORD']}"
    settings = {"listen_addr": "127.0.0.1", "listen_port": port, "unix_socket_dir": "", "auth_type": "any"}

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    @contextmanager
    def running(pool_mode: str, **others: object) -> Iterator[dict[str, object]]:
        lines = [f"{name} = {value}" for name, value in {**settings, "pool_mode": pool_mode, **others}.items()]
        ini = tmp_path / "pgbouncer.ini"
        ini.write_text("\n".join(["[databases]", f"{primary['NAME']} = {target}", "[pgbouncer]", *lines, ""]))
        env = {**os.environ, "PATH": PATH}
        process = subprocess.Popen([*not_as_root(), "pgbouncer", "--quiet", ini], env=env, start_new_session=True)
        try:
            eventually(listens)
            yield {"HOST": "127.0.0.1", "PORT": port}
        finally:
            stop(process)

    return running


def test_a_pooler_that_refuses_begin(one_replica, pgbouncer):
    with pgbouncer("statement") as address, reach("default", like="default", **address):
        assert_only(servers(["default"]), "E010", "pools default in statement mode")


@pytest.mark.parametrize("pool_mode", ["transaction", "session"])
def test_a_pooler_that_knows_transactions_is_right(one_replica, pgbouncer, pool_mode: str):
    with pgbouncer(pool_mode) as address, reach("default", like="default", **address):
        assert servers(["default"]) == []


def test_a_pooler_with_no_connection_to_spare_is_not_called_wrong(one_replica, pgbouncer):
    with (
        pgbouncer("transaction", default_pool_size=1, query_wait_timeout=1) as address,
        reach("default", like="default", **address),
        monitor.connect("default") as the_only_one,
        the_only_one.transaction(),
    ):
        the_only_one.execute("SELECT 1")
        assert servers(["default"]) == []
