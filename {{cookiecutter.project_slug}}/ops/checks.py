"""What cannot work, said before it fails: .env can be edited, and so can the configuration of what runs.

Those that ask no server run with each command; `docker compose up` asks ops/choices.py itself before it replaces
anything. The others are for `manage.py check --database default`.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import django
import psycopg
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

from dbrouting.conf import config as routing
from dbrouting.monitor import connect
from ops import topology
from ops.budget import DEFAULTS, Limits, budget
from ops.choices import problems

# Sessions of a node, and those that are not for everybody: the superuser's, and since 16 pg_use_reserved_connections'.
ROOM = """
SELECT current_setting('max_connections')::int,
       current_setting('superuser_reserved_connections')::int
       + coalesce(current_setting('reserved_connections', true)::int, 0)
"""


@register()
def choices_work(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """The choices by themselves."""
    return [
        Error(problem.text, hint=problem.remedy, id=f"ops.E{problem.number:03}")
        for problem in problems(os.environ, settings.BASE_DIR)
    ]


@register()
def libpq_fits(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """What is installed, against the choices."""
    options = settings.DATABASES["default"]["OPTIONS"]
    if "prepare_threshold" not in options or psycopg.capabilities.has_send_close_prepared():
        return []
    version = psycopg.pq.version()
    return [
        Error(
            f"PREPARED_STATEMENTS=on needs libpq 17, to close statements through PgBouncer: this is {version}.",
            hint="Install psycopg[binary], which brings its own, or set PREPARED_STATEMENTS=off in .env.",
            id="ops.E010",
        )
    ]


@register()
def django_has_tasks(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """What is installed, against TASK_WORKERS."""
    if django.VERSION >= (6, 0) or not settings.TASK_WORKERS:
        return []
    return [
        Error(
            f"TASK_WORKERS is {settings.TASK_WORKERS}: Django {django.get_version()} has no background tasks.",
            hint="Use Python 3.12 or newer, which brings Django 6.1, or set TASK_WORKERS=0 in .env.",
            id="ops.E013",
        )
    ]


def choices() -> dict[str, str]:
    """The environment, with the replicas that are really read."""
    return {**os.environ, "REPLICAS": str(settings.REPLICAS_READ)}


@register(Tags.database)
def servers_are_as_chosen(
    app_configs: Any, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """The choices against PgBouncer and PostgreSQL as they run: an edit may not have reached them, or another has."""
    found: list[CheckMessage] = []
    if settings.AS_OWNER:
        return found  # this command's `default` is not the site's
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
        return []  # choices_work tells
    found = [*_pooler(alias, config["pool_mode"]), *_prepares(alias, config)] if config else []
    for problem in planned.problems() if config else planned.problems_without_pooler():
        text = f"{alias}, as it runs: {problem.text}"
        found.append(Error(text, hint=problem.remedy, id=f"ops.E{problem.number + 10:03}"))
    return found


def _prepares(alias: str, config: Mapping[str, str]) -> list[CheckMessage]:
    """Whether PgBouncer follows prepared statements, where a client changes servers."""
    options = settings.DATABASES[alias]["OPTIONS"]
    if "prepare_threshold" not in options or settings.POOL_MODE == "session":
        return []
    if int(config.get("max_prepared_statements", 0)):
        return []
    return [
        Error(
            f"PREPARED_STATEMENTS=on, and PgBouncer follows none for {alias}: it is older than 1.21, or its "
            "max_prepared_statements is 0.",
            hint="Install a newer one, set max_prepared_statements, or set PREPARED_STATEMENTS=off in .env.",
            id="ops.E012",
        )
    ]


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
            hint="Run ops/deploy: PgBouncer takes the choices when it starts.",
            id="ops.E011",
        )
        for variable in wanted
        if has[variable] != wanted[variable]
    ]
