"""What an idle connection costs: a backend of PostgreSQL, a client of PgBouncer."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.stack.stack import Stack

BACKENDS, CLIENTS = 50, 900


@contextmanager
def held(stack: Stack, host: str, number: int) -> Iterator[list[str]]:
    """:returns: the processes that serve them"""
    command = ["docker", "compose", "exec", "-T", "bench", "python", "/bench/in_container/hold.py", host, str(number)]
    with subprocess.Popen(
        command, cwd=stack.project, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin and process.stdout
        processes = process.stdout.readline().split()
        assert len(processes) == number, f"{host}: {len(processes)} of {number}"
        yield processes
        process.stdin.close()


def resident(stack: Stack, service: str, processes: list[str], field: str) -> int:
    """Bytes of all of them. PSS shares what is shared, RSS counts it each time."""
    files = [f"/proc/{process}/smaps_rollup" for process in processes]
    found = re.findall(
        rf"^{field}: +(\d+) kB", stack.compose("exec", "-T", service, "cat", *files).stdout, re.MULTILINE
    )
    assert len(found) == len(processes)
    return sum(1024 * int(kilobytes) for kilobytes in found)


def memory(stack: Stack) -> Iterator[dict[str, Any]]:
    with held(stack, "primary", BACKENDS) as backends:
        size = resident(stack, "primary", backends, "Pss") / BACKENDS
        yield {"set": "memory", "what": "backend of PostgreSQL", "bytes": size}
    # It keeps what earlier clients have needed.
    stack.compose("restart", "--no-deps", "pgbouncer")
    stack.up("pgbouncer")
    itself = stack.compose("exec", "-T", "pgbouncer", "pgrep", "--full", "^pgbouncer").stdout.split()
    before = resident(stack, "pgbouncer", itself, "Rss")
    with held(stack, "pgbouncer", CLIENTS):
        after = resident(stack, "pgbouncer", itself, "Rss")
        yield {"set": "memory", "what": "client of PgBouncer", "bytes": (after - before) / CLIENTS}
