"""Fixtures for tests that read replicas. conftest.py of the project registers them, for each app's tests."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import pytest
from django.db import DatabaseError, connections

from dbrouting.conf import config
from dbrouting.monitor import State, configured, connect, monitor
from dbrouting.tokens import primary_token


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
    """Waits until every replica is known to have replayed what the primary has committed."""

    def wait() -> None:
        token = primary_token()

        def replayed(alias: str) -> bool:
            proof = monitor.replica(alias).proof()
            return proof is not None and token.satisfied_by(proof)

        for alias in config().REPLICAS:
            eventually(partial(replayed, alias))

    return wait


@pytest.fixture
def replica_down(eventually: Callable[[Callable[[], object]], None]) -> Callable[[], AbstractContextManager[None]]:
    """Inside, nobody listens where the replica's new connections go, and those that were open are gone."""
    if not config().REPLICAS:
        pytest.skip("REPLICAS=0")

    @contextmanager
    def down() -> Iterator[None]:
        replica, original = monitor.replica("replica"), dict(configured["replica"])
        elsewhere = {"HOST": "127.0.0.1", "PORT": 1}
        wrapper = connections["replica"].settings_dict
        before = {name: wrapper[name] for name in elsewhere}
        with connect("replica") as connection:
            configured["replica"].update(elsewhere)
            wrapper.update(elsewhere)
            # All others of this role, Django's own among them.
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE usename = current_user AND pid <> pg_backend_pid()"
            )
        try:
            eventually(lambda: replica.state is State.DOWN)
            yield
        finally:
            wrapper.update(before)
            configured["replica"].update(original)
            connections["replica"].close()
        eventually(lambda: replica.state is State.UP)

    return down


@pytest.fixture
def replay_paused() -> Callable[[], AbstractContextManager[None]]:
    """Inside, no replica replays anything. The tests' devstack lets its role do this."""

    @contextmanager
    def paused() -> Iterator[None]:
        # Once: a test may change the settings inside.
        replicas = config().REPLICAS
        for alias in replicas:
            with connect(alias) as connection:
                connection.execute("SELECT pg_wal_replay_pause()")
        try:
            yield
        finally:
            for alias in replicas:
                with connect(alias) as connection:
                    connection.execute("SELECT pg_wal_replay_resume()")

    return paused
