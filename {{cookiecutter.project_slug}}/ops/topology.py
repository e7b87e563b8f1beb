"""What runs, measured: the nodes as Django reaches them, each replica's replay lag, PgBouncer's pools."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from django.conf import settings

from dbrouting.monitor import configured, connect

# Seconds after which a replica counts as not replaying.
PATIENCE = 5.0


@dataclass
class Node:
    alias: str
    role: str
    address: str
    lag_ms: float | None = None
    problem: str = ""


def nodes() -> Iterator[Node]:
    """The primary and each replica; lag_ms: from a commit on the primary until the replica had replayed it."""
    yield _node("default")
    for alias in settings.DBROUTING["REPLICAS"]:
        node = _node(alias)
        if not node.problem:
            try:
                _measure_lag(node)
            except psycopg.Error as error:
                node.problem = _first_line(error)
        yield node


def _node(alias: str) -> Node:
    config = configured[alias]
    node = Node(alias, "?", f"{config['HOST']}:{config['PORT']}/{config['NAME']}")
    try:
        # Not by Django's connection: what a replica does not answer, that would ask the primary.
        with connect(alias) as connection:
            answer = connection.execute("SELECT pg_is_in_recovery(), host(inet_server_addr()), inet_server_port()")
            in_recovery, host, port = answer.fetchone() or (False, None, None)
            # What the settings leave out, libpq has filled in.
            node.address = f"{connection.info.host}:{connection.info.port}/{connection.info.dbname}"
    except psycopg.Error as error:
        node.problem = _first_line(error)
        return node
    node.role = "replica" if in_recovery else "primary"
    if host:
        node.address += f" on {host}:{port}"
    return node


def _measure_lag(node: Node) -> None:
    """Commits a message that no table holds, and waits for it. pg_current_wal_lsn() would not do: it may stand inside a
    record that is still being written, where no replica ever arrives.
    """
    with connect("default") as primary, connect(node.alias) as replica:
        replica.execute("SELECT 1")  # PgBouncer's connection is open before the clock runs
        lsn = primary.execute("SELECT pg_logical_emit_message(true, 'topology', '')").fetchone()
        started = time.monotonic()
        while time.monotonic() - started < PATIENCE:
            if replica.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", lsn).fetchone() == (True,):
                node.lag_ms = (time.monotonic() - started) * 1000
                return
    node.problem = f"has not replayed the primary's last record within {PATIENCE:g} s"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def pgbouncer(command: str, alias: str = "default") -> list[dict[str, Any]] | None:
    """The rows of a SHOW command, or None where `alias` is reached without PgBouncer.

    :raises psycopg.OperationalError: if nobody answers
    """
    # PgBouncer's console speaks the simple protocol only.
    simple = {"cursor_factory": psycopg.ClientCursor, "row_factory": psycopg.rows.dict_row}
    try:
        with connect(alias, dbname="pgbouncer", **simple) as console:
            return console.execute(command).fetchall()
    except psycopg.OperationalError as error:
        # PostgreSQL itself: it has no database of that name, or lets nobody into it.
        if 'database "pgbouncer"' in str(error):
            return None
        raise
