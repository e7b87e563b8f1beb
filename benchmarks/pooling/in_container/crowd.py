"""Many clients, each with a connection of its own: they connect, ask by an index, think, ask again; then all ask at once.

usage: crowd.py HOST CLIENTS   prints a line of JSON
"""

import asyncio
import json
import random
import sys
import time
from collections import Counter
from statistics import median, quantiles
from typing import Any

import psycopg
from connecting import SQL, conninfo
from psycopg.conninfo import make_conninfo
from works import ARTICLES, slug

# Seconds. Thinking keeps the sum below what PostgreSQL can answer: what is measured is waiting for a connection.
LASTS, THINKS = 6, 10


def p99(times: list[float]) -> float:
    """Milliseconds."""
    return 1000 * quantiles(times, n=100, method="inclusive")[98]


class Crowd:
    def __init__(self, host: str, clients: int) -> None:
        self.conninfo = conninfo(host, connect_timeout=60)
        self.pooled = host.startswith("pgbouncer")
        self.clients = clients
        self.admitted = 0
        self.refused: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.times: list[float] = []
        # Logins cost this one process 4 ms each; more at once would only time each other out.
        self.door = asyncio.Semaphore(50)
        self.everybody_came = asyncio.Barrier(clients + 1)
        self.all_at_once = asyncio.Event()
        self.burst: list[float] = []

    async def ask(self, connection: "psycopg.AsyncConnection[Any]") -> float:
        """:returns: seconds"""
        began = time.perf_counter()
        await connection.execute(SQL, [slug(random.randrange(ARTICLES))])
        return time.perf_counter() - began

    async def client(self) -> None:
        connection = None
        try:
            async with self.door:
                connection = await psycopg.AsyncConnection.connect(
                    self.conninfo, autocommit=True, prepare_threshold=None
                )
            self.admitted += 1
        except psycopg.Error as error:
            self.refused[str(error).strip().splitlines()[-1].split("FATAL:")[-1].strip()] += 1
        await self.everybody_came.wait()
        if connection is None:
            return
        try:
            end = time.monotonic() + LASTS
            pause = random.uniform(0, LASTS / 2)
            while time.monotonic() + pause < end:
                await asyncio.sleep(pause)
                self.times.append(await self.ask(connection))
                pause = random.uniform(0, 2 * THINKS)
            await self.all_at_once.wait()
            self.burst.append(await self.ask(connection))
        except psycopg.Error as error:
            self.failed[str(error).strip().splitlines()[-1]] += 1
        finally:
            await connection.close()

    async def waited(self) -> float:
        """Seconds that all clients together have waited for a server of PgBouncer's. Its console knows no extended
        protocol.
        """
        console = make_conninfo(self.conninfo, dbname="pgbouncer")
        factory = psycopg.AsyncClientCursor
        async with await psycopg.AsyncConnection.connect(
            console, autocommit=True, cursor_factory=factory
        ) as connection:
            cursor = await connection.execute("SHOW STATS")
            assert cursor.description
            column = [column.name for column in cursor.description].index("total_wait_time")
            return sum(int(row[column]) for row in await cursor.fetchall()) / 1e6

    async def come(self) -> dict[str, Any]:
        async with asyncio.TaskGroup() as group:
            clients = [group.create_task(self.client()) for _ in range(self.clients)]
            await self.everybody_came.wait()
            await asyncio.sleep(LASTS + 1)
            before = await self.waited() if self.pooled else 0.0
            self.all_at_once.set()
            await asyncio.wait(clients)
            after = await self.waited() if self.pooled else 0.0
        return {
            "clients": self.clients,
            "admitted": self.admitted,
            "queries": len(self.times),
            "refused": sum(self.refused.values()),
            "failed": sum(self.failed.values()),
            "errors": dict((self.refused + self.failed).most_common(4)),
            "p50_ms": 1000 * median(self.times),
            "p99_ms": p99(self.times),
            "burst_p99_ms": p99(self.burst),
            "burst_waited_ms": 1000 * (after - before) / len(self.burst),
        }


async def main() -> dict[str, Any]:
    return await Crowd(sys.argv[1], int(sys.argv[2])).come()


print(json.dumps(asyncio.run(main())))
