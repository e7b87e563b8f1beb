"""Where each node stands: asked by one thread per node, so that no request has to."""

import logging
import os
import select
import socket
import threading
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import psycopg
from django.core.signals import setting_changed
from django.db import Error, connections
from psycopg import pq

from dbrouting.conf import config

logger = logging.getLogger("dbrouting")

# Without pg_read_all_stats the receiver's timeline is NULL; then that of the last restartpoint is told, which follows a
# failover within checkpoint_timeout, or at once by a CHECKPOINT.
QUESTION = b"""
SELECT recovering, system_identifier, CASE WHEN recovering
         THEN coalesce((SELECT received_tli FROM pg_stat_wal_receiver),
                       (SELECT timeline_id FROM pg_control_checkpoint()))
         ELSE ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int END,
       CASE WHEN recovering THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END - '0/0',
       (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint
FROM pg_control_system(), pg_is_in_recovery() AS recovering
"""

# libpq's names for what Django's settings have.
PARAMETERS = {"dbname": "NAME", "host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD"}
# Good answers in a row by which a replica that was down proves itself.
PROOFS = 3
# Seconds between attempts to reach a node that does not answer.
RETRY = 0.25
# Seconds for which an alias that was seen to be several servers is not used.
QUARANTINE = 60.0
# Positions of the primary that are remembered, at most.
HISTORY = 10_000


@dataclass(frozen=True, slots=True)
class Sample:
    """What a node answered.

    :param asked: `time.monotonic()` before the question: the answer is at least as young
    :param lsn: bytes of WAL; replayed, or flushed on the primary
    :param incarnation: when its postmaster started, in microseconds since 1970. A standby's position only grows within
        one incarnation.
    """

    alias: str
    asked: float
    recovering: bool
    system: int
    timeline: int
    lsn: int
    incarnation: int


class State(StrEnum):
    UNKNOWN = "unknown"
    UP = "up"
    LAGGING = "lagging"
    DOWN = "down"
    HALF_OPEN = "half-open"
    QUARANTINED = "quarantined"


class Node:
    """One alias, asked again and again by a thread of its own, over a connection of its own."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.state = State.UNKNOWN
        self.latest: Sample | None = None
        self.retired = False
        # monotonic time of the last failure
        self.failed_at = float("-inf")
        # Sockets of the reads that wait for this node's answer.
        self._waiting: set[int] = set()
        self._lock = threading.Lock()

    def run(self) -> None:
        connection = None
        while not self.retired:
            started = time.monotonic()
            try:
                connection = connection or connect(self.alias)
                sample = ask(self.alias, connection)
                if sample.asked > self.failed_at:
                    self.observe(sample)
                time.sleep(max(0.0, started + config().SAMPLE_INTERVAL - time.monotonic()))
            except Exception as error:  # whatever it is: without this thread nobody would notice anything any more
                if connection is not None:
                    connection.close()
                    connection = None
                self.fail(error)
                time.sleep(RETRY)
        if connection is not None:
            connection.close()

    def observe(self, sample: Sample) -> None:
        raise NotImplementedError

    def suspect(self, error: Exception) -> None:
        """Out until it proves itself."""
        self.failed_at = time.monotonic()
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        # The driver's words alone may frighten, and more lines of them guess at causes.
        self.become(State.DOWN, f"it cannot be reached ({said})" if isinstance(error, psycopg.Error | Error) else said)

    def fail(self, error: Exception) -> None:
        """It does not answer. Reads that still wait for it are told now, not when TCP gives up."""
        self.suspect(error)
        with self._lock:
            for descriptor in self._waiting:
                _end_waiting(descriptor)

    def become(self, state: State, why: str = "") -> None:
        before, self.state = self.state, state
        if before is not state:
            level = logging.INFO if state in (State.UP, State.HALF_OPEN) else logging.WARNING
            logger.log(level, "%s is %s (before: %s)%s", self.alias, state, before, f": {why}" if why else "")

    @contextmanager
    def waiting(self, descriptor: int) -> Iterator[None]:
        """Around a read: `fail` ends the waiting on this socket."""
        # Our own name for it: libpq may close the other, and the system give that number to somebody else's socket.
        descriptor = os.dup(descriptor)
        with self._lock:
            self._waiting.add(descriptor)
        try:
            yield
        finally:
            with self._lock:
                self._waiting.discard(descriptor)
            os.close(descriptor)


class Primary(Node):
    """Remembers where it stood when: the clock by which a replica's staleness is told."""

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        self._positions: list[int] = []
        # monotonic times: when it was asked for the last time while at that position
        self._asked: list[float] = []
        # monotonic time of the first one since it was asked, or since it is this primary
        self.remembers_since = float("inf")

    def observe(self, sample: Sample) -> None:
        if sample.recovering:
            self.fail(RuntimeError("it is in recovery, so writes would fail"))
            return
        previous = self.latest
        with self._lock:
            if previous and (previous.system, previous.timeline) != (sample.system, sample.timeline):
                self._positions, self._asked = [], []
            if not self._positions:
                self.remembers_since = sample.asked
            if self._positions and self._positions[-1] == sample.lsn:
                self._asked[-1] = sample.asked
            else:
                self._positions.append(sample.lsn)
                self._asked.append(sample.asked)
            if len(self._positions) > HISTORY:
                del self._positions[: HISTORY // 2], self._asked[: HISTORY // 2]
        self.latest = sample
        self.become(State.UP)

    def as_of(self, lsn: int) -> float:
        """Until when a replica with this position has seen everything; -inf if longer ago than is remembered."""
        with self._lock:
            index = bisect_right(self._positions, lsn)
            return self._asked[index - 1] if index else float("-inf")


class Replica(Node):
    def __init__(self, alias: str, primary: Primary) -> None:
        super().__init__(alias)
        self.primary = primary
        self._as_of = float("-inf")
        self._good = 0
        self._several_until = float("-inf")

    def suspect(self, error: Exception) -> None:
        self._good = 0
        super().suspect(error)

    def observe(self, sample: Sample) -> None:
        previous, self.latest = self.latest, sample
        self._as_of = self.primary.as_of(sample.lsn)
        self._good += 1
        if previous and sample.incarnation < previous.incarnation:
            # No server starts in the past: this is another one than a moment ago.
            self._several_until = sample.asked + QUARANTINE
        self.become(*self._judge(sample, self.primary.latest))

    def _judge(self, sample: Sample, primary: Sample | None) -> tuple[State, str]:
        if sample.asked < self._several_until:
            return State.QUARANTINED, "several servers answer behind this alias"
        if not sample.recovering:
            return State.QUARANTINED, "it takes writes: not a replica"
        if primary is None:
            return State.UNKNOWN, "the primary has not answered yet"
        if sample.system != primary.system:
            return State.QUARANTINED, "it follows another cluster"
        if sample.timeline != primary.timeline:
            return State.QUARANTINED, f"it is on timeline {sample.timeline}, the primary on {primary.timeline}"
        if self.state in (State.DOWN, State.HALF_OPEN) and self._good < PROOFS:
            return State.HALF_OPEN, f"it answers again; {PROOFS} answers in a row make it up"
        if self.staleness() > config().MAX_STALENESS:
            if self._as_of == float("-inf") and sample.asked - self.primary.remembers_since < config().MAX_STALENESS:
                return State.UNKNOWN, "it is behind where the primary was when first asked, which is not long ago"
            return State.LAGGING, f"it has not proved to be within {config().MAX_STALENESS:g} s of the primary"
        return State.UP, ""

    def staleness(self) -> float:
        """Seconds by which it may be behind, at most. While the primary does not answer, the clock stands still: better
        a page that may be old than none. But not for longer than tokens are sure to live.
        """
        primary, now = self.primary.latest, time.monotonic()
        if primary is None:
            return float("inf")
        return max(min(now, primary.asked + config().PROOF_LIFE), now - config().patience) - self._as_of

    @property
    def out(self) -> bool:
        """Not even who names it is sent there: it does not answer, or is no replica of this primary."""
        return self.state in (State.DOWN, State.HALF_OPEN, State.QUARANTINED)

    def proof(self, max_staleness: float | None = None) -> Sample | None:
        """The sample that proves what has been replayed, or None if this replica must not be read now.

        :param max_staleness: seconds; MAX_STALENESS if not given
        """
        limit = config().MAX_STALENESS if max_staleness is None else max_staleness
        usable = self.state in (State.UP, State.LAGGING) and self.staleness() <= limit
        sample = self.latest
        return sample if usable and sample and self.holds(sample) else None

    def holds(self, proof: Sample) -> bool:
        """Whether everything read here until now was read in the incarnation of the proof.

        The same incarnation has answered within PROOF_LIFE, and one that starts waits longer before it serves.
        """
        latest = self.latest
        return (
            latest is not None
            and latest.incarnation == proof.incarnation
            and time.monotonic() - latest.asked <= config().PROOF_LIFE
        )


class ReplicaMonitor:
    """All nodes, for this process. Starts by itself when the first replica is to be read, if `start` was not called."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """As at first; threads that run end by themselves."""
        for node in getattr(self, "_nodes", {}).values():
            node.retired = True
        self._lock = threading.Lock()
        self._nodes: dict[str, Node] = {}
        self._replicas: dict[str, Replica] = {}
        self.counts: Counter[str] = Counter()

    def replica(self, alias: str) -> Replica:
        if not self._nodes:
            self.start()
        return self._replicas[alias]

    def start(self) -> None:
        """For a process that is about to serve: until the nodes have answered, no replica is read."""
        with self._lock:
            if self._nodes or not config().REPLICAS:
                return
            primary = Primary(config().PRIMARY)
            self._replicas = {alias: Replica(alias, primary) for alias in config().REPLICAS}
            self._nodes = {primary.alias: primary, **self._replicas}
            for node in self._nodes.values():
                threading.Thread(target=node.run, name=f"dbrouting {node.alias}", daemon=True).start()

    def count(self, reason: str) -> None:
        with self._lock:
            self.counts[reason] += 1

    def report(self) -> dict[str, dict[str, Any]]:
        """Each node's state as this process sees it, and how often each reason has decided. Why, is in the log."""
        self.start()
        nodes = {alias: node.state for alias, node in self._nodes.items()}
        return {"nodes": nodes, "decisions": dict(self.counts)}


def connect(alias: str, **more: Any) -> psycopg.Connection[Any]:
    """Past pools and wrappers: one connection that is the sampler's own, in the database that the settings name.

    libpq fills in what the settings leave out, as it does for Django: from PGHOST, PGSSLMODE and the like, or from the
    service that OPTIONS name.

    :param more: what is to be different, for psycopg
    """
    settings = configured[alias]
    keywords = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    parameters = {name: value for name, value in settings["OPTIONS"].items() if name in keywords}
    for keyword, name in PARAMETERS.items():
        if settings[name]:
            parameters[keyword] = settings[name]
    # Nothing is prepared: a PgBouncer before 1.21 would not follow.
    defaults = {"connect_timeout": 3, "prepare_threshold": None}
    return psycopg.connect(**{**defaults, **parameters, **more}, autocommit=True)


def ask(alias: str, connection: psycopg.Connection[Any]) -> Sample:
    """libpq's own functions, since what waits for a frozen server needs an end.

    :raises TimeoutError: after PROOF_LIFE
    :raises psycopg.OperationalError: if the question failed
    """
    wire = connection.pgconn
    asked = time.monotonic()
    deadline = asked + config().PROOF_LIFE
    readable = select.poll()
    readable.register(wire.socket, select.POLLIN)
    wire.send_query(QUESTION)
    while wire.is_busy():
        if not readable.poll(1000 * max(0.0, deadline - time.monotonic())):
            raise TimeoutError(f"it gives no answer within {config().PROOF_LIFE:g} s")
        wire.consume_input()
    result = wire.get_result()
    while wire.get_result() is not None:
        pass
    if result is None or result.status != pq.ExecStatus.TUPLES_OK:
        raise psycopg.OperationalError(wire.error_message.decode(errors="replace"))
    recovering, *numbers = (result.get_value(0, column) or b"" for column in range(5))
    return Sample(alias, asked, recovering == b"t", *map(int, numbers))


def _end_waiting(descriptor: int) -> None:
    """Whoever reads from this socket finds its end; closing it stays their business."""
    with suppress(OSError):  # the other side was quicker
        shared = socket.socket(fileno=descriptor)
        try:
            shared.shutdown(socket.SHUT_RDWR)
        finally:
            shared.detach()


monitor = ReplicaMonitor()
# As configured, before the test runner puts the test database's name there: a sampler connected to it would keep it
# from being dropped. Where a node stands is the same in all its databases.
configured: dict[str, dict[str, Any]] = {}


def remember_settings() -> None:
    for alias in connections:
        configured.setdefault(alias, dict(connections.settings[alias]))


def _forget(*, setting: str, **kwargs: Any) -> None:
    if setting == "DBROUTING":
        monitor.reset()


setting_changed.connect(_forget)
# A child has the parent's memory, but not its threads.
os.register_at_fork(after_in_child=monitor.reset)
