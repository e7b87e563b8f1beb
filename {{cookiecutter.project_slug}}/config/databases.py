"""From the choices in .env to Django's DATABASES. Pure functions: what they return depends on what they are given."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

POOL_MODES = ("transaction", "session", "statement")
STRATEGIES = ("persistent", "pool", "per-request")
WORKERS = ("gthread", "gevent", "asgi")

PLAIN = "config.backends.postgresql"
GEVENT_POOL = "config.backends.geventpool"
# The same for a replica: what fails there is read on the primary.
REPLICA_ENGINES = {
    PLAIN: "config.backends.replica",
    GEVENT_POOL: "config.backends.geventpool_replica",
}

# What libpq also takes from a URL's query, and where Django looks for it.
IN_QUERY = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD", "dbname": "NAME"}
# PostgreSQL cuts a name after this many bytes.
NAME_LIMIT = 63

# Seconds. Long against a login, 8 to 14 ms (measured, as are the figures below: docs/pooling.md of the template), short
# against PgBouncer's server_lifetime.
PERSISTENT_MAX_AGE = 600


def connection_settings(
    pool_mode: str, strategy: str, worker: str, *, threads: int, prepared_statements: bool = False
) -> dict[str, Any]:
    """How Django holds its connections: the part of a DATABASES entry that follows from the choices.

    ============  =============  ======================================  =====================  ==============
    strategy      worker         what stays open between requests        CONN_MAX_AGE           health checks
    ============  =============  ======================================  =====================  ==============
    persistent    gthread        a connection for each thread            600 s; 0 in session    on
                                                                         mode
    pool          gthread, asgi  psycopg's pool, `threads` a process     0 (Django insists)     on: the pool's
    pool          gevent         django-db-geventpool's, `threads` a     0 (it insists)         off: the pool
                                 process                                                        does its own
    per-request   any            nothing                                 0                      off: it is new
    ============  =============  ======================================  =====================  ==============

    ============  ==========================  ===========================================================
    pool mode     server-side cursors         why
    ============  ==========================  ===========================================================
    transaction   disabled                    a cursor WITH HOLD outlives its transaction, the server not
    statement     disabled                    likewise; besides, there is no BEGIN
    session       enabled                     the client has the server to itself
    ============  ==========================  ===========================================================

    Each of these health checks looks at the connection's socket (config/liveness.py) and costs no round trip.

    In session mode a persistent connection keeps its server even while idle, so the first threads would starve
    the others: there, persistent closes the connection after the request, and PgBouncer keeps the server open.

    Prepared statements (`prepared_statements`) are for connections that outlive a request, in every pool mode:
    PgBouncer follows them (max_prepared_statements) for libpq 17 and newer. What is bound on the client cannot be
    prepared, so they come with Django's server_side_binding and what it cannot do: a parameter both in SELECT and in
    GROUP BY (https://code.djangoproject.com/ticket/34255), INTERVAL %s. Hence they are not the default, though they
    give 1.08 (1.04 to 1.11) times the requests on persistent connections through transaction mode.
    config/backends/prepared.py keeps a schema change from breaking them.

    persistent with gevent or asgi is refused by the checks in ops/checks.py: their threads do not live on.

    :param threads: threads of a gthread worker; connections that a pool keeps.
    :raises ImproperlyConfigured: for a value that is not in these tables, naming it and the remedy.
    """
    for name, value, known in (
        ("POOL_MODE", pool_mode, POOL_MODES),
        ("CONNECTION_STRATEGY", strategy, STRATEGIES),
        ("WEB_WORKER", worker, WORKERS),
    ):
        if value not in known:
            raise ImproperlyConfigured(f"{name} is {value!r}. Use one of {', '.join(known)} in .env.")

    gevent_pool = strategy == "pool" and worker == "gevent"
    psycopg_pool = strategy == "pool" and worker != "gevent"
    persistent = strategy == "persistent" and pool_mode != "session"

    # PgBouncer or a node that does not answer is given up after 3 s, instead of TCP's two minutes; a connection whose
    # network has gone silent after 10,000 ms of no acknowledgement, instead of a quarter of an hour, and one that waits
    # for an answer is asked after 30 s whether it still is one, instead of two hours.
    options: dict[str, Any] = {
        "connect_timeout": 3,
        "tcp_user_timeout": 10_000,
        "keepalives_idle": 30,
        "keepalives_interval": 5,
    }
    if gevent_pool:
        options |= {"MAX_CONNS": threads, "REUSE_CONNS": threads}
    if psycopg_pool:
        # timeout, seconds: how long a request waits for a connection before it fails.
        options["pool"] = {"min_size": 1, "max_size": threads, "timeout": 10}
    if prepared_statements and (persistent or strategy == "pool"):
        options |= {"server_side_binding": True, "prepare_threshold": 5}

    return {
        "ENGINE": GEVENT_POOL if gevent_pool else PLAIN,
        "CONN_MAX_AGE": PERSISTENT_MAX_AGE if persistent else 0,
        "CONN_HEALTH_CHECKS": persistent or psycopg_pool,
        "DISABLE_SERVER_SIDE_CURSORS": pool_mode != "session",
        "OPTIONS": options,
    }


def parsed_url(url: str, variable: str) -> dict[str, Any]:
    """HOST, PORT, USER, PASSWORD and NAME, wherever the URL has them: a socket's directory may be the host, encoded, or
    stand in the query. The rest of the query is OPTIONS.

    :param variable: for the message, which does not repeat the URL: it may hold a password
    :raises ImproperlyConfigured: if it is not PostgreSQL's, or names no role or no database, and no service that would
    """
    remedy = f"Give {variable}=postgresql://ROLE@HOST:5432/DATABASE, in .env or the environment."
    try:
        ours = urlsplit(url).scheme in environ.Env.POSTGRES_FAMILY
        found: dict[str, Any] = environ.Env.db_url_config(url) if ours else {}
    except ValueError:
        raise ImproperlyConfigured(
            f"{variable} cannot be read as a URL. In a password write / ? # @ : as %2F %3F %23 %40 %3A. {remedy}"
        ) from None
    if not found:
        raise ImproperlyConfigured(f"{variable} is {'no PostgreSQL URL' if url.strip() else 'empty'}. {remedy}")
    found["HOST"] = unquote(found["HOST"])
    options = found.setdefault("OPTIONS", {})
    for keyword, values in parse_qs(urlsplit(url).query).items():
        if keyword in IN_QUERY:
            found[IN_QUERY[keyword]] = values[-1]
            del options[keyword]
    for name, what in (("USER", "role"), ("NAME", "database")):
        if not found[name] and "service" not in options:
            raise ImproperlyConfigured(f"{variable} names no {what}. {remedy}")
    return found


def database(url: str, secrets_dir: Path, settings: dict[str, Any], variable: str = "DATABASE_URL") -> dict[str, Any]:
    """A DATABASES entry for one URL; its query parameters, such as sslmode, are added to OPTIONS. What the choices
    decide (CONN_MAX_AGE, health checks) stays as they decide it.

    A URL without a password takes it from the file `<user>_password` in `secrets_dir`, if there is one.
    """
    parsed = parsed_url(url, variable)
    secret = secrets_dir / f"{parsed['USER']}_password"
    if not parsed["PASSWORD"] and secret.is_file():
        parsed["PASSWORD"] = secret.read_text().strip()
    return {**parsed, **settings, "OPTIONS": {**settings["OPTIONS"], **parsed["OPTIONS"]}}


def replica_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """What is different for a replica, whose failures are not the visitor's.

    No health check: a dead connection is found by the read that needs it, which is then run on the primary; a check
    would wait for a frozen host without end. No server-side cursors: half of an answer cannot be run again. A pool that
    has no connection to give is left after 2 s.
    """
    options = settings["OPTIONS"]
    if "pool" in options:
        options = {**options, "pool": {**options["pool"], "timeout": 2}}
    return {
        **settings,
        "ENGINE": REPLICA_ENGINES[settings["ENGINE"]],
        "CONN_HEALTH_CHECKS": False,
        "DISABLE_SERVER_SIDE_CURSORS": True,
        "OPTIONS": options,
    }


def databases(
    url: str, replica_urls: list[str], secrets_dir: Path, settings: dict[str, Any], variable: str = "DATABASE_URL"
) -> dict[str, dict[str, Any]]:
    """DATABASES: `default` is the primary, `replica`, `replica_2`, … are the replicas.

    Without replicas `replica` is the primary once more, so that `.using("replica")` means the same everywhere.

    :param variable: where `url` is from, for a message
    """
    entries = {"default": database(url, secrets_dir, settings, variable)}
    # Django's own name for it, cut so that the endings of parallel runs fit too: _gw99 is pytest-xdist's, _99 Django's.
    entries["default"]["TEST"] = {"NAME": f"test_{entries['default']['NAME']}"[: NAME_LIMIT - len("_gw99")]}
    if not replica_urls:
        entries["replica"] = database(url, secrets_dir, settings, variable)
    for number, replica_url in enumerate(replica_urls, start=1):
        alias = "replica" if number == 1 else f"replica_{number}"
        entries[alias] = database(replica_url, secrets_dir, replica_settings(settings), "DATABASE_REPLICA_URLS")
    for alias in entries.keys() - {"default"}:
        # In tests: the database's name is the primary's test database; a replica streams that too.
        entries[alias]["TEST"] = {"MIRROR": "default"}
    return entries


def owner_databases(url: str, secrets_dir: Path, command: str) -> dict[str, dict[str, Any]]:
    """DATABASES of a command that changes the schema or needs a session: `default` is the primary itself, as the role
    that owns the schema. There are no replicas and no pooler, so what a migration does happens in one database.

    :param command: for the message
    :raises ImproperlyConfigured: where only the site's password is, as in the web container
    """
    # One command, one connection: nothing to keep or to pool.
    alone = connection_settings("session", "per-request", "gthread", threads=1)
    entries = databases(url, [], secrets_dir, alone, "DATABASE_OWNER_URL")
    role = entries["default"]["USER"]
    if not entries["default"]["PASSWORD"] and (secrets_dir / "app_password").is_file():
        raise ImproperlyConfigured(
            f"`manage.py {command}` runs as the role {role}, and {secrets_dir} has no {role}_password. In the web "
            f"container this is on purpose. Run: docker compose run --rm migrate python manage.py {command} …"
        )
    return entries
