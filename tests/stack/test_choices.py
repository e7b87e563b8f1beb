"""Seven projects hold every answer, and every pair of answers that matters to each other. Each starts by
`docker compose up --wait` and does what its choices promise.
"""

import json
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.baking import CHOICES
from tests.conftest import MakeStack
from tests.stack.load import Load
from tests.stack.stack import ComposeError, Stack
from tests.waiting import eventually

CHOSEN: dict[str, dict[str, str]] = {
    "defaults": {},
    "session": {"pool_mode": "session"},
    "session, pool, 17, remote_apply": {
        "pool_mode": "session",
        "connection_strategy": "pool",
        "postgres_version": "17",
        "replicas": "3",
        "synchronous_commit": "remote_apply",
    },
    "statement, pool": {"pool_mode": "statement", "connection_strategy": "pool", "replicas": "2"},
    "per-request, no replica": {"connection_strategy": "per-request", "replicas": "0"},
    "gevent": {"web_worker": "gevent", "connection_strategy": "pool"},
    "asgi, statement, 17, on": {
        "web_worker": "asgi",
        "connection_strategy": "pool",
        "pool_mode": "statement",
        "postgres_version": "17",
        "replicas": "2",
        "synchronous_commit": "on",
    },
}
DEFAULTS = {name: values[0] for name, values in CHOICES.items()}

# Visits of four requests each after each of three faults.
STALE_VISITS = int(os.environ.get("STALE_VISITS", "25"))
PGBOUNCER_RESTARTS = int(os.environ.get("PGBOUNCER_RESTARTS", "1"))

REPORT = (Path(__file__).parent / "in_container" / "report.py").read_text()

PLAIN = "config.backends.postgresql"
POOL = {"min_size": 1, "max_size": 4, "timeout": 10}
TIMEOUTS = {"connect_timeout": 3, "tcp_user_timeout": 10_000, "keepalives_idle": 30, "keepalives_interval": 5}
# (strategy, worker) -> ENGINE, CONN_MAX_AGE, CONN_HEALTH_CHECKS, the OPTIONS beside TIMEOUTS
TABLE: dict[tuple[str, str], tuple[str, int, bool, dict[str, Any]]] = {
    ("persistent", "gthread"): (PLAIN, 600, True, {}),
    ("pool", "gthread"): (PLAIN, 0, True, {"pool": POOL}),
    ("pool", "asgi"): (PLAIN, 0, True, {"pool": POOL}),
    ("pool", "gevent"): ("config.backends.geventpool", 0, False, {"MAX_CONNS": 4, "REUSE_CONNS": 4}),
    ("per-request", "gthread"): (PLAIN, 0, False, {}),
}


class Chosen(NamedTuple):
    stack: Stack
    answers: dict[str, str]


@pytest.fixture(scope="module", params=CHOSEN)
def chosen(request: pytest.FixtureRequest, make_stack: MakeStack) -> Iterator[Chosen]:
    if not CHOSEN[request.param]:
        yield Chosen(request.getfixturevalue("default_stack"), DEFAULTS)
        return
    with make_stack(**CHOSEN[request.param]) as stack:
        stack.up()
        stack.an_article()
        yield Chosen(stack, DEFAULTS | CHOSEN[request.param])


@pytest.fixture
def stack(chosen: Chosen) -> Stack:
    return chosen.stack


@pytest.fixture
def answers(chosen: Chosen) -> dict[str, str]:
    return chosen.answers


@pytest.fixture(scope="module")
def report(chosen: Chosen) -> dict[str, Any]:
    """What the commands in the web container say."""
    chosen.stack.psql("primary", "SELECT pg_sleep(0.15)")
    said: dict[str, Any] = json.loads(chosen.stack.shell(REPORT))
    return said


def aliases(stack: Stack) -> list[str]:
    """Django's. Without a replica, `replica` is the primary once more."""
    return ["default", "replica", "replica_2", "replica_3"][: 1 + max(1, len(stack.replicas))]


# What is there --------------------------------------------------------------------------------------------------------


def test_it_is_whole(stack: Stack, answers: dict[str, str]) -> None:
    stack.assert_whole()
    assert stack.running() == sorted(["pgbouncer", "primary", "web", *stack.replicas])
    assert stack.inspect("migrate")["State"]["ExitCode"] == 0
    worker = {"gthread": "config.threads.Worker"}.get(answers["web_worker"], answers["web_worker"])
    assert f"Using worker: {worker}" in stack.logs("web")


def test_the_primary_is_as_chosen_and_each_replica_streams_on_its_slot(stack: Stack, answers: dict[str, str]) -> None:
    found = stack.facts(
        "primary",
        version="current_setting('server_version_num')::int / 10000",
        commit="current_setting('synchronous_commit')",
        slow="current_setting('log_min_duration_statement')",
        replicas="SELECT json_agg(concat_ws(' ', application_name, state, slot_name, sync_state) ORDER BY 1)"
        " FROM pg_stat_replication LEFT JOIN pg_replication_slots ON active_pid = pid",
    )
    sync = "async" if answers["synchronous_commit"] == "local" else "quorum"
    streams = [f"{replica} streaming {replica.replace('-', '_')} {sync}" for replica in stack.replicas]
    assert sorted(found.pop("replicas") or []) == streams
    assert found == {
        "version": int(answers["postgres_version"]),
        "commit": answers["synchronous_commit"],
        "slow": "100ms",
    }


def test_pgbouncer_has_the_chosen_modes(stack: Stack, answers: dict[str, str]) -> None:
    mode = answers["pool_mode"]
    wanted = {stack.slug: (stack.address("primary"), "transaction" if mode == "statement" else mode)}
    wanted |= {replica.replace("-", "_"): (stack.address(replica), mode) for replica in stack.replicas}
    databases = {row["name"]: (row["host"], row["pool_mode"]) for row in stack.pgbouncer("SHOW DATABASES")}
    del databases["pgbouncer"]
    assert databases == wanted
    stack.get("/")
    pools = {row["database"]: row["pool_mode"] for row in stack.pgbouncer("SHOW POOLS") if row["user"] == "app"}
    assert pools == {name: mode for name, (_, mode) in wanted.items() if name in pools}
    assert stack.slug in pools


def in_effect(answers: dict[str, str]) -> str:
    """Through session mode a thread would hold its server even while idle: there, persistent is per-request."""
    strategy = answers["connection_strategy"]
    return "per-request" if (strategy, answers["pool_mode"]) == ("persistent", "session") else strategy


def test_django_has_the_settings_of_the_table(stack: Stack, answers: dict[str, str], report: dict[str, Any]) -> None:
    engine, max_age, checks, options = TABLE[in_effect(answers), answers["web_worker"]]
    names = {"default": stack.slug, "replica": "replica_1" if stack.replicas else stack.slug}
    names |= {"replica_2": "replica_2", "replica_3": "replica_3"}
    assert report["databases"] == {
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
        for alias in aliases(stack)
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


def test_checks_are_silent(stack: Stack, answers: dict[str, str], report: dict[str, Any]) -> None:
    silent = "System check identified no issues (0 silenced)."
    assert report["check"].strip() == silent
    # As it would be deployed: behind TLS, and with a mail server.
    deployed = {"SITE_URL": "https://www.example.com", "EMAIL_URL": "smtp://mail.example.com"}
    assert stack.manage("check", "--deploy", "--fail-level", "INFO", **deployed) == silent
    if answers["pool_mode"] == "statement":
        # An entry that refuses BEGIN, as the primary.
        with pytest.raises(ComposeError, match=r"dbrouting\.E010"):
            stack.manage("check", "--database", "default", DATABASE_URL="postgresql://app@pgbouncer:5432/replica_1")


def test_slow_queries_are_found(stack: Stack, report: dict[str, Any]) -> None:
    assert "articles_article" in report["slowqueries"]
    assert "SELECT pg_sleep(0.15)" in stack.logs("primary")


def test_topology_shows_nodes_and_pools(stack: Stack, report: dict[str, Any]) -> None:
    assert "primary" in report["topology"] and "PgBouncer's pools" in report["topology"]
    assert report["topology"].count(" ms ") == len(stack.replicas)


# What it does ---------------------------------------------------------------------------------------------------------


def test_every_page_answers(stack: Stack) -> None:
    pages = ["/", stack.an_article(), "/most-discussed/", "/from-replica/", "/admin/login/", "/livez", "/readyz"]
    assert {page: stack.get(page).status_code for page in pages} == dict.fromkeys(pages, 200)
    databases = aliases(stack)[: 1 + len(stack.replicas)]
    eventually(lambda: stack.get("/readyz").json()["databases"] == dict.fromkeys(databases, "ok"))
    eventually(stack.ready)


def test_a_row_written_through_the_site_reaches_every_replica(stack: Stack) -> None:
    stack.comment("through the site")
    assert stack.comments("primary", "through the site") == 1
    for replica in stack.replicas:
        eventually(lambda replica=replica: stack.comments(replica, "through the site") == 1)
    stack.psql("primary", "DELETE FROM articles_comment WHERE body = 'through the site'")


def test_reads_come_from_a_replica_where_there_is_one(stack: Stack) -> None:
    article = stack.an_article()

    def databases() -> tuple[bool, bool]:
        page = stack.get(article).text
        footer = page[page.rindex("<footer") :]
        return "database replica" in footer, "database primary" in footer

    # A process that has just begun asks the primary, until it knows where the replicas stand.
    eventually(lambda: {databases() for _ in range(8)} == {(bool(stack.replicas), not stack.replicas)})


def test_a_visitor_finds_their_own_comment_at_once(stack: Stack, answers: dict[str, str]) -> None:
    """Even while no replica replays. (Under remote_apply the COMMIT itself waits for the replica.)"""
    replicas = stack.replicas if answers["synchronous_commit"] != "remote_apply" else []
    try:
        for replica in replicas:
            stack.psql(replica, "SELECT pg_wal_replay_pause()")
        visitor = stack.comment("found at once")
        for _ in range(10):
            assert "found at once" in visitor.get(stack.url(stack.an_article()), timeout=30).text
    finally:
        for replica in replicas:
            stack.resume_replay(replica)


def test_a_replica_refuses_writes(stack: Stack) -> None:
    write = "Article.objects.using('replica').create(title='x', slug='refused', body='x', author_name='x')"
    if stack.replicas:
        with pytest.raises(ComposeError, match="cannot execute INSERT in a read-only transaction"):
            stack.shell(f"from articles.models import Article; {write}")
    for replica in stack.replicas:
        with pytest.raises(ComposeError, match="cannot execute DELETE in a read-only transaction"):
            stack.psql(replica, "DELETE FROM articles_comment")


# What ends connections ------------------------------------------------------------------------------------------------


def visit(stack: Stack, number: int) -> None:
    """Four requests: a page, the list, an article, and a comment there."""
    page = ("/", "/most-discussed/", "/from-replica/")[number % 3]
    assert stack.get(page).status_code == 200
    stack.comment(f"visit {number}")


@contextmanager
def visitors(ask: Callable[[], Any], number: int = 6) -> Iterator[list[Any]]:
    """So many clients repeat the request until the block ends. Afterwards the list holds the answers."""
    over = threading.Event()
    answers: list[Any] = []

    def repeat() -> None:
        while not over.is_set():
            answers.append(ask())

    with ThreadPoolExecutor(number) as clients:
        asking = [clients.submit(repeat) for _ in range(number)]
        try:
            yield answers
        finally:
            over.set()
    for one in asking:
        one.result()


def goes_on_without(stack: Stack, statuses: list[int]) -> None:
    """Requests meet the fault while nobody knows of it, and again when the site does."""
    eventually(lambda: not stack.ready())
    enough = len(statuses) + 50
    eventually(lambda: len(statuses) >= enough)


def killed(stack: Stack, statuses: list[int]) -> None:
    stack.compose("kill", "replica-1")
    goes_on_without(stack, statuses)
    stack.compose("start", "replica-1")


def restarted(stack: Stack, statuses: list[int]) -> None:
    stack.compose("restart", "replica-1")


def frozen(stack: Stack, statuses: list[int]) -> None:
    with stack.paused("replica-1"):
        goes_on_without(stack, statuses)
    stack.recovers("replica-1")


def test_no_request_fails_when_a_replica_goes_away(stack: Stack) -> None:
    if not stack.replicas:
        pytest.skip("no replica")
    pages = cycle(["/", "/from-replica/", stack.an_article()])
    with visitors(lambda: stack.get(next(pages)).status_code) as statuses:
        for fault in (killed, restarted, frozen):
            fault(stack, statuses)
            # In every worker the site is as it was.
            eventually(lambda: all(stack.ready() for _ in range(8)), patience=180)
    assert Counter(statuses).keys() == {200}


def test_no_request_fails_on_a_stale_connection(stack: Stack) -> None:
    """Whatever ends the connections that the site keeps, while nobody asks."""

    def kill_backends() -> None:
        # With a timeout (ms) it waits until they have ended. A request that got one before would fail for good reason.
        kill = "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE usename = 'app'"
        for node in ("primary", *stack.replicas):
            stack.psql(node, kill)

    def restart(service: str) -> None:
        # PgBouncer, which would be restarted with its primary, stays as it is.
        stack.compose("restart", "--no-deps", service)
        stack.up("--no-deps", service)

    stack.an_article()
    with ThreadPoolExecutor(16) as clients:
        list(clients.map(lambda number: visit(stack, number), range(32)))
        for fault in (kill_backends, lambda: restart("pgbouncer"), lambda: restart("primary")):
            fault()
            # A synchronous commit waits for the replicas, which find their primary again within seconds.
            stack.assert_whole()
            list(clients.map(lambda number: visit(stack, number), range(STALE_VISITS)))


def test_no_request_fails_while_pgbouncer_is_restarted(stack: Stack, answers: dict[str, str]) -> None:
    if answers["pool_mode"] == "session":
        pytest.skip("a request that is in the middle of its session when PgBouncer ends it may fail")
    with Load(stack) as load:
        load.asks(50)
        for _ in range(PGBOUNCER_RESTARTS):
            stack.compose("restart", "pgbouncer")
            load.asks(50)
    print(f"{PGBOUNCER_RESTARTS} restarts: {load.requests} requests, longest {load.longest:.1f} s")
    assert load.failures == []


def test_the_budget_holds_under_load(stack: Stack, answers: dict[str, str], report: dict[str, Any]) -> None:
    """And afterwards a connection is kept where the strategy says so, and nowhere else."""
    budget = re.search(r"clients of PgBouncer: \d+ processes.*?│\s+(\d+) │", report["budget"])
    assert budget
    clients, servers = [], []
    with ThreadPoolExecutor(32) as pool:
        visits = [pool.submit(visit, stack, number) for number in range(64)]
        while not all(one.done() for one in visits):
            clients.append(stack.clients())
            opened = Counter(row["database"] for row in stack.pgbouncer("SHOW SERVERS") if row["user"] == "app")
            servers.append(max(opened.values(), default=0))
    for one in visits:
        one.result()
    assert 1 <= max(clients) <= int(budget[1])
    assert 1 <= max(servers) <= int(stack.env("POOL_SIZE")) + int(stack.env("RESERVE_POOL_SIZE"))
    # Each of the two workers samples every node, over connections of its own.
    samples = 2 * (1 + len(stack.replicas)) if stack.replicas else 0
    if in_effect(answers) == "per-request":
        eventually(lambda: stack.clients() <= samples)
    else:
        assert stack.clients() > samples
