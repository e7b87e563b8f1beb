import time
from collections.abc import Callable
from functools import partial

import pytest
from django.conf import settings
from django.db import DatabaseError, connections


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], None]:
    """Waits until a condition on a replica holds: replication is asynchronous, the new test database's too."""

    def wait(condition: Callable[[], object], patience: float = 10.0) -> None:
        deadline = time.monotonic() + patience
        while True:
            try:
                if condition():
                    return
            except DatabaseError:
                if time.monotonic() > deadline:
                    raise
            assert time.monotonic() < deadline, f"still not so after {patience:g} s"
            time.sleep(0.02)

    return wait


@pytest.fixture
def lsn_replayed(eventually: Callable[[Callable[[], object]], None]) -> Callable[[], None]:
    """Waits until every replica has replayed all that the primary has written so far; without one, for nothing."""

    def wait() -> None:
        with connections["default"].cursor() as cursor:
            # Not pg_current_wal_lsn(): it may stand inside a record that is still being written.
            cursor.execute("SELECT pg_logical_emit_message(true, 'test', '')")
            (lsn,) = cursor.fetchone()

        def replayed(alias: str) -> bool:
            with connections[alias].cursor() as cursor:
                cursor.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [lsn])
                return bool(cursor.fetchone()[0])

        for alias in settings.DBROUTING["REPLICAS"]:
            eventually(partial(replayed, alias))

    return wait
