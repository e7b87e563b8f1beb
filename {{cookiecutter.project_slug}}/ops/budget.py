"""The connection budget: what the choices in .env may open at most, and what PgBouncer and PostgreSQL allow.

Standard library only, since the template's hook prints it too, before anything is installed.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# Server connections of a node that are nobody's in this budget: migrations, monitoring, you.
SPARE = 10

# Of an .env that leaves one out: as elsewhere in this project.
DEFAULTS = {
    "REPLICAS": "3",
    "WEB_WORKERS": "2",
    "WEB_THREADS": "4",
    "WEB_CONNECTIONS": "100",
    "TASK_WORKERS": "0",
    "POOL_SIZE": "20",
    "RESERVE_POOL_SIZE": "5",
}


@dataclass(frozen=True)
class Limits:
    """:param max_client_conn: clients that PgBouncer lets in
    :param max_connections: sessions of one PostgreSQL node
    :param reserved: those of them that not everybody gets: superusers, and since 16 pg_use_reserved_connections
    """

    max_client_conn: int
    max_connections: int
    reserved: int


@dataclass(frozen=True)
class Problem:
    """What cannot fit, with the values seen, and the remedy."""

    number: int
    text: str
    remedy: str


@dataclass(frozen=True)
class Budget:
    """:param processes: of the site
    :param task_workers: processes that run background tasks, each in one thread
    :param at_once: connections by one alias of DATABASES that a process holds for its requests, at most
    :param aliases: that requests use; `replica` is one of them even if it is the primary once more
    :param on_primary: how many of these are the primary
    :param samplers: connections to one node by which a process asks where the node stands
    :param pooled: whether an idle process keeps its connections open
    :param session_mode: whether an open connection of Django's keeps a server connection, idle or not
    :param servers: connections that PgBouncer opens to one node, at most
    """

    processes: int
    task_workers: int
    at_once: int
    aliases: int
    on_primary: int
    samplers: int
    pooled: bool
    session_mode: bool
    servers: int
    limits: Limits

    @property
    def clients(self) -> int:
        """PgBouncer's clients, at most: of each process and alias, and one by which /readyz asks the primary."""
        of_tasks = self.task_workers * self.aliases * (1 + self.samplers)
        return self.processes * (self.aliases * (self.at_once + self.samplers) + 1) + of_tasks

    @property
    def without_pooler(self) -> int:
        """Sessions of the primary, at most, if no pooler is before it."""
        of_tasks = self.task_workers * (self.on_primary + self.samplers)
        return self.processes * (self.on_primary * self.at_once + self.samplers + 1) + of_tasks

    @property
    def held(self) -> int:
        """Server connections of one node that idle clients keep from others: none, but in session mode."""
        if not self.session_mode:
            return 0
        of_requests = self.processes * self.on_primary * self.at_once if self.pooled else 0
        return of_requests + (self.processes + self.task_workers) * self.samplers

    @property
    def left(self) -> int:
        """Of a node's sessions, for migrations, monitoring and you."""
        return self.limits.max_connections - self.limits.reserved - self.servers

    def rows(self) -> list[tuple[str, int, str]]:
        """What, how many, and of how many."""
        samples = f" + {self.samplers} for samples" if self.samplers else ""
        of_site = f"({self.aliases} databases x ({self.at_once} for requests{samples}) + 1 probe)"
        of_tasks = f" + {self.task_workers} task workers x {self.aliases} databases x (1 for tasks{samples})"
        rows = [
            (
                f"clients of PgBouncer: {self.processes} processes x {of_site}{of_tasks if self.task_workers else ''}",
                self.clients,
                f"{self.limits.max_client_conn}",
            ),
            (
                "server connections to each node (POOL_SIZE + RESERVE_POOL_SIZE)",
                self.servers,
                f"{self.limits.max_connections - self.limits.reserved - SPARE}",
            ),
        ]
        if self.session_mode:
            rows.append(("of these kept by clients that may be idle", self.held, f"{self.servers - 1}"))
        return rows

    def problems(self) -> Iterator[Problem]:
        if self.clients > self.limits.max_client_conn:
            yield Problem(
                5,
                f"The site may open {self.clients} connections to PgBouncer: it takes {self.limits.max_client_conn}.",
                "Lower WEB_WORKERS, WEB_THREADS, WEB_CONNECTIONS or TASK_WORKERS in .env, take "
                "CONNECTION_STRATEGY=pool, or raise max_client_conn in pgbouncer/pgbouncer.ini and build again.",
            )
        if self.left < SPARE:
            yield Problem(
                6,
                f"PgBouncer may open {self.servers} connections to a node (POOL_SIZE + RESERVE_POOL_SIZE), which has "
                f"{self.limits.max_connections}, {self.limits.reserved} of them reserved: that leaves {self.left}, and "
                f"migrations, monitoring and you need {SPARE}.",
                "Lower POOL_SIZE or RESERVE_POOL_SIZE in .env, or raise max_connections in postgres/postgresql.conf, "
                "build again, and restart the nodes.",
            )
        if self.held >= self.servers:
            yield Problem(
                7,
                f"In session mode idle connections keep {self.held} server connections, and PgBouncer opens "
                f"{self.servers} to a node (POOL_SIZE + RESERVE_POOL_SIZE): others would wait until they fail.",
                "Set POOL_MODE=transaction, lower WEB_WORKERS or WEB_THREADS, or raise POOL_SIZE, in .env.",
            )

    def problems_without_pooler(self) -> Iterator[Problem]:
        """Where DATABASE_URL names PostgreSQL itself."""
        room = self.limits.max_connections - self.limits.reserved - SPARE
        if self.without_pooler > room:
            yield Problem(
                9,
                f"Without PgBouncer the site may open {self.without_pooler} connections to it, and there is room for "
                f"{room}: max_connections is {self.limits.max_connections}, {self.limits.reserved} of them reserved, "
                f"and {SPARE} are for migrations, monitoring and you.",
                "Reach it through PgBouncer (DATABASE_URL), take CONNECTION_STRATEGY=pool, or lower WEB_WORKERS, "
                "WEB_THREADS or WEB_CONNECTIONS, in .env.",
            )


def budget(env: Mapping[str, str], limits: Limits) -> Budget:
    """From the choices, as .env has them.

    :raises ValueError: for a choice that is no whole number, naming it and the remedy
    """
    worker, strategy = env.get("WEB_WORKER", "gthread"), env.get("CONNECTION_STRATEGY", "persistent")
    # A worker of these kinds serves that many requests at once, each with connections of its own; a pool has an end.
    unbounded = worker in ("gevent", "asgi") and strategy != "pool"
    replicas = _number(env, "REPLICAS", least=0)
    return Budget(
        processes=_number(env, "WEB_WORKERS"),
        task_workers=_number(env, "TASK_WORKERS", least=0),
        at_once=_number(env, "WEB_CONNECTIONS" if unbounded else "WEB_THREADS"),
        aliases=1 + max(1, replicas),
        on_primary=1 if replicas else 2,
        samplers=1 if replicas else 0,
        pooled=strategy == "pool",
        session_mode=env.get("POOL_MODE") == "session",
        servers=_number(env, "POOL_SIZE") + _number(env, "RESERVE_POOL_SIZE", least=0),
        limits=limits,
    )


def limits_in(project: Path) -> Limits:
    """As the project's files set them.

    :raises FileNotFoundError: in a project that runs no servers of its own
    :raises ValueError: for a setting that is not in its file
    """
    pgbouncer, postgresql = project / "pgbouncer" / "pgbouncer.ini", project / "postgres" / "postgresql.conf"
    return Limits(
        max_client_conn=_setting(pgbouncer, "max_client_conn"),
        max_connections=_setting(postgresql, "max_connections"),
        reserved=_setting(postgresql, "superuser_reserved_connections"),
    )


def _setting(file: Path, name: str) -> int:
    # The last one counts, in both; only PostgreSQL knows quotes, and a setting without `=`.
    found = re.findall(rf"^\s*{name}(?:\s*=\s*|\s+)'?(\d+)'?\s*(?:#.*)?$", file.read_text(), flags=re.MULTILINE)
    if not found:
        raise ValueError(f"{file.parent.name}/{file.name} has no line `{name} = NUMBER`. Add it.")
    return int(found[-1])


def _number(env: Mapping[str, str], name: str, least: int = 1) -> int:
    value = env.get(name, DEFAULTS[name])
    if not value.isdecimal() or int(value) < least:
        raise ValueError(f"{name} is {value!r}. Give a whole number from {least} up in .env.")
    return int(value)
