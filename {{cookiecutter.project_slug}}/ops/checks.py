"""What cannot work, said before it fails: .env can be edited, and so can the configuration of what runs.

The service `migrate` runs those that ask no server before the web service starts, so a wrong edit stops at `docker
compose up`. The others are for `manage.py check --database default`.
"""

import os
from collections.abc import Sequence
from typing import Any

import psycopg
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

from dbrouting.conf import config as routing
from dbrouting.monitor import connect
from ops import topology
from ops.budget import DEFAULTS, Limits, budget, limits_in

# Sessions of a node, and those that are not for everybody: the superuser's, and since 16 pg_use_reserved_connections'.
ROOM = """
SELECT current_setting('max_connections')::int,
       current_setting('superuser_reserved_connections')::int
       + coalesce(current_setting('reserved_connections', true)::int, 0)
"""


@register()
def combinations(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """The combinations that the template refuses."""
    problems: list[CheckMessage] = []
    if settings.POOL_MODE == "statement" and not settings.REPLICAS:
        problems.append(
            Error(
                "POOL_MODE=statement needs a replica: it pools only the replicas' reads, since it refuses BEGIN.",
                hint="Set REPLICAS to 1 or more, or POOL_MODE to transaction, in .env.",
                id="ops.E001",
            )
        )
    if settings.SYNCHRONOUS_COMMIT != "local" and not settings.REPLICAS:
        problems.append(
            Error(
                f"SYNCHRONOUS_COMMIT={settings.SYNCHRONOUS_COMMIT} needs a replica: a COMMIT waits for one.",
                hint="Set REPLICAS to 1 or more, or SYNCHRONOUS_COMMIT to local, in .env.",
                id="ops.E002",
            )
        )
    if settings.CONNECTION_STRATEGY == "persistent" and settings.WEB_WORKER != "gthread":
        problems.append(
            Error(
                f"CONNECTION_STRATEGY=persistent needs lasting threads; WEB_WORKER={settings.WEB_WORKER} has none.",
                hint="Set CONNECTION_STRATEGY to pool or per-request, or WEB_WORKER to gthread, in .env.",
                id="ops.E003",
            )
        )
    if not 0 <= settings.REPLICAS <= 3:
        problems.append(
            Error(
                f"REPLICAS={settings.REPLICAS}: compose.yaml has three replicas.",
                hint="Set REPLICAS to a number from 0 to 3 in .env.",
                id="ops.E004",
            )
        )
    options = settings.DATABASES["default"]["OPTIONS"]
    version = psycopg.pq.version()
    if "prepare_threshold" in options and not psycopg.capabilities.has_send_close_prepared():
        problems.append(
            Error(
                f"PREPARED_STATEMENTS=on needs libpq 17, to close statements through PgBouncer: this is {version}.",
                hint="Install psycopg[binary], which brings its own, or set PREPARED_STATEMENTS=off in .env.",
                id="ops.E010",
            )
        )
    return problems


def choices() -> dict[str, str]:
    """The environment, with the replicas that are really read."""
    return {**os.environ, "REPLICAS": str(len(routing().REPLICAS))}


@register()
def connections_fit(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """What the choices may open, against what the files allow."""
    try:
        problems = budget(choices(), limits_in(settings.BASE_DIR)).problems()
        return [Error(problem.text, hint=problem.remedy, id=f"ops.E{problem.number:03}") for problem in problems]
    except FileNotFoundError:
        return []  # somebody else's servers: what they allow, the next check asks them
    except ValueError as error:
        what, _, remedy = str(error).partition(". ")
        return [Error(f"{what}.", hint=remedy, id="ops.E008")]


@register(Tags.database)
def servers_are_as_chosen(
    app_configs: Any, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """The choices against PgBouncer and PostgreSQL as they run: an edit may not have reached them, or another has."""
    found: list[CheckMessage] = []
    for alias in (routing().PRIMARY, *routing().REPLICAS):
        if alias not in (databases or ()):
            continue
        try:
            found += _server(alias)
        except psycopg.OperationalError as error:
            reason = str(error).strip().splitlines()[0]
            found.append(Warning(f"{alias} could not be asked whether all connections fit: {reason}", id="ops.W001"))
    return found


def _server(alias: str) -> list[CheckMessage]:
    with connect(alias) as connection:
        row = connection.execute(ROOM).fetchone()
    assert row  # a SELECT without FROM has one
    pooler = topology.pgbouncer("SHOW CONFIG", alias)
    config = {setting["key"]: setting["value"] for setting in pooler or []}
    try:
        planned = budget(choices(), Limits(int(config.get("max_client_conn", 0)), *row))
    except ValueError:
        return []  # connections_fit tells
    found = _pooler(alias, config["pool_mode"]) if config else []
    for problem in planned.problems() if config else planned.problems_without_pooler():
        text = f"{alias}, as it runs: {problem.text}"
        found.append(Error(text, hint=problem.remedy, id=f"ops.E{problem.number + 10:03}"))
    return found


def _pooler(alias: str, default_mode: str) -> list[CheckMessage]:
    """Whether PgBouncer pools it as .env says."""
    name = settings.DATABASES[alias]["NAME"]
    runs = next((row for row in topology.pgbouncer("SHOW DATABASES", alias) or [] if row["name"] == name), None)
    if runs is None:
        return []  # by an entry for any name, which nobody has connected to yet
    # Statement mode is for replicas.
    mode = "transaction" if settings.POOL_MODE == "statement" and alias == routing().PRIMARY else settings.POOL_MODE
    # Before PgBouncer 1.24 it was reserve_pool.
    reserve = "reserve_pool_size" if "reserve_pool_size" in runs else "reserve_pool"
    sizes = {"pool_size": "POOL_SIZE", reserve: "RESERVE_POOL_SIZE"}
    wanted = {"POOL_MODE": mode, **{size: os.environ.get(size, DEFAULTS[size]) for size in sizes.values()}}
    has = {"POOL_MODE": runs["pool_mode"] or default_mode, **{sizes[column]: str(runs[column]) for column in sizes}}
    return [
        Error(
            f"PgBouncer pools {alias} with {variable}={has[variable]}, and .env says {wanted[variable]}.",
            hint="docker compose up -d --wait: it takes the choices when it starts.",
            id="ops.E011",
        )
        for variable in wanted
        if has[variable] != wanted[variable]
    ]
