"""The table in config.databases.connection_settings, cell by cell, and URLs with and without their passwords."""

from itertools import product
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from config.databases import (
    NAME_LIMIT,
    PERSISTENT_MAX_AGE,
    POOL_MODES,
    STRATEGIES,
    WORKERS,
    connection_settings,
    database,
    databases,
)

GEVENT_POOL = "config.backends.geventpool"
PLAIN = "config.backends.postgresql"


def settings(pool_mode: str = "transaction", strategy: str = "persistent", worker: str = "gthread", **more):
    return connection_settings(pool_mode, strategy, worker, threads=4, **more)


@pytest.mark.parametrize("pool_mode", ["transaction", "statement"])
def test_persistent_keeps_the_connection_and_checks_it(pool_mode):
    chosen = settings(pool_mode, "persistent")
    assert chosen["CONN_MAX_AGE"] == PERSISTENT_MAX_AGE > 0
    assert chosen["CONN_HEALTH_CHECKS"] is True
    assert "pool" not in chosen["OPTIONS"]


def test_persistent_in_session_mode_gives_the_server_back():
    chosen = settings("session", "persistent")
    assert chosen["CONN_MAX_AGE"] == 0


@pytest.mark.parametrize(("pool_mode", "worker"), list(product(POOL_MODES, ["gthread", "asgi"])))
def test_pool_is_psycopgs(pool_mode, worker):
    chosen = settings(pool_mode, "pool", worker)
    assert chosen["ENGINE"] == PLAIN
    assert chosen["OPTIONS"]["pool"]["max_size"] == 4
    # Django refuses a pool beside persistent connections.
    assert chosen["CONN_MAX_AGE"] == 0
    assert chosen["CONN_HEALTH_CHECKS"] is True


@pytest.mark.parametrize("pool_mode", POOL_MODES)
def test_pool_under_gevent_is_geventpools(pool_mode):
    chosen = settings(pool_mode, "pool", "gevent")
    assert chosen["ENGINE"] == GEVENT_POOL
    assert chosen["OPTIONS"]["MAX_CONNS"] == chosen["OPTIONS"]["REUSE_CONNS"] == 4
    assert "pool" not in chosen["OPTIONS"]
    assert chosen["CONN_MAX_AGE"] == 0


@pytest.mark.parametrize(("pool_mode", "worker"), list(product(POOL_MODES, WORKERS)))
def test_per_request_keeps_nothing(pool_mode, worker):
    chosen = settings(pool_mode, "per-request", worker)
    assert (chosen["ENGINE"], chosen["CONN_MAX_AGE"], chosen["CONN_HEALTH_CHECKS"]) == (PLAIN, 0, False)
    assert "pool" not in chosen["OPTIONS"]


@pytest.mark.parametrize(("strategy", "worker"), list(product(STRATEGIES, WORKERS)))
def test_server_side_cursors_only_where_the_client_owns_the_session(strategy, worker):
    disabled = {mode: settings(mode, strategy, worker)["DISABLE_SERVER_SIDE_CURSORS"] for mode in POOL_MODES}
    assert disabled == {"session": False, "transaction": True, "statement": True}


def test_prepared_statements_need_a_connection_that_lasts():
    for strategy, worker in [("persistent", "gthread"), ("pool", "gthread"), ("pool", "gevent"), ("pool", "asgi")]:
        options = settings(strategy=strategy, worker=worker, prepared_statements=True)["OPTIONS"]
        assert (options["server_side_binding"], options["prepare_threshold"]) == (True, 5)
    assert "prepare_threshold" not in settings(strategy="per-request", prepared_statements=True)["OPTIONS"]
    assert "prepare_threshold" not in settings()["OPTIONS"]


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        ({"pool_mode": "both"}, "POOL_MODE"),
        ({"strategy": "none"}, "CONNECTION_STRATEGY"),
        ({"worker": "uwsgi"}, "WEB_WORKER"),
    ],
)
def test_an_unknown_choice_is_named_with_its_remedy(choice, name):
    (value,) = choice.values()
    with pytest.raises(ImproperlyConfigured, match=rf"{name} is '{value}'\. Use one of .+ in \.env"):
        settings(**choice)


def test_a_url_as_the_page_gives_it(tmp_path: Path):
    entry = database("postgresql://user:pass@pgbouncer:5432/mydb\n", tmp_path, settings())
    wanted = {"USER": "user", "PASSWORD": "pass", "HOST": "pgbouncer", "PORT": 5432, "NAME": "mydb", "ENGINE": PLAIN}
    assert wanted.items() <= entry.items()


def test_a_url_without_a_password_takes_it_from_the_roles_secret(tmp_path: Path):
    (tmp_path / "app_password").write_text("s3cret\n")
    assert database("postgresql://app@pgbouncer/mydb", tmp_path, settings())["PASSWORD"] == "s3cret"
    assert database("postgresql://app:own@pgbouncer/mydb", tmp_path, settings())["PASSWORD"] == "own"
    assert database("postgresql://other@pgbouncer/mydb", tmp_path, settings())["PASSWORD"] == ""


def test_options_in_a_url_are_kept_and_not_shared(tmp_path: Path):
    chosen = settings()
    entry = database("postgresql://app@h/db?sslmode=require", tmp_path, chosen)
    assert entry["OPTIONS"] == {**chosen["OPTIONS"], "sslmode": "require"}
    assert "sslmode" not in chosen["OPTIONS"]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://app@/mydb?host=/Run/post%20gres&port=5433",
        "postgresql://app@%2FRun%2Fpost%20gres:5433/mydb",
        "postgresql:///?host=/Run/post%20gres&port=5433&user=app&dbname=mydb",
        # As in libpq, the query is the last word.
        "postgresql://x@elsewhere:1/x?host=/Run/post%20gres&port=5433&user=app&dbname=mydb&password=0123",
    ],
)
def test_an_address_in_any_form_of_libpqs_urls(url: str, tmp_path: Path):
    entry = database(f"{url}&sslmode=disable" if "?" in url else f"{url}?sslmode=disable", tmp_path, settings())
    assert (entry["HOST"], str(entry["PORT"])) == ("/Run/post gres", "5433")
    assert (entry["USER"], entry["NAME"]) == ("app", "mydb")
    assert entry["PASSWORD"] in ("", "0123")
    assert entry["OPTIONS"] == {**settings()["OPTIONS"], "sslmode": "disable"}


def test_a_service_may_name_role_and_database(tmp_path: Path):
    assert database("postgresql:///?service=mine", tmp_path, settings())["OPTIONS"]["service"] == "mine"


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("", "is empty"),
        (" ", "is empty"),
        ("postgresql://host:5432/mydb", "names no role"),
        ("postgresql://app:secret@host", "names no database"),
        ("postgresql://app:secret@host/", "names no database"),
        ("app:secret@host/mydb", "is no PostgreSQL URL"),
        ("mysql://app:secret@host/mydb", "is no PostgreSQL URL"),
        ("postgresql://app:sec/secret@host/mydb", "cannot be read as a URL"),
        ("postgresql://app:secret@[host/mydb", "cannot be read as a URL"),
    ],
)
def test_what_is_no_address_is_told_without_its_password(url: str, wrong: str, tmp_path: Path):
    for given, variable in (((url, []), "DATABASE_URL"), (("postgresql://a@h/d", [url]), "DATABASE_REPLICA_URLS")):
        with pytest.raises(ImproperlyConfigured, match=rf"^{variable} {wrong}.* Give {variable}=postgresql://") as told:
            databases(*given, tmp_path, settings())
        assert "secret" not in str(told.value)


@pytest.mark.parametrize("name", ["mydb", "a" * NAME_LIMIT])
def test_a_test_database_has_a_name_that_postgresql_takes(name: str, tmp_path: Path):
    """With what parallel runs append."""
    entry = databases(f"postgresql://app@h/{name}", [], tmp_path, settings())["default"]
    assert len(entry["TEST"]["NAME"] + "_gw99") <= NAME_LIMIT
    assert entry["TEST"]["NAME"] == f"test_{name}" or len(name) > NAME_LIMIT - len("test__gw99")


def test_aliases(tmp_path: Path):
    urls = [f"postgresql://app@pgbouncer/replica_{number}" for number in (1, 2, 3)]
    entries = databases("postgresql://app@pgbouncer/mydb", urls, tmp_path, settings())
    assert [(alias, entry["NAME"]) for alias, entry in entries.items()] == [
        ("default", "mydb"),
        ("replica", "replica_1"),
        ("replica_2", "replica_2"),
        ("replica_3", "replica_3"),
    ]


def test_without_replicas_the_alias_replica_is_the_primary(tmp_path: Path):
    entries = databases("postgresql://app@pgbouncer/mydb", [], tmp_path, settings())
    assert list(entries) == ["default", "replica"]
    assert entries["replica"]["NAME"] == "mydb"
