"""The router's promise, attacked: visitors check every row, while replicas lag, crash, freeze, restart, get promoted."""

import json
import os
import random
import subprocess
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

import tests.stack
from tests.conftest import MakeStack
from tests.stack.stack import Stack, docker
from tests.waiting import eventually

SEED = os.environ.get("TORTURE_SEED", "1")
# Each round has all faults, for each way of pooling. With 0 rounds, the ways share the faults of one round.
ROUNDS = int(os.environ.get("TORTURE_ROUNDS", "0"))
VISITORS = 24
SCRIPT = (Path(tests.stack.__file__).parent / "in_container" / "visitors.py").read_text()


@pytest.fixture(scope="module")
def stack(make_stack: MakeStack) -> Iterator[Stack]:
    with make_stack(replicas="2") as stack:
        # Room for each visitor's connection where nothing is shared.
        stack.edit_env(POOL_SIZE="40")
        stack.up()
        yield stack


def pool(stack: Stack, mode: str) -> None:
    stack.edit_env(POOL_MODE=mode)
    stack.recovers("web", *stack.replicas)
    stack.up()


class Visitors:
    """The script, running in the web container.

    :param way: how they reach the databases: directly, or through PgBouncer in this mode
    """

    def __init__(self, stack: Stack, way: str, removed: str = "") -> None:
        # What suspends a process for longer than the template's timeout is no fault of a replica's.
        patient = "?connect_timeout=30"
        url = f"postgresql://app@pgbouncer:5432/{stack.slug}{patient}"
        environment = {"DATABASE_URL": url, "VISITORS": str(VISITORS), "SEED": SEED, "REMOVED": removed}
        if way == "direct":
            # Only in this test: elsewhere nothing but PgBouncer may reach the nodes.
            docker("network", "connect", f"{stack.slug}_database", stack.container("web"))
            urls = [f"postgresql://app@{node}:5432/{stack.slug}" for node in ["primary", *stack.replicas]]
            environment |= {"DATABASE_URL": urls[0] + patient, "DATABASE_REPLICA_URLS": ",".join(urls[1:])}
        else:
            pool(stack, way)
        self.stack = stack
        given = [part for name, value in environment.items() for part in ("--env", f"{name}={value}")]
        shell = ["python", "manage.py", "shell", "--verbosity", "0"]
        self.process = subprocess.Popen(
            ["docker", "exec", "--interactive", *given, stack.container("web"), *shell],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(SCRIPT)
        self.process.stdin.close()
        assert self.process.stdout.readline() == "started\n"

    @property
    def here(self) -> bool:
        return self.process.poll() is None

    def leave(self) -> dict[str, Any]:
        """What they have met."""
        self.stack.exec("web", "touch", "/tmp/visitors-leave")
        assert self.process.stdout
        *_, last = self.process.stdout.read().splitlines()
        found: dict[str, Any] = json.loads(last)
        assert self.process.wait() == 0
        print(f"seed {SEED}: {found}")
        return found


class Attacker:
    """The faults of replicas. Each method ends with the replica in working order, or on its way there."""

    def __init__(self, stack: Stack, seed: str) -> None:
        self.stack = stack
        self.dice = random.Random(seed)

    def streams(self, replica: str) -> bool:
        return self.stack.attempt(replica, "/etc/postgresql/healthcheck.sh").stdout == "ok\n"

    def lag(self, replica: str) -> None:
        self.stack.psql(replica, "SELECT pg_wal_replay_pause()")
        time.sleep(self.dice.uniform(0.2, 3))
        self.stack.resume_replay(replica)

    def delay(self, replica: str) -> None:
        self.stack.psql(replica, "ALTER SYSTEM SET recovery_min_apply_delay = '300ms'; SELECT pg_reload_conf()")
        time.sleep(self.dice.uniform(1, 3))
        self.stack.psql(replica, "ALTER SYSTEM RESET recovery_min_apply_delay; SELECT pg_reload_conf()")

    def crash(self, replica: str) -> None:
        self.stack.kill_backend(replica)
        eventually(lambda: self.streams(replica), patience=180)

    def freeze(self, replica: str) -> None:
        with self.stack.paused(replica):
            time.sleep(self.dice.uniform(0.5, 4))

    def restart(self, replica: str) -> None:
        self.stack.compose("restart", replica)
        eventually(lambda: self.streams(replica))

    def cut(self, replica: str) -> None:
        network, container = f"{self.stack.slug}_database", self.stack.container(replica)
        docker("network", "disconnect", network, container)
        time.sleep(self.dice.uniform(0.5, 4))
        docker("network", "connect", "--alias", replica, network, container)

    def turn_back_time(self, replica: str) -> None:
        """While the visitors are suspended, perhaps between choosing this replica and reading there, it crashes and comes
        back with an older state, and stays in it: the recovery target stands for a long way from its last restartpoint.
        """
        self.stack.psql("primary", "CHECKPOINT")
        self.stack.psql(replica, "CHECKPOINT")
        self.stack.psql(
            replica,
            "SELECT format('ALTER SYSTEM SET recovery_target_lsn = %L', pg_last_wal_replay_lsn()) \\gexec\n"
            "ALTER SYSTEM SET recovery_target_action = pause",
        )
        time.sleep(1)
        with self.stack.paused("web"):
            self.stack.kill_backend(replica)
            eventually(lambda: self.stack.attempt(replica, "pg_isready", "-q").returncode == 0)
        time.sleep(1)
        self.stack.psql(replica, "ALTER SYSTEM RESET recovery_target_lsn; ALTER SYSTEM RESET recovery_target_action")
        self.stack.compose("restart", replica)
        eventually(lambda: self.streams(replica))

    def promote(self, replica: str) -> None:
        """It takes writes from now on, as a second primary."""
        # One that waits is itself in the way: replay stops at what its snapshot may see, and then cancels it.
        self.stack.psql(replica, "SELECT pg_promote(wait => false)")
        eventually(lambda: self.stack.psql(replica, "SELECT pg_is_in_recovery()") == "f")
        time.sleep(2)
        subprocess.run(["ops/reseed", replica], cwd=self.stack.project, check=True, capture_output=True)

    def attack(self, faults: list[str]) -> None:
        """One after the other, each on a random replica."""
        for fault in faults:
            getattr(self, fault)(self.dice.choice(self.stack.replicas))
            time.sleep(self.dice.uniform(0, 1))


FAULTS = ("lag", "delay", "crash", "freeze", "restart", "cut", "turn_back_time", "promote")
# The generated way meets the hardest two.
SHARED = {
    "direct": ["freeze", "delay"],
    "transaction": ["turn_back_time", "promote"],
    "session": ["lag", "crash"],
    "statement": ["cut", "restart"],
}
assert sorted(chain(*SHARED.values())) == sorted(FAULTS)


def faults_for(way: str) -> list[str]:
    if ROUNDS == 0:
        return SHARED[way]
    dice = random.Random(f"{SEED}-{way}")
    return [fault for _ in range(ROUNDS) for fault in dice.sample(FAULTS, len(FAULTS))]


@pytest.mark.parametrize("way", SHARED)
def test_no_visitor_misses_their_own_write_or_sees_time_run_backwards(stack: Stack, way: str) -> None:
    visitors, attacker = Visitors(stack, way), Attacker(stack, f"{SEED}-{way}")
    attacker.attack(faults_for(way))
    for replica in stack.replicas:
        eventually(lambda replica=replica: attacker.streams(replica))
    result = visitors.leave()
    assert (result["wrong"], result["failed"], result["unreached"]) == (0, 0, 0), result["examples"]
    assert result["on_replicas"] > 0


@pytest.mark.parametrize("removed", ["token", "incarnation", "page", "atomic"])
def test_without_any_one_guarantee_the_visitors_notice(stack: Stack, removed: str) -> None:
    visitors, attacker = Visitors(stack, "transaction", removed), Attacker(stack, SEED)
    attack = {"token": attacker.lag, "incarnation": attacker.turn_back_time}.get(removed)
    while visitors.here and attack:
        attack("replica-1")
    if removed == "atomic":
        eventually(lambda: not visitors.here, patience=400)
    result = visitors.leave()
    assert result["unreached" if removed == "page" else "wrong"] > 0
