"""Each choice, running: `docker compose up --wait`, then everything that the choice promises."""

import json
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.stack.stack import ComposeError, Stack, eventually

# The defaults, then every other answer; what the prompts refuse is answered together.
CHOSEN = {
    "defaults": {},
    "session": {"pool_mode": "session"},
    "session, pool": {"pool_mode": "session", "connection_strategy": "pool"},
    "statement": {"pool_mode": "statement"},
    "gevent": {"web_worker": "gevent", "connection_strategy": "pool"},
    "asgi": {"web_worker": "asgi", "connection_strategy": "pool"},
    "pool": {"connection_strategy": "pool"},
    "per request": {"connection_strategy": "per-request"},
    "no replica": {"replicas": "0"},
    "PostgreSQL 17, three replicas": {"postgres_version": "17", "replicas": "3"},
    "synchronous": {"synchronous_commit": "on"},
    "applied, 17, statement, asgi": {
        "synchronous_commit": "remote_apply",
        "postgres_version": "17",
        "replicas": "2",
        "pool_mode": "statement",
        "web_worker": "asgi",
        "connection_strategy": "pool",
    },
}

# Visits of four requests each after each of three faults: over 1,000 requests for each way to keep connections.
STALE_VISITS = int(os.environ.get("STALE_VISITS", "90"))
# The ways to keep connections that test_no_request_fails_on_a_stale_connection has seen.
STALE_TRIED: set[tuple[str, str, bool]] = set()

PLAIN = "config.backends.postgresql"
POOL = {"min_size": 1, "max_size": 4, "timeout": 10}
TIMEOUTS = {"connect_timeout": 3, "tcp_user_timeout": 10_000, "keepalives_idle": 30, "keepalives_interval": 5}
# (strategy, worker) -> ENGINE, CONN_MAX_AGE, CONN_HEALTH_CHECKS, the OPTIONS beside TIMEOUTS
TABLE = {
    ("persistent", "gthread"): (PLAIN, 600, True, {}),
    ("pool", "gthread"): (PLAIN, 0, True, {"pool": POOL}),
    ("pool", "asgi"): (PLAIN, 0, True, {"pool": POOL}),
    ("pool", "gevent"): ("config.backends.geventpool", 0, False, {"MAX_CONNS": 4, "REUSE_CONNS": 4}),
    ("per-request", "gthread"): (PLAIN, 0, False, {}),
}
DEFAULTS = {"pool_mode": "transaction", "connection_strategy": "persistent", "web_worker": "gthread", "replicas": "1"}
DEFAULTS |= {"synchronous_commit": "local", "postgres_version": "18"}

SETTINGS = """
import json
from django.conf import settings
names = ("ENGINE", "CONN_MAX_AGE", "CONN_HEALTH_CHECKS", "DISABLE_SERVER_SIDE_CURSORS", "OPTIONS", "HOST", "NAME")
entries = {alias: {name: entry[name] for name in names} for alias, entry in settings.DATABASES.items()}
print(json.dumps(entries))
"""


def strategy_in_effect(answers: dict[str, str]) -> str:
    """Through session mode a thread would hold its server even while idle: there, persistent is per-request."""
    strategy = answers["connection_strategy"]
    return "per-request" if (strategy, answers["pool_mode"]) == ("persistent", "session") else strategy


@pytest.fixture(scope="module", params=CHOSEN.values(), ids=CHOSEN.keys())
def chosen(request: pytest.FixtureRequest, make_stack: Callable) -> tuple[Stack, dict[str, str]]:
    with make_stack(**request.param) as stack:
        stack.up()
        yield stack, DEFAULTS | request.param


def test_it_is_whole(chosen: tuple[Stack, dict[str, str]]) -> None:
    stack, answers = chosen
    stack.assert_whole()
    assert stack.running() == sorted(["pgbouncer", "primary", "web", *stack.replicas])
    assert stack.inspect("migrate")["State"]["ExitCode"] == 0
    assert stack.psql("primary", "SHOW server_version").split(".")[0] == answers["postgres_version"]
    assert f"Using worker: {answers['web_worker']}" in stack.logs("web")


def test_every_page_answers(chosen: tuple[Stack, dict[str, str]]) -> None:
    stack, _ = chosen
    pages = ["/", stack.an_article(), "/most-discussed/", "/from-replica/", "/admin/login/", "/livez", "/readyz"]
    assert {page: stack.get(page).status_code for page in pages} == dict.fromkeys(pages, 200)
    databases = ["default", "replica", "replica_2", "replica_3"][: 1 + len(stack.replicas)]
    eventually(lambda: stack.get("/readyz").json()["databases"] == dict.fromkeys(databases, "ok"))
    assert stack.get("/readyz").json()["status"] == "ok"


def test_a_row_written_through_the_site_reaches_every_replica(chosen: tuple[Stack, dict[str, str]]) -> None:
    stack, _ = chosen
    stack.comment("through the site")
    assert stack.comments("primary", "through the site") == 1
    for replica in stack.replicas:
        eventually(lambda replica=replica: stack.comments(replica, "through the site") == 1, patience=10)


def test_reads_come_from_a_replica(chosen: tuple[Stack, dict[str, str]]) -> None:
    stack, _ = chosen
    article = stack.an_article()

    def databases() -> tuple[bool, bool]:
        page = stack.get(article).text
        footer = page[page.rindex("<footer") :]
        return "replica" in footer, "default" in footer

    # A process that has just begun asks the primary, until it knows where the replicas stand.
    eventually(lambda: {databases() for _ in range(8)} == {(bool(stack.replicas), not stack.replicas)})


def test_a_visitor_finds_his_own_comment_at_once(chosen: tuple[Stack, dict[str, str]]) -> None:
    """Though no replica replays anything. Where a COMMIT waits for that, it would wait for ever."""
    stack, answers = chosen
    article = stack.an_article()
    replicas = stack.replicas if answers["synchronous_commit"] != "remote_apply" else []
    for replica in replicas:
        stack.psql(replica, "SELECT pg_wal_replay_pause()")
    visitor = stack.comment("found at once")
    for _ in range(10):
        assert "found at once" in visitor.get(f"http://127.0.0.1:{stack.port}{article}", timeout=30).text
    for replica in replicas:
        stack.psql(replica, "SELECT pg_wal_replay_resume()")


def test_no_request_fails_when_a_replica_goes_away(chosen: tuple[Stack, dict[str, str]]) -> None:
    stack, _ = chosen
    if not stack.replicas:
        pytest.skip("no replica")
    pages, over = ["/", "/from-replica/", stack.an_article()], threading.Event()

    def ask(page: str) -> list[int]:
        answers = []
        while not over.is_set():
            answers.append(stack.get(page).status_code)
        return answers

    with ThreadPoolExecutor(6) as clients:
        asking = [clients.submit(ask, page) for page in pages * 2]
        try:
            for again in ("kill", "restart", "pause"):
                if again == "pause":
                    with stack.paused("replica-1"):
                        time.sleep(1.5)
                    stack.recovers("replica-1")
                else:
                    stack.compose(again, "replica-1")
                    time.sleep(1.5)
                    stack.compose("start", "replica-1")
                # With it the site is as it was, in every worker.
                eventually(lambda: {stack.get("/readyz").json()["status"] for _ in range(8)} == {"ok"})
        finally:
            over.set()
    answers = [answer for client in asking for answer in client.result()]
    assert set(answers) == {200}


def visit(stack: Stack, number: int) -> None:
    """Four requests: a page, the list, an article, and a comment there."""
    assert stack.get(("/", "/most-discussed/", "/from-replica/")[number % 3]).status_code == 200
    stack.comment(f"visit {number}")


def test_no_request_fails_on_a_stale_connection(chosen: tuple[Stack, dict[str, str]]) -> None:
    """Whatever ends the connections that the site keeps, while nobody asks."""
    stack, answers = chosen
    # Only in session mode a client of PgBouncer's dies with its server.
    kept = answers["connection_strategy"], answers["web_worker"], answers["pool_mode"] == "session"
    if kept in STALE_TRIED:
        pytest.skip("another choice keeps its connections the same way")
    STALE_TRIED.add(kept)

    def kill_backends() -> None:
        for node in ("primary", *stack.replicas):
            stack.psql(node, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")

    def restart(service: str) -> None:
        # PgBouncer, which would be restarted with its primary, stays as it is.
        stack.compose("restart", "--no-deps", service)
        stack.compose("up", "--detach", "--wait", "--no-deps", service)

    stack.an_article()
    with ThreadPoolExecutor(16) as clients:
        list(clients.map(lambda number: visit(stack, number), range(32)))
        for fault in (kill_backends, lambda: restart("pgbouncer"), lambda: restart("primary")):
            fault()
            # Four requests each: a comment is a list, a form and the answer.
            list(clients.map(lambda number: visit(stack, number), range(STALE_VISITS)))


def test_the_budget_holds(chosen: tuple[Stack, dict[str, str]]) -> None:
    """Under load the site has no more connections than it may, and no fewer than that it was worth counting."""
    stack, answers = chosen
    shown = re.search(r"clients of PgBouncer: (\d+) processes.*?│\s+(\d+) │", stack.manage("budget"))
    assert shown
    processes, budget = map(int, shown.groups())
    # With requests enough, what is kept open is all open.
    least = processes if strategy_in_effect(answers) == "per-request" else budget // 2
    clients, servers = [], []
    stack.an_article()
    with ThreadPoolExecutor(32) as visitors:
        visits = [visitors.submit(visit, stack, number) for number in range(100)]
        while not all(one.done() for one in visits):
            clients.append(stack.clients())
            opened = Counter(row["database"] for row in stack.pgbouncer("SHOW SERVERS") if row["user"] == "app")
            servers.append(max(opened.values(), default=0))
    for one in visits:
        one.result()
    print(f"clients {clients} of {budget}, at least {least}; servers {servers}")
    assert least <= max(clients) <= budget
    assert 1 <= max(servers) <= int(stack.env("POOL_SIZE")) + int(stack.env("RESERVE_POOL_SIZE"))


def test_the_replica_refuses_writes(chosen: tuple[Stack, dict[str, str]]) -> None:
    stack, _ = chosen
    write = "Article.objects.using('replica').create(title='x', slug='refused', body='x', author_name='x')"
    if stack.replicas:
        with pytest.raises(ComposeError, match="cannot execute INSERT in a read-only transaction"):
            stack.shell(f"from articles.models import Article; {write}")
    for replica in stack.replicas:
        with pytest.raises(ComposeError, match="cannot execute DELETE in a read-only transaction"):
            stack.psql(replica, "DELETE FROM articles_comment")


def test_each_replica_streams_on_its_slot(chosen: tuple[Stack, dict[str, str]]) -> None:
    stack, answers = chosen
    rows = stack.psql(
        "primary",
        "SELECT application_name, state, slot_name, sync_state FROM pg_stat_replication"
        " LEFT JOIN pg_replication_slots ON active_pid = pid ORDER BY 1",
    ).splitlines()
    sync = "async" if answers["synchronous_commit"] == "local" else "quorum"
    assert rows == [f"{replica}|streaming|{replica.replace('-', '_')}|{sync}" for replica in stack.replicas]
    assert stack.psql("primary", "SHOW synchronous_commit") == answers["synchronous_commit"]


def test_pgbouncer_has_the_chosen_modes(chosen: tuple[Stack, dict[str, str]]) -> None:
    stack, answers = chosen
    stack.get("/")
    mode = answers["pool_mode"]
    primary_mode = "transaction" if mode == "statement" else mode
    wanted = {stack.slug: (stack.address("primary"), primary_mode)}
    wanted |= {replica.replace("-", "_"): (stack.address(replica), mode) for replica in stack.replicas}
    databases = {row["name"]: (row["host"], row["pool_mode"]) for row in stack.pgbouncer("SHOW DATABASES")}
    del databases["pgbouncer"]
    assert databases == wanted
    pools = {row["database"]: row["pool_mode"] for row in stack.pgbouncer("SHOW POOLS") if row["user"] == "app"}
    assert pools == {name: mode for name, (_, mode) in wanted.items() if name in pools}
    assert stack.slug in pools


def test_django_has_the_settings_of_the_table(chosen: tuple[Stack, dict[str, str]]) -> None:
    stack, answers = chosen
    engine, max_age, checks, options = TABLE[strategy_in_effect(answers), answers["web_worker"]]
    names = {"default": stack.slug, "replica": "replica_1" if stack.replicas else stack.slug}
    names |= {"replica_2": "replica_2", "replica_3": "replica_3"}
    aliases = list(names)[: 1 + max(1, len(stack.replicas))]
    assert json.loads(stack.shell(SETTINGS).splitlines()[-1]) == {
        alias: {
            "ENGINE": engine,
            "CONN_MAX_AGE": max_age,
            "CONN_HEALTH_CHECKS": checks,
            "DISABLE_SERVER_SIDE_CURSORS": answers["pool_mode"] != "session",
            "OPTIONS": {**TIMEOUTS, **options},
            "HOST": "pgbouncer",
            "NAME": names[alias],
        }
        | (for_a_replica(options) if alias != "default" and stack.replicas else {})
        for alias in aliases
    }


def for_a_replica(options: dict[str, Any]) -> dict[str, Any]:
    """What is different there."""
    gevent = "MAX_CONNS" in options
    pool = {"pool": options["pool"] | {"timeout": 2}} if "pool" in options else {}
    return {
        "ENGINE": "config.backends.geventpool_replica" if gevent else "config.backends.replica",
        "CONN_HEALTH_CHECKS": False,
        "DISABLE_SERVER_SIDE_CURSORS": True,
        "OPTIONS": {**TIMEOUTS, **options, **pool},
    }


def test_checks_are_silent(chosen: tuple[Stack, dict[str, str]]) -> None:
    stack, answers = chosen
    silent = "System check identified no issues (0 silenced).\n"
    aliases = ["default", "replica", "replica_2", "replica_3"][: 1 + max(1, len(stack.replicas))]
    databases = [argument for alias in aliases for argument in ("--database", alias)]
    assert stack.manage("check", *databases, "--fail-level", "INFO") == silent
    # As it would be deployed: behind TLS.
    assert stack.manage("check", "--deploy", "--fail-level", "INFO", SITE_URL="https://www.example.com") == silent
    if answers["pool_mode"] == "statement":
        # An entry that refuses BEGIN, as the primary.
        with pytest.raises(ComposeError, match=r"dbrouting\.E010"):
            stack.manage("check", "--database", "default", DATABASE_URL="postgresql://app@pgbouncer:5432/replica_1")


def test_slow_queries_are_found(chosen: tuple[Stack, dict[str, str]]) -> None:
    stack, _ = chosen
    assert "articles_article" in stack.manage("slowqueries", "--limit", "100", "--by", "calls")
    assert stack.psql("primary", "SHOW log_min_duration_statement") == "100ms"
    stack.psql("primary", "SELECT pg_sleep(0.15)")
    assert "SELECT pg_sleep(0.15)" in stack.logs("primary")


def test_topology_shows_nodes_and_pools(chosen: tuple[Stack, dict[str, str]]) -> None:
    stack, _ = chosen
    shown = stack.manage("topology")
    assert "primary" in shown and "PgBouncer's pools" in shown
    assert shown.count(" ms ") == len(stack.replicas)
