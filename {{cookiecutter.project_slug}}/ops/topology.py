"""What runs, measured: the nodes as Django reaches them, each replica's replay lag, PgBouncer's pools."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from django.conf import settings
from django.db import DatabaseError, connections

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
    """The primary and each replica; lag_ms: how long it took to replay what the primary had written by then."""
    yield _node("default", None)
    for alias in settings.DBROUTING["REPLICAS"]:
        try:
            with connections["default"].cursor() as cursor:
                cursor.execute("SELECT pg_current_wal_lsn()")
                lsn = cursor.fetchone()[0]
        except DatabaseError:
            lsn = None
        yield _node(alias, lsn)


def _node(alias: str, lsn: str | None) -> Node:
    config = connections[alias].settings_dict
    node = Node(alias, "?", f"{config['HOST']}:{config['PORT']}/{config['NAME']}")
    try:
        with connections[alias].cursor() as cursor:
            started = time.monotonic()
            cursor.execute("SELECT pg_is_in_recovery(), host(inet_server_addr()), inet_server_port()")
            in_recovery, host, port = cursor.fetchone()
            node.role = "replica" if in_recovery else "primary"
            if host:
                node.address += f" on {host}:{port}"
            while in_recovery and lsn and node.lag_ms is None:
                cursor.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [lsn])
                if cursor.fetchone()[0]:
                    node.lag_ms = (time.monotonic() - started) * 1000
                elif time.monotonic() - started > PATIENCE:
                    node.problem = f"has not replayed {lsn} within {PATIENCE:g} s"
                    break
    except DatabaseError as error:
        node.problem = str(error).strip().splitlines()[0]
    return node


def pgbouncer(command: str) -> list[dict[str, Any]] | None:
    """The rows of a SHOW command, or None where `default` is reached without PgBouncer."""
    config = connections["default"].settings_dict
    try:
        with psycopg.connect(
            host=config["HOST"],
            port=config["PORT"] or 5432,
            user=config["USER"],
            password=config["PASSWORD"],
            dbname="pgbouncer",
            autocommit=True,
            connect_timeout=3,
            # PgBouncer's console speaks the simple protocol only.
            cursor_factory=psycopg.ClientCursor,
            row_factory=psycopg.rows.dict_row,
        ) as console:
            return console.execute(command).fetchall()
    except psycopg.OperationalError as error:
        # PostgreSQL itself: it has no database of that name, or lets nobody into it.
        if 'database "pgbouncer"' in str(error):
            return None
        raise
