"""What single steps cost, each right after the other in every round.

usage: micro.py ROUNDS   prints a line of JSON for each
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import randrange
from statistics import median
from typing import Any

import psycopg
from config.liveness import is_quiet
from connecting import SQL, connect
from dbrouting.tokens import POSITION
from plan import relays
from run import relay
from works import ARTICLES, slug

RELAYED = "a query through the relay of 1 ms"


def opening(host: str, **how: Any) -> Callable[[], None]:
    """With a query: PgBouncer gives a server only to who asks something."""

    def step() -> None:
        with connect(host, **how) as connection:
            connection.execute("SELECT 1")

    return step


def asking(host: str, *, prepared: bool) -> Callable[[], None]:
    """As Django does: bound on the client, or on the server and prepared."""
    connection = connect(host)
    connection.prepare_threshold = 0 if prepared else None
    cursor = connection.cursor() if prepared else psycopg.ClientCursor(connection)
    return lambda: cursor.execute(SQL, [slug(randrange(ARTICLES))]).fetchone()


def steps() -> dict[str, tuple[int, Callable[[], Any]]]:
    """Name: how often in a round, and what."""
    direct, pooled = connect("primary"), connect("pgbouncer")
    far = {rtt: connect("127.0.0.1", port=min(relays(rtt)), connect_timeout=10) for rtt in (1, 5)}
    return {
        "open, ask and close: direct": (30, opening("primary")),
        "open, ask and close: direct, TLS": (30, opening("primary", tls=True)),
        # The host has given this role a password hashed once, by scram_iterations = 1.
        "open, ask and close: direct, SCRAM with 1 iteration": (30, opening("primary", user="monitor")),
        "open, ask and close: PgBouncer": (30, opening("pgbouncer")),
        "open, ask and close: PgBouncer, TLS on both hops": (30, opening("pgbouncer-tls", tls=True)),
        "a row by its index: direct": (300, asking("primary", prepared=False)),
        "a row by its index: direct, prepared": (300, asking("primary", prepared=True)),
        "a row by its index: PgBouncer": (300, asking("pgbouncer", prepared=False)),
        "a row by its index: PgBouncer, prepared": (300, asking("pgbouncer", prepared=True)),
        "the position for a visitor's token: PgBouncer": (300, lambda: pooled.execute(POSITION)),
        "health check, a query: direct": (300, lambda: direct.execute("SELECT 1")),
        "health check, a query: PgBouncer": (300, lambda: pooled.execute("SELECT 1")),
        "health check, the socket": (3000, lambda: is_quiet(pooled)),
        RELAYED: (200, lambda: far[1].execute("SELECT 1")),
        "a query through the relay of 5 ms": (50, lambda: far[5].execute("SELECT 1")),
    }


def processor_time(process: int) -> float:
    """Seconds, of user and system."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def tell(number: int, what: str, seconds: float) -> None:
    print(
        json.dumps({"set": "micro", "round": number, "what": what, "microseconds": round(1e6 * seconds, 3)}), flush=True
    )


with relay(1) as near, relay(5):
    todo = steps()
    for number in range(int(sys.argv[1])):
        for name, (times, step) in todo.items():
            took, before = [], processor_time(near.pid)
            for _ in range(times):
                began = time.perf_counter()
                step()
                took.append(time.perf_counter() - began)
            tell(number, name, median(took))
            if name == RELAYED:
                tell(number, "of that, processor time of the relay", (processor_time(near.pid) - before) / times)
