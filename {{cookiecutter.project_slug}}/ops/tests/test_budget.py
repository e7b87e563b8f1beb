"""The connection budget: its numbers, what it refuses, and the checks that compare it with what runs."""

import os
from itertools import product
from pathlib import Path
from unittest import mock

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from config.databases import POOL_MODES, STRATEGIES, WORKERS
from dbrouting.monitor import configured
from ops import checks, topology
from ops.budget import Limits, budget, limits_in

LIMITS = Limits(max_client_conn=1000, max_connections=100, reserved=3)
ENV = {
    "WEB_WORKER": "gthread",
    "CONNECTION_STRATEGY": "persistent",
    "POOL_MODE": "transaction",
    "REPLICAS": "1",
    "WEB_WORKERS": "2",
    "WEB_THREADS": "4",
    "WEB_CONNECTIONS": "100",
    "POOL_SIZE": "20",
    "RESERVE_POOL_SIZE": "5",
}


def problems(limits: Limits = LIMITS, **changes: str) -> list[tuple[int, str]]:
    return [(problem.number, problem.text) for problem in budget(ENV | changes, limits).problems()]


@pytest.mark.parametrize(
    ("changes", "clients"),
    [
        # processes x (databases x (for requests + samples) + 1)
        ({}, 2 * (2 * (4 + 1) + 1)),
        ({"REPLICAS": "3"}, 2 * (4 * (4 + 1) + 1)),
        # `replica` is the primary once more, and nobody samples.
        ({"REPLICAS": "0"}, 2 * (2 * 4 + 1)),
        ({"WEB_WORKERS": "8", "WEB_THREADS": "16"}, 8 * (2 * (16 + 1) + 1)),
        ({"WEB_WORKER": "asgi", "CONNECTION_STRATEGY": "pool"}, 2 * (2 * (4 + 1) + 1)),
        ({"WEB_WORKER": "gevent", "CONNECTION_STRATEGY": "pool"}, 2 * (2 * (4 + 1) + 1)),
        ({"WEB_WORKER": "gevent", "CONNECTION_STRATEGY": "per-request"}, 2 * (2 * (100 + 1) + 1)),
        ({"TASK_WORKERS": "3"}, 2 * (2 * (4 + 1) + 1) + 3 * 2 * (1 + 1)),
        ({"CONNECTION_STRATEGY": "per-request"}, 2 * (2 * (4 + 1) + 1)),
    ],
)
def test_clients(changes, clients):
    assert budget(ENV | changes, LIMITS).clients == clients


@pytest.mark.parametrize(
    ("changes", "held"),
    [
        ({"POOL_MODE": "transaction", "CONNECTION_STRATEGY": "pool"}, 0),
        # Only the samplers: the requests' connections are closed.
        ({"POOL_MODE": "session"}, 2),
        ({"POOL_MODE": "session", "TASK_WORKERS": "3"}, 2 + 3),
        ({"POOL_MODE": "session", "CONNECTION_STRATEGY": "pool"}, 2 * (1 + 4)),
        ({"POOL_MODE": "session", "CONNECTION_STRATEGY": "pool", "REPLICAS": "0"}, 2 * (4 + 4)),
    ],
)
def test_what_idle_clients_keep(changes, held):
    assert budget(ENV | changes, LIMITS).held == held


@pytest.mark.parametrize(
    ("mode", "strategy", "worker", "replicas"), list(product(POOL_MODES, STRATEGIES, WORKERS, "0123"))
)
def test_every_combination_fits_as_generated(mode, strategy, worker, replicas):
    choices = {"POOL_MODE": mode, "CONNECTION_STRATEGY": strategy, "WEB_WORKER": worker, "REPLICAS": replicas}
    assert problems(limits_in(settings.BASE_DIR), **choices) == []


def test_too_many_clients():
    assert problems(WEB_WORKERS="100") == [(5, "The site may open 1100 connections to PgBouncer: it takes 1000.")]
    assert problems(WEB_WORKERS="90") == []


def test_too_large_a_pool():
    ((number, text),) = problems(POOL_SIZE="90")
    assert number == 6
    assert "may open 95 connections to a node" in text and "leaves 2, and" in text
    assert problems(POOL_SIZE="82") == []
    assert problems(POOL_SIZE="83") != []


def test_session_mode_starves():
    session = {"POOL_MODE": "session", "CONNECTION_STRATEGY": "pool"}
    ((number, text),) = problems(**session, WEB_WORKERS="5")
    assert number == 7
    assert "keep 25 server connections, and PgBouncer opens 25" in text
    assert problems(**session, WEB_WORKERS="4") == []
    assert problems(WEB_WORKERS="5", CONNECTION_STRATEGY="pool") == []


def test_without_a_pooler():
    assert list(budget(ENV | {"WEB_WORKERS": "14"}, LIMITS).problems_without_pooler()) == []
    (problem,) = budget(ENV | {"WEB_WORKERS": "15"}, LIMITS).problems_without_pooler()
    assert problem.number == 9
    assert "may open 90 connections to it, and there is room for 87" in problem.text


@pytest.mark.parametrize(("name", "value"), [("WEB_THREADS", "four"), ("POOL_SIZE", ""), ("WEB_WORKERS", "0")])
def test_no_number(name, value):
    with pytest.raises(ValueError, match=rf"{name} is '{value}'\. Give a whole number from 1 up in \.env\."):
        budget(ENV | {name: value}, LIMITS)


def test_limits_are_those_of_the_files(tmp_path: Path):
    assert limits_in(settings.BASE_DIR) == LIMITS
    (tmp_path / "pgbouncer").mkdir()
    (tmp_path / "pgbouncer" / "pgbouncer.ini").write_text("[pgbouncer]\n;max_client_conn = 7\n")
    with pytest.raises(ValueError, match=r"pgbouncer/pgbouncer\.ini has no line `max_client_conn = NUMBER`"):
        limits_in(tmp_path)


@pytest.mark.django_db(transaction=True, databases=["default", "replica"])
def test_the_command_shows_it_and_fails_where_it_does_not_fit(capsys, monkeypatch):
    monkeypatch.setattr(settings, "REPLICAS_READ", 1)
    with mock.patch.dict(os.environ, ENV):
        call_command("budget")
    assert "2 processes x (2 databases x (4 for requests + 1 for samples) + 1 probe)" in capsys.readouterr().out
    with mock.patch.dict(os.environ, ENV | {"POOL_SIZE": "95"}), pytest.raises(CommandError, match="Lower POOL_SIZE"):
        call_command("budget")


def test_the_check_that_asks_no_server():
    with mock.patch.dict(os.environ, ENV):
        assert checks.choices_work(None) == []
    with mock.patch.dict(os.environ, ENV | {"POOL_SIZE": "95", "WEB_WORKERS": "200"}):
        assert [error.id for error in checks.choices_work(None)] == ["ops.E005", "ops.E006"]
    with mock.patch.dict(os.environ, ENV | {"WEB_THREADS": "x"}):
        (error,) = checks.choices_work(None)
    assert (error.id, error.msg) == ("ops.E008", "WEB_THREADS is 'x'.")
    assert error.hint == "Give a whole number from 1 up in .env."


# With PgBouncer it runs in the Docker tier.
@pytest.mark.django_db(transaction=True, databases="__all__")
def test_the_check_that_asks_postgresql():
    assert topology.pgbouncer("SHOW CONFIG") is None, "tests reach their servers directly"
    with mock.patch.dict(os.environ, ENV):
        assert checks.servers_are_as_chosen(None, databases=["default"]) == []
    with mock.patch.dict(os.environ, ENV | {"WEB_WORKERS": "20"}):
        assert checks.servers_are_as_chosen(None, databases=None) == []
        (error,) = checks.servers_are_as_chosen(None, databases=["default"])
    assert error.id == "ops.E019"
    assert error.msg.startswith("default, as it runs: Without PgBouncer the site may open 120 connections")


@pytest.mark.parametrize("reserve", ["reserve_pool", "reserve_pool_size"])
def test_pools_are_compared_in_old_and_new_pgbouncer(reserve):
    """Before PgBouncer 1.24 the column had another name."""
    name = settings.DATABASES["default"]["NAME"]
    rows = [{"name": name, "pool_mode": None, "pool_size": 20, reserve: 7}]
    with (
        mock.patch.object(topology, "pgbouncer", return_value=rows),
        mock.patch.object(settings, "POOL_MODE", "session"),
        mock.patch.dict(os.environ, ENV),
    ):
        (error,) = checks._pooler("default", default_mode="session")
    assert error.msg == "PgBouncer pools default with RESERVE_POOL_SIZE=7, and .env says 5."


@pytest.mark.parametrize(
    ("options", "mode", "config", "told"),
    [
        ({"prepare_threshold": 5}, "transaction", {}, ["ops.E012"]),
        ({"prepare_threshold": 5}, "transaction", {"max_prepared_statements": "0"}, ["ops.E012"]),
        ({"prepare_threshold": 5}, "transaction", {"max_prepared_statements": "200"}, []),
        ({"prepare_threshold": 5}, "session", {}, []),
        ({}, "transaction", {}, []),
    ],
)
def test_prepared_statements_need_a_pgbouncer_that_follows_them(options, mode, config, told):
    with (
        mock.patch.dict(settings.DATABASES["default"], {"OPTIONS": options}),
        mock.patch.object(settings, "POOL_MODE", mode),
    ):
        assert [error.id for error in checks._prepares("default", config)] == told


def test_a_server_that_does_not_answer_is_a_warning():
    with mock.patch.dict(configured, {"default": {**configured["default"], "HOST": "127.0.0.1", "PORT": 1}}):
        (warning,) = checks.servers_are_as_chosen(None, databases=["default"])
    assert warning.id == "ops.W001"
    assert "default could not be asked whether all connections fit: " in warning.msg
