"""What can be configured wrongly. The first function needs no database; the second asks each node:
`manage.py check --database default --database replica …`
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import takewhile
from typing import Any

import psycopg
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.utils.module_loading import import_string

from dbrouting import monitor
from dbrouting.backends.replica import ReplicaMixin
from dbrouting.conf import config

MIDDLEWARE = "dbrouting.middleware.ConsistencyMiddleware"
ROUTER = "dbrouting.routers.ReadWriteRouter"
# Modules of such middleware: sessions, users, messages, sites; a cache and CSRF tokens may be kept in the database.
ASKING = ("django.contrib.", "django.middleware.cache", "django.middleware.csrf")


@register(Tags.compatibility)
def configuration(**kwargs: Any) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    if MIDDLEWARE not in settings.MIDDLEWARE:
        found.append(
            Error(
                f"MIDDLEWARE does not name {MIDDLEWARE}, so nothing is read from a replica.",
                hint="Put it before all that asks the database.",
                id="dbrouting.E013",
            )
        )
    elif early := [path for path in takewhile(lambda path: path != MIDDLEWARE, settings.MIDDLEWARE) if _asks(path)]:
        found.append(
            Error(
                f"{', '.join(early)} comes before {MIDDLEWARE}, which then does not know what it reads and writes.",
                hint=f"Put {MIDDLEWARE} before it. Only what asks no database may come first.",
                id="dbrouting.E001",
            )
        )
    if ROUTER not in settings.DATABASE_ROUTERS:
        found.append(
            Error(
                "DATABASE_ROUTERS does not name the router, so nothing is read from a replica.",
                hint=f'Add "{ROUTER}".',
                id="dbrouting.E002",
            )
        )
    unknown = {config().PRIMARY, *config().REPLICAS} - set(settings.DATABASES)
    if unknown or config().PRIMARY in config().REPLICAS:
        found.append(
            Error(
                f"DBROUTING names {', '.join(sorted(unknown)) or config().PRIMARY}, "
                + ("which DATABASES does not have." if unknown else "the primary, as a replica."),
                hint="REPLICAS lists aliases of DATABASES, each of one standby server.",
                id="dbrouting.E003",
            )
        )
        return found
    shortest = 2 * (config().MAX_STALENESS + config().PROOF_LIFE)
    if shortest >= config().TOKEN_LIFE:
        found.append(
            Error(
                f"TOKEN_LIFE is {config().TOKEN_LIFE:g} s: a token may end while a replica is still behind it.",
                hint=f"Make it longer than {shortest:g} s, twice MAX_STALENESS plus PROOF_LIFE, or shorten these.",
                id="dbrouting.E004",
            )
        )
    if 3 * config().SAMPLE_INTERVAL > config().PROOF_LIFE:
        found.append(
            Error(
                f"SAMPLE_INTERVAL is {config().SAMPLE_INTERVAL:g} s, too long for proofs of {config().PROOF_LIFE:g}.",
                hint="Make it at most a third of PROOF_LIFE.",
                id="dbrouting.E005",
            )
        )
    for alias in config().REPLICAS:
        found += _replica(alias)
    if settings.DATABASES[config().PRIMARY].get("ATOMIC_REQUESTS") and config().REPLICAS:
        found.append(
            Warning(
                "ATOMIC_REQUESTS is on for the primary: all of a request is then in one transaction of the primary's.",
                hint="Turn it off and use atomic() where it is needed, or no replica is ever read.",
                id="dbrouting.W001",
            )
        )
    if (
        settings.SESSION_ENGINE in ("django.contrib.sessions.backends.db", "django.contrib.sessions.backends.cached_db")
        and config().REPLICAS
        and "sessions" not in config().PRIMARY_ONLY_APPS
    ):
        found.append(
            Error(
                f"SESSION_ENGINE is {settings.SESSION_ENGINE}: whose session a replica lacks is logged out.",
                hint='Use "dbrouting.sessions", or add "sessions" and "auth" to PRIMARY_ONLY_APPS.',
                id="dbrouting.E006",
            )
        )
    return found


def _asks(middleware: str) -> bool:
    """Whether it is, or is made of, one of Django's that ask the database, or may by settings. Others are trusted."""
    bases = getattr(import_string(middleware), "__mro__", ())
    return any(base.__module__.startswith(ASKING) for base in bases)


def _replica(alias: str) -> list[CheckMessage]:
    entry = settings.DATABASES[alias]
    found: list[CheckMessage] = []
    if not issubclass(import_string(f"{entry['ENGINE']}.base.DatabaseWrapper"), ReplicaMixin):
        found.append(
            Error(
                f"ENGINE of {alias} is {entry['ENGINE']}: a read that fails there would fail for its visitor.",
                hint="Use dbrouting.backends.postgresql, or dbrouting.backends.geventpool.",
                id="dbrouting.E007",
            )
        )
    if entry.get("CONN_HEALTH_CHECKS"):
        found.append(
            Error(
                f"CONN_HEALTH_CHECKS is on for {alias}: the check waits for a host that is frozen without end.",
                hint="Turn it off there: a read that fails is run on the primary.",
                id="dbrouting.E008",
            )
        )
    if not entry.get("DISABLE_SERVER_SIDE_CURSORS"):
        found.append(
            Warning(
                f"{alias} has server-side cursors: an iterator() fails if the replica goes away between two chunks.",
                hint="Set DISABLE_SERVER_SIDE_CURSORS there; iterate over what is large with using(primary).",
                id="dbrouting.W002",
            )
        )
    if entry.get("ATOMIC_REQUESTS"):
        found.append(
            Error(
                f"ATOMIC_REQUESTS is on for {alias}: each request would begin a transaction there.",
                hint="Turn it off for replicas.",
                id="dbrouting.E009",
            )
        )
    return found


@register(Tags.database)
def servers(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Of the aliases that are to be checked, those that are ours; a node that does not answer is no wrong setting."""
    found: list[CheckMessage] = []
    asked = set(databases or ())
    if config().PRIMARY in asked and config().REPLICAS:
        found += _primary_server(config().PRIMARY)
    seen: dict[tuple[int, int], str] = {}
    for alias in config().REPLICAS:
        if alias in asked:
            found += _replica_server(alias, seen)
    return found


def _primary_server(alias: str) -> list[CheckMessage]:
    try:
        with monitor.connect(alias) as connection:
            connection.execute("BEGIN")
    except psycopg.OperationalError as error:
        return [] if error.sqlstate is None or "statement" not in str(error) else [_statement_mode(alias)]
    except psycopg.Error:
        return [_statement_mode(alias)]
    return []


def _statement_mode(alias: str) -> CheckMessage:
    return Error(
        f"PgBouncer pools {alias} in statement mode, which refuses BEGIN: nothing that uses atomic() works.",
        hint=f"Set pool_mode=transaction for the entry of {alias}; statement mode is for replicas.",
        id="dbrouting.E010",
    )


def _replica_server(alias: str, seen: dict[tuple[int, int], str]) -> list[CheckMessage]:
    try:
        with ExitStack() as stack:
            # Held open together, or PgBouncer gives all of them the same server.
            connections = [stack.enter_context(_transaction(alias)) for _ in range(4)]
            samples = [monitor.ask(alias, connection) for connection in connections]
            restarts = connections[0].execute("SHOW restart_after_crash").fetchone()
    except (psycopg.OperationalError, TimeoutError):
        return []
    incarnations = {(sample.system, sample.incarnation) for sample in samples}
    if len(incarnations) > 1:
        return [
            Error(
                f"{alias} is several servers: what is known of one is not true of another.",
                hint="Give each replica an alias, and an entry in PgBouncer, of its own.",
                id="dbrouting.E012",
            )
        ]
    if not samples[0].recovering:
        return [
            Error(
                f"{alias} is no replica: it takes writes. Does its URL point at the primary?",
                hint="Give the address of a standby, or take it out of REPLICAS.",
                id="dbrouting.E011",
            )
        ]
    found: list[CheckMessage] = []
    (server,) = incarnations
    if (other := seen.setdefault(server, alias)) != alias:
        found.append(
            Warning(
                f"{alias} and {other} are the same server.",
                hint="Harmless, but it is asked and loaded twice. Take one out of REPLICAS.",
                id="dbrouting.W003",
            )
        )
    if restarts == ("on",):
        found.append(
            Warning(
                f"{alias} restarts by itself after a crash (restart_after_crash = on), perhaps within PROOF_LIFE: "
                "for a moment it may then show less than before.",
                hint="Set restart_after_crash = off there, and let what starts it wait for two seconds first.",
                id="dbrouting.W004",
            )
        )
    return found


@contextmanager
def _transaction(alias: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection that has its server to itself; only in statement mode, which ends what says BEGIN, it has not."""
    with monitor.connect(alias) as holding:
        try:
            holding.execute("BEGIN")
        except psycopg.Error:
            with monitor.connect(alias) as sharing:
                yield sharing
        else:
            yield holding
