"""What is compared with what. A set is one table: its sites run at the same time and are asked in turn."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

# Where a connection leads: host and database. Statement mode takes a replica's reads, as in the project.
DATABASE = os.environ.get("DATABASE_NAME", "")  # in the container; nobody else connects
WAYS = {
    "direct": ("primary", DATABASE),
    "session": ("pgbouncer-session", DATABASE),
    "transaction": ("pgbouncer", DATABASE),
    "statement": ("pgbouncer-statement", "replica_1"),
}
RELAYED = 6000  # the first port of relay.py


@dataclass(frozen=True)
class Site:
    """One gunicorn, with two processes.

    :param name: its row in the table
    :param env: the project's choices, as in .env; SITE names what site_settings.py makes of them
    :param works: what can be asked of it; statement mode knows no BEGIN
    """

    name: str
    env: dict[str, str]
    works: tuple[str, ...] = ("read", "atomic", "write")

    @property
    def connects(self) -> bool:
        """Whether it opens a connection for each request."""
        return self.env["SITE"] == "django" or self.env.get("CONNECTION_STRATEGY") == "per-request"


class Turn(NamedTuple):
    round: int
    site: Site
    work: str
    clients: int

    @property
    def length(self) -> int:
        """How many times as long as others. Requests that are under way at the end count for nothing: of the hundred that a
        site answers in a second if it connects for each, that would be 4 %, in favour of all others. And 512 clients wait
        longer than a second.
        """
        return (3 if self.site.connects else 1) * (4 if self.clients > 100 else 1)


@dataclass(frozen=True)
class Set:
    """
    :param base: the site to which the others are put in relation, within each round
    :param cells: work, and how many clients keep asking
    :param passes: turns that each site has in a round for each cell, since one is short
    :param place: how it differs from a set with the same cells
    """

    name: str
    title: str
    sites: tuple[Site, ...]
    base: str
    cells: tuple[tuple[str, int], ...]
    passes: int = 1
    place: str = ""

    def turns(self, rounds: int) -> Iterator[Turn]:
        """In the order in which they are taken. The sites of a cell follow each other, so that what is compared is measured
        close together; who begins changes, and who is before whom in one pass is after it in the next.
        """
        for number in range(rounds):
            for work, clients in self.cells:
                sites = [site for site in self.sites if work in site.works]
                first = number * len(sites) // rounds
                order = sites[first:] + sites[:first]
                for one in range(self.passes):
                    for site in reversed(order) if (number + one) % 2 else order:
                        yield Turn(number, site, work, clients)


def relays(rtt: int) -> dict[int, str]:
    """Port and host of each relay that a network of `rtt` ms needs."""
    hosts = [host for host, _ in WAYS.values()]
    return {RELAYED + 10 * rtt + number: host for number, host in enumerate(hosts)} if rtt else {}


def url(way: str, *, rtt: int = 0, tls: bool = False) -> str:
    host, database = WAYS[way]
    port = 5432
    if rtt:
        port = next(port for port, relayed in relays(rtt).items() if relayed == host)
        host = "127.0.0.1"
    if tls and way != "direct":
        host = "pgbouncer-tls"
    return f"postgresql://app@{host}:{port}/{database}?sslmode={'require' if tls else 'disable'}"


def choice(
    worker: str, strategy: str, way: str, name: str = "", *, rtt: int = 0, tls: bool = False, **env: str
) -> Site:
    """Only the pooling differs: the project's backends and settings, without its router and middleware."""
    choices = {
        "SITE": "choice",
        "WEB_WORKER": worker,
        "CONNECTION_STRATEGY": strategy,
        # Past the pooler the client has a session to itself, and may hold it: session mode's restraint is not needed.
        "POOL_MODE": "transaction" if way == "direct" else way,
        "DATABASE_URL": url(way, rtt=rtt, tls=tls),
        "REPLICAS": "0",
    }
    works = ("read",) if way == "statement" else Site.works
    return Site(name or f"{worker}, {strategy}, {way}", choices | env, works)


def choices(rtt: int = 0) -> tuple[Site, ...]:
    """Each combination that the template takes. persistent in session mode is per-request (config/databases.py)."""
    return tuple(
        choice(worker, strategy, way, rtt=rtt)
        for worker, strategies in (
            ("gthread", ("per-request", "persistent", "pool")),
            ("gevent", ("per-request", "pool")),
            ("asgi", ("per-request", "pool")),
        )
        for strategy in strategies
        for way in WAYS
        if (strategy, way) != ("persistent", "session")
    )


# What is no way to hold connections, but no site can be faster than.
BOUNDS = ("bare", "nothing")
DEFAULT, PER_REQUEST, TEMPLATE = "generated default", "Django's default", "CONN_MAX_AGE=60, ATOMIC_REQUESTS"


def defaults(rtt: int = 0) -> tuple[Site, ...]:
    """The generated default, router and middleware included, and what others would have."""
    direct, pooled = url("direct", rtt=rtt), url("transaction", rtt=rtt)
    replica = pooled.replace(f"/{DATABASE}?", "/replica_1?")
    ours = {"SITE": "generated", "DATABASE_URL": pooled, "DATABASE_REPLICA_URLS": replica}
    plain = {"DATABASE_URL": direct, "REPLICAS": "0"}
    return (
        Site(DEFAULT, ours | {"REPLICAS": "1"}),
        Site("the same, no replica", ours | {"REPLICAS": "0"}),
        Site("the same, prepared statements", ours | {"REPLICAS": "1", "PREPARED_STATEMENTS": "on"}),
        Site(PER_REQUEST, plain | {"SITE": "django"}),
        Site(TEMPLATE, plain | {"SITE": "template"}),
        Site("kept open, CONN_HEALTH_CHECKS", plain | {"SITE": "checked"}),
        Site("kept open, no check", plain | {"SITE": "unchecked"}),
        Site("bound: bare WSGI, psycopg", plain | {"SITE": "bare"}, ("read",)),
        Site("bound: no database", plain | {"SITE": "nothing"}, ("read",)),
    )


# The ways to hold connections that come into question, and the one that does not hold any.
FEW = (
    ("gthread", "per-request", "direct"),
    ("gthread", "per-request", "transaction"),
    ("gthread", "persistent", "direct"),
    ("gthread", "persistent", "transaction"),
    ("gthread", "pool", "transaction"),
    ("gevent", "pool", "transaction"),
    ("asgi", "pool", "transaction"),
)
KEPT = (
    *(("gthread", "persistent", way) for way in ("direct", "transaction", "statement")),
    *(("gthread", "pool", way) for way in ("direct", "session", "transaction")),
    *((worker, "pool", way) for worker in ("gevent", "asgi") for way in ("direct", "transaction")),
)
FIRST = "gthread, per-request, direct"
SIZES = (2, 4, 8)
READ = (("read", 64),)
WORKS = (*READ, ("atomic", 64), ("write", 64))

PREPARED = tuple(choice(*of, f"{', '.join(of)}, {on}", PREPARED_STATEMENTS=on) for of in KEPT for on in ("off", "on"))
TLS = tuple(
    choice(*of, f"{', '.join(of)}, {'TLS' if on else 'plain'}", tls=on) for of in FEW[:5] for on in (False, True)
)
THREADS = tuple(
    choice(worker, strategy, "transaction", f"{worker}, {rtt} ms, {size}", rtt=rtt, WEB_THREADS=str(size))
    for worker, strategy in (("gthread", "persistent"), ("gevent", "pool"), ("asgi", "pool"))
    for rtt in (0, 5)
    for size in SIZES
)
UNBOUNDED = tuple(site for site in defaults() if site.env["SITE"] not in BOUNDS)
PAGES = tuple(Site(site.name, site.env | {"PAGE": "1"}, ("page",)) for site in UNBOUNDED)
CROWDED = (("read", 8), ("read", 64), ("read", 512))
SETS = {
    one.name: one
    for one in (
        Set("default-0", "The generated default on loopback", defaults(), PER_REQUEST, WORKS, 2),
        Set("default-1", "The same, 1 ms from its databases", defaults(1), PER_REQUEST, READ, 2, ", 1 ms"),
        Set("apart", "The same, PgBouncer and the databases on processors of their own", UNBOUNDED, PER_REQUEST, READ, 2,
            ", apart"),
        Set("page", "The page of an article, as generated", PAGES, PER_REQUEST, (("page", 64),), 2),
        Set("choices", "Every choice, on loopback", choices(), FIRST, WORKS),
        Set("distance-5", "Every choice, 5 ms away", choices(5), FIRST, READ, place=", 5 ms"),
        Set("clients", "Fewer and more clients", tuple(choice(*of) for of in FEW), FIRST, CROWDED),
        Set("prepared", "Prepared statements", PREPARED, "gthread, persistent, direct, off", READ, 2),
        Set("tls", "TLS", TLS, f"{FIRST}, plain", READ, 2),
        Set("threads", "Threads, and connections of a pool", THREADS, "gthread, 0 ms, 4", READ),
    )
}  # fmt: skip
# Without and with PgBouncer, max_connections = 100.
CROWDS = (100, 1000, 5000)
CROWD_ROUNDS = 3
