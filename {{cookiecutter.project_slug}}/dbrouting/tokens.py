"""What a visitor carries from one request to the next: how far a database must be, to show nothing older than seen."""

import hashlib
import time
from dataclasses import dataclass, field

from django.core.signing import BadSignature, Signer
from django.db import Error, connections

from dbrouting.conf import config
from dbrouting.monitor import Sample

# A position that no replica reaches: whoever holds it reads the primary until the token expires.
NOWHERE = 2**64 - 1

# One round trip. What commits is written before this position; a replica that has replayed it shows the commit.
# Texts, as they come: to plan functions that make numbers of them takes PostgreSQL a third of the time that this takes.
POSITION = """
SELECT (pg_control_system()).system_identifier, pg_walfile_name(lsn), lsn,
       current_setting('wal_block_size'), current_setting('wal_segment_size')
FROM pg_current_wal_insert_lsn() AS lsn
"""
UNITS = {"MB": 2**20, "GB": 2**30}
PAGE_HEADER, SEGMENT_HEADER = 24, 40


def bytes_of_wal(lsn: str) -> int:
    """Of PostgreSQL's notation: two hexadecimal halves."""
    high, low = lsn.split("/")
    return int(high, 16) << 32 | int(low, 16)


def normalised(lsn: int, page: int, segment: int) -> int:
    """The end of the last record before an insert position.

    Where that record fills its page, the insert position is already past the next page's header, which no standby
    reports before there is another record.
    """
    if lsn % segment == SEGMENT_HEADER:
        return lsn - SEGMENT_HEADER
    return lsn - PAGE_HEADER if lsn % page == PAGE_HEADER else lsn


@dataclass(frozen=True)
class SessionToken:
    """:param lsn: bytes of WAL that a replica must have replayed, in this system's timeline or a later one
    :param pin: if given, the only replica that may answer, and its incarnation: what it has shown, another may not have
    :param issued: seconds since 1970
    """

    system: int
    timeline: int
    lsn: int
    pin: tuple[str, int] | None = None
    issued: int = field(default_factory=lambda: int(time.time()), compare=False)

    @property
    def age(self) -> float:
        return time.time() - self.issued

    def satisfied_by(self, replica: Sample) -> bool:
        return (
            self.system == replica.system
            and self.timeline <= replica.timeline
            and self.lsn <= replica.lsn
            and self.pin in (None, (replica.alias, replica.incarnation))
        )

    def sign(self) -> str:
        alias, incarnation = self.pin or ("", 0)
        return _signer().sign(f"{self.system}.{self.timeline}.{self.lsn}.{self.issued}.{incarnation}.{alias}")

    def cookie_name(self) -> str:
        """A name for each demand: of two answers that cross on their way, neither can overwrite the other's."""
        demand = repr((self.system, self.timeline, self.lsn, self.pin)).encode()
        return f"{config().COOKIE}-{hashlib.blake2s(demand, digest_size=4).hexdigest()}"


def _signer() -> Signer:
    return Signer(salt="dbrouting.token")


def parse(signed: str) -> SessionToken | None:
    """None for what was not made here. What is too old is for the caller to tell."""
    try:
        system, timeline, lsn, issued, incarnation, alias = _signer().unsign(signed).split(".", 5)
        pin = (alias, int(incarnation)) if alias else None
        return SessionToken(int(system), int(timeline), int(lsn), pin, int(issued))
    except (BadSignature, ValueError):
        return None


def primary_token() -> SessionToken:
    """For all that has been committed on the primary until now, in one round trip.

    Inside `atomic()` the position of the COMMIT does not exist yet, and a primary that has just gone tells none: then
    the token is one that no replica satisfies, so that its holder reads the primary.
    """
    connection = connections[config().PRIMARY]
    if connection.in_atomic_block:
        return SessionToken(0, 0, NOWHERE)
    try:
        with connection.cursor() as cursor:
            cursor.execute(POSITION)
            system, wal_file, lsn, page, segment = cursor.fetchone()
    except Error:
        return SessionToken(0, 0, NOWHERE)
    segment_size = int(segment[:-2]) * UNITS[segment[-2:]]
    return SessionToken(system, int(wal_file[:8], 16), normalised(bytes_of_wal(lsn), int(page), segment_size))
