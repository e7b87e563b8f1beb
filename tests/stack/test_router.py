"""The router's promise, attacked: visitors who check every row, while replicas lag, crash, freeze, restart, get promoted."""

import json
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stack.stack import Stack, eventually

SEED = int(os.environ.get("TORTURE_SEED", str(random.randrange(10**6))))
# Seconds of attacks for each way of pooling. Together they are to check over 100,000 reads.
SECONDS = float(os.environ.get("TORTURE_SECONDS", "45"))
VISITORS = 24
SCRIPT = (Path(__file__).parent / "in_container" / "visitors.py").read_text()


@pytest.fixture(scope="module")
def stack(make_stack: Callable) -> Iterator[Stack]:
    with make_stack(replicas="2") as stack:
        # Room for each visitor's connection where nothing is shared.
        stack.edit_env(POOL_SIZE="40")
        stack.up()
        yield stack


@pytest.fixture(scope="module", params=["direct", "transaction", "session", "statement"])
def pooled(request: pytest.FixtureRequest, stack: Stack) -> tuple[Stack, dict[str, str]]:
    """The stack, and the environment by which a process in the web container reaches it this way."""
    # What suspends a process for longer than the template's timeout is no fault of a replica's.
    patient = "?connect_timeout=30"
    if request.param == "direct":
        # Only in this test: nothing but PgBouncer may reach the nodes otherwise.
        subprocess.run(["docker", "network", "connect", f"{stack.slug}_database", stack.container("web")], check=True)
        urls = [f"postgresql://app@{node}:5432/{stack.slug}" for node in ["primary", *stack.replicas]]
        return stack, {"DATABASE_URL": urls[0] + patient, "DATABASE_REPLICA_URLS": ",".join(urls[1:])}
    pool(stack, request.param)
    return stack, {"DATABASE_URL": f"postgresql://app@pgbouncer:5432/{stack.slug}{patient}"}


def pool(stack: Stack, mode: str) -> None:
    stack.edit_env(POOL_MODE=mode)
    stack.recovers("web", *stack.replicas)
    stack.compose("up", "--detach", "--wait")


class Visitors:
    """The script, running in the web container."""

    def __init__(self, stack: Stack, environment: dict[str, str], seconds: float, removed: str = "") -> None:
        settings = {"SECONDS": seconds, "VISITORS": VISITORS, "SEED": SEED, "REMOVED": removed}
        given = [part for name, value in (environment | settings).items() for part in ("--env", f"{name}={value}")]
        self.process = subprocess.Popen(
            ["docker", "compose", "exec", "-T", *given, "web", "python", "manage.py", "shell", "--verbosity", "0"],
            cwd=stack.project,
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

    def result(self) -> dict[str, Any]:
        assert self.process.stdout
        *_, last = self.process.stdout.read().splitlines()
        found: dict[str, Any] = json.loads(last)
        assert self.process.wait() == 0
        return found


class Attacker:
    """What befalls replicas. Each method ends with the replica in working order, or on its way there."""

    def __init__(self, stack: Stack, seed: str) -> None:
        self.stack = stack
        self.dice = random.Random(seed)

    def docker(self, *arguments: str) -> None:
        subprocess.run(["docker", *arguments], check=True, capture_output=True)

    def streams(self, replica: str) -> bool:
        done = self.stack.compose("exec", "-T", replica, "/etc/postgresql/healthcheck.sh", check=False)
        return done.stdout == "ok\n"

    def lag(self, replica: str) -> None:
        self.stack.psql(replica, "SELECT pg_wal_replay_pause()")
        time.sleep(self.dice.uniform(0.2, 3))
        self.stack.psql(replica, "SELECT pg_wal_replay_resume()")

    def delay(self, replica: str) -> None:
        self.stack.psql(replica, "ALTER SYSTEM SET recovery_min_apply_delay = '300ms'; SELECT pg_reload_conf()")
        time.sleep(self.dice.uniform(1, 3))
        self.stack.psql(replica, "ALTER SYSTEM RESET recovery_min_apply_delay; SELECT pg_reload_conf()")

    def crash(self, replica: str) -> None:
        self.stack.kill_backend(replica)
        eventually(lambda: self.streams(replica))

    def freeze(self, replica: str) -> None:
        with self.stack.paused(replica):
            time.sleep(self.dice.uniform(0.5, 4))

    def restart(self, replica: str) -> None:
        self.stack.compose("restart", replica)
        eventually(lambda: self.streams(replica))

    def cut(self, replica: str) -> None:
        network, container = f"{self.stack.slug}_database", self.stack.container(replica)
        self.docker("network", "disconnect", network, container)
        time.sleep(self.dice.uniform(0.5, 4))
        self.docker("network", "connect", "--alias", replica, network, container)

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
            eventually(
                lambda: self.stack.compose("exec", "-T", replica, "pg_isready", "-q", check=False).returncode == 0
            )
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

    def attack(self, visitors: Visitors) -> None:
        """Everything once, in random order and on a random replica, and again until the visitors have left."""
        while visitors.here:
            faults = [self.lag, self.delay, self.crash, self.freeze, self.restart, self.cut, self.turn_back_time]
            for fault in self.dice.sample([*faults, self.promote], len(faults) + 1):
                if visitors.here:
                    fault(self.dice.choice(self.stack.replicas))
                    time.sleep(self.dice.uniform(0, 1))


def test_nobody_misses_what_he_wrote_or_sees_time_run_backwards(pooled: tuple[Stack, dict[str, str]]) -> None:
    stack, environment = pooled
    visitors = Visitors(stack, environment, SECONDS)
    Attacker(stack, f"{SEED}").attack(visitors)
    result = visitors.result()
    print(f"seed {SEED}: {result}")
    assert (result["wrong"], result["failed"], result["unreached"]) == (0, 0, 0), result["examples"]
    assert result["on_replicas"] > 1000
    for replica in stack.replicas:
        eventually(lambda replica=replica: Attacker(stack, "").streams(replica), patience=60)


@pytest.mark.parametrize("removed", ["token", "incarnation", "page", "atomic"])
def test_without_any_one_guarantee_the_visitors_notice(stack: Stack, removed: str) -> None:
    pool(stack, "transaction")
    visitors = Visitors(stack, {}, 20, removed=removed)
    attacker = Attacker(stack, f"{SEED}")
    attacks = {"token": attacker.lag, "incarnation": attacker.turn_back_time}
    while visitors.here:
        attacks.get(removed, lambda replica: time.sleep(1))("replica-1")
    result = visitors.result()
    print(f"seed {SEED}: {result}")
    assert result["unreached" if removed == "page" else "wrong"] > 0
