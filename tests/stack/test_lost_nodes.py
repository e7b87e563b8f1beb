"""Volumes and slots are lost, nodes fall behind or run ahead. Each says what is so, and keeps data that may be the only copy."""

import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.conftest import MakeStack
from tests.stack.stack import Stack
from tests.waiting import eventually

KEPT = "survives"
VOLUME = "/var/lib/postgresql"
HEALTH = "/etc/postgresql/healthcheck.sh"


@pytest.fixture(scope="module")
def module_stack(make_stack: MakeStack) -> Iterator[Stack]:
    with make_stack(replicas="2") as stack:
        stack.up()
        stack.comment(KEPT)
        yield stack


@pytest.fixture
def stack(module_stack: Stack) -> Iterator[Stack]:
    """Each test leaves it whole, with the row on every node."""
    yield module_stack
    module_stack.assert_whole(comment=KEPT)
    eventually(module_stack.ready)


def ops(stack: Stack, *command: str) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run([f"ops/{command[0]}", *command[1:]], cwd=stack.project, capture_output=True, text=True)
    print(done.stdout, done.stderr)
    return done


def in_volume(stack: Stack, node: str, command: str) -> None:
    """Of a node that does not run."""
    stack.compose("run", "--rm", "--no-deps", "-T", "--entrypoint", "bash", node, "-c", command)


def lose_volume(stack: Stack, node: str) -> None:
    stack.compose("rm", "--stop", "--force", node)
    in_volume(stack, node, f"find {VOLUME} -mindepth 1 -delete")


def received(stack: Stack, node: str) -> int:
    return int(stack.psql(node, "SELECT pg_last_wal_receive_lsn() - '0/0'"))


# A replica's data -----------------------------------------------------------------------------------------------------


def test_a_replica_whose_volume_is_lost_copies_the_primary(stack: Stack) -> None:
    lose_volume(stack, "replica-1")
    stack.up()


# A segment of 16 MB more. The checkpoint removes what no slot asks for.
WRITE_SEGMENT = "SELECT pg_logical_emit_message(false, '', 'x'); SELECT pg_switch_wal(); CHECKPOINT"


def lose_slot(stack: Stack, slot: str) -> None:
    """The primary gives it up past max_slot_wal_keep_size, or a dead replica would fill its disk."""
    stack.psql("primary", "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'; SELECT pg_reload_conf()")
    lost = f"SELECT wal_status = 'lost' FROM pg_replication_slots WHERE slot_name = '{slot}'"
    eventually(lambda: stack.psql("primary", f"{WRITE_SEGMENT}; {lost}").endswith("t"))
    stack.psql("primary", "ALTER SYSTEM RESET max_slot_wal_keep_size; SELECT pg_reload_conf()")


def test_a_replica_whose_attempts_to_stream_fail_is_at_no_time_healthy(stack: Stack) -> None:
    """The primary accepts each attempt, and ends it at once: it has removed the WAL that the replica asks for."""
    stack.psql("primary", "ALTER ROLE replicator NOLOGIN")
    stack.drop_slot("replica_1")
    stack.psql("primary", "SELECT pg_create_physical_replication_slot('replica_1')")
    asked_for = stack.psql("primary", "SELECT pg_walfile_name(pg_current_wal_lsn())")
    removed = f"SELECT NOT EXISTS (SELECT FROM pg_ls_waldir() WHERE name = '{asked_for}')"
    eventually(lambda: stack.psql("primary", f"{WRITE_SEGMENT}; {removed}").endswith("t"))
    # Or there would be one attempt a second.
    stack.psql("replica-1", "ALTER SYSTEM SET wal_retrieve_retry_interval = '1ms'; SELECT pg_reload_conf()")
    stack.psql("primary", "ALTER ROLE replicator LOGIN")
    eventually(lambda: "requested WAL segment" in stack.logs("replica-1"))
    healthy = stack.exec(
        "replica-1", "bash", "-c", f"for i in {{1..100}}; do {HEALTH} >/dev/null && echo yes; done; true"
    )
    assert healthy == ""
    # The slot says "reserved", and it is for WAL that is gone.
    status = "SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'replica_1'"
    eventually(lambda: stack.psql("primary", status) == "reserved")
    stack.compose("stop", "replica-1")
    stack.up()


def test_a_replica_whose_wal_is_gone_copies_the_primary_anew_when_it_starts(stack: Stack) -> None:
    # The other one would lose its slot, too, if it fell behind just then.
    stack.compose("stop", "replica-1", "replica-2")
    lose_slot(stack, "replica_1")
    assert stack.get("/").status_code == 200
    stack.up()
    assert "its primary no longer has the WAL that it needs. It copies the primary anew." in stack.logs("replica-1")


def test_a_replica_without_its_slot_makes_one_and_keeps_its_data(stack: Stack) -> None:
    """It was removed, its volume stayed, and it is brought back."""
    in_place = ["stat", "--format", "%i", f"{VOLUME}/18/docker"]
    before = stack.exec("replica-2", *in_place)
    stack.compose("rm", "--stop", "--force", "replica-2")
    stack.drop_slot("replica_2")
    stack.up()
    assert "its slot is missing or lost. It makes a new one." in stack.logs("replica-2")
    assert stack.exec("replica-2", *in_place) == before


def test_a_killed_replica_keeps_its_data(stack: Stack) -> None:
    """What it has on disk lies far behind what it has received, and the primary has removed that WAL."""
    in_place = ["stat", "--format", "%i", f"{VOLUME}/18/docker"]
    before = stack.exec("replica-1", *in_place)
    stack.psql("primary", "CREATE TABLE filler AS SELECT generate_series(1, 300000); DROP TABLE filler")
    reached = int(stack.psql("primary", "SELECT pg_current_wal_lsn() - '0/0'"))
    eventually(lambda: received(stack, "replica-1") >= reached)
    stack.compose("kill", "replica-1")
    stack.psql("primary", "SELECT pg_switch_wal(); CHECKPOINT")
    stack.up()
    assert stack.exec("replica-1", *in_place) == before


def test_a_copy_that_cannot_succeed_says_why_and_tries_more_and_more_seldom(stack: Stack) -> None:
    lose_volume(stack, "replica-1")
    stack.psql("primary", "ALTER ROLE replicator NOLOGIN")
    said = re.compile(r"no copy of the primary yet, tries again in (\d+) s: (.*)")
    stack.compose("up", "--detach", "--no-deps", "replica-1")
    pauses = eventually(lambda: len(found := said.findall(stack.logs("replica-1"))) >= 3 and found)
    stack.psql("primary", "ALTER ROLE replicator LOGIN")
    assert [int(seconds) for seconds, _ in pauses[:3]] == [1, 2, 4]
    assert all('role "replicator" is not permitted to log in' in reason for _, reason in pauses)
    stack.up()


def test_reseed_is_one_command(stack: Stack) -> None:
    damage = f"{VOLUME}/18/docker/damaged"
    stack.exec("replica-1", "touch", damage)
    assert ops(stack, "reseed", "replica-1").returncode == 0
    assert stack.attempt("replica-1", "test", "-e", damage).returncode == 1


@pytest.mark.parametrize("node", ["primary", "replica-3", "nobody", ""])
def test_reseed_names_what_it_takes(stack: Stack, node: str) -> None:
    done = ops(stack, "reseed", node)
    assert done.returncode == 2
    assert f"usage: ops/reseed NODE, one of: replica-1 replica-2 (seen: '{node}')" in done.stderr


# The primary's data ---------------------------------------------------------------------------------------------------


def test_beside_the_data_of_another_cluster_a_replica_keeps_its_own(stack: Stack) -> None:
    """Somebody has begun anew, past the refusal, while a replica had data."""
    kept = f"{VOLUME}/kept"
    stack.compose("stop", "primary", "replica-2")
    in_volume(stack, "primary", f"mkdir {kept} && mv {VOLUME}/18 {kept}/")
    starts = "PEERS=/nowhere /etc/postgresql/entrypoint.sh & until pg_isready -qh primary; do sleep 0.2; done; kill -INT $!; wait"
    in_volume(stack, "primary", starts)
    stack.compose("start", "primary")
    eventually(lambda: stack.attempt("primary", HEALTH).returncode == 0)
    eventually(lambda: stack.attempt("replica-1", HEALTH).stdout.startswith("no WAL receiver"))
    done = ops(stack, "reseed", "replica-1")
    assert done.returncode == 1
    assert "it may be the only copy of that data, and is kept" in done.stderr
    stack.compose("up", "--detach", "--no-deps", "replica-1")
    eventually(lambda: "its volume holds another cluster than its primary 'primary'" in stack.logs("replica-1"))
    stack.compose("stop", "primary")
    in_volume(stack, "primary", f"rm -r {VOLUME}/18 && mv {kept}/18 {VOLUME}/ && rmdir {kept}")
    stack.up()


def test_a_replica_that_has_more_than_its_primary_keeps_it(stack: Stack) -> None:
    """The primary's volume was put back from an older copy."""
    aside = f"{VOLUME}/aside"
    stack.compose("stop", "primary")
    in_volume(stack, "primary", f"mkdir {aside} && cp -a {VOLUME}/18 {aside}/older")
    stack.up()
    stack.comment("after the copy")
    eventually(lambda: stack.comments("replica-1", "after the copy") == 1)
    stack.compose("stop")
    in_volume(stack, "primary", f"mv {VOLUME}/18 {aside}/newer && mv {aside}/older {VOLUME}/18")
    stack.compose("start", "primary")
    eventually(lambda: stack.attempt("primary", HEALTH).returncode == 0)
    stack.compose("start", "replica-1")
    eventually(lambda: "its volume holds later data than its primary 'primary'" in stack.logs("replica-1"))
    stack.compose("stop")
    in_volume(stack, "primary", f"rm -r {VOLUME}/18 && mv {aside}/newer {VOLUME}/18 && rmdir {aside}")
    stack.up()
    assert stack.comments("replica-1", "after the copy") == 1


def test_promote_refuses_while_the_primary_answers(stack: Stack) -> None:
    refused = ops(stack, "promote", "replica-1")
    assert refused.returncode == 1
    assert "primary answers, and may take writes that replica-1 would not have" in refused.stderr
    assert ops(stack, "promote", "nobody").returncode == 2


def test_a_lost_primary_is_replaced_and_nobodys_data_goes_by_itself(module_stack: Stack) -> None:
    """The last test, since another node is the primary afterwards. What is lost here is said to be."""
    stack = module_stack
    stack.compose("stop", "replica-1")
    stack.comment("only replica-2 has it")
    eventually(lambda: stack.comments("replica-2", "only replica-2 has it") == 1)
    made = stack.exec("replica-2", "stat", "--format", "%i", f"{VOLUME}/18/docker/PG_VERSION")
    lose_volume(stack, "primary")
    assert "primary-1 is unhealthy" in stack.refuses_up("primary")
    told = "this volume is empty, but these nodes have data: replica-1 replica-2. To make one of them the primary"
    eventually(lambda: told in stack.logs("primary"))
    assert stack.get("/").status_code == 200, "the site does not read on"

    refused = ops(stack, "promote", "replica-2")
    assert "replica-1 does not answer, and may have received more than replica-2" in refused.stderr
    stack.compose("start", "replica-1")
    eventually(lambda: stack.attempt("replica-1", HEALTH).returncode == 0)
    refused = ops(stack, "promote", "replica-1")
    assert refused.returncode == 1
    ahead = r"replica-2 has received \d+ bytes of WAL more than replica-1. To keep that data: ops/promote replica-2\."
    assert re.search(ahead, refused.stderr)
    assert stack.env("PRIMARY_HOST") == "primary"

    done = ops(stack, "promote", "replica-1", "--without", "replica-2")
    assert done.returncode == 0
    assert "replica-1 is the primary now." in done.stdout
    assert "replica-2 keeps its data, which may hold what replica-1 lacks." in done.stdout
    assert stack.env("PRIMARY_HOST") == "replica-1"
    assert stack.comments("replica-1", "only replica-2 has it") == 0
    # The node that was the primary has copied it, and serves what replica-1 did.
    assert stack.psql("primary", "SELECT pg_is_in_recovery()") == "t"
    eventually(lambda: stack.get("/readyz").json()["databases"]["replica"] == "ok")
    # replica-2 neither follows a past that is not its own, nor copies another one over its data: PostgreSQL refuses, or the
    # entrypoint if the new primary has removed the WAL.
    stack.compose("up", "--detach", "--no-deps", "replica-2")
    refused_by = "timeline .* (not a child of|forked off)|is of an earlier timeline than its primary 'replica-1'"
    eventually(lambda: re.search(refused_by, stack.logs("replica-2")))
    assert stack.attempt("replica-2", HEALTH).returncode != 0
    stack.compose("stop", "replica-2")
    in_volume(stack, "replica-2", f"test $(stat --format %i {VOLUME}/18/docker/PG_VERSION) = {made}")
    assert ops(stack, "reseed", "replica-2").returncode == 0

    stack.up()
    eventually(stack.ready)
    stack.comment("after all this")
    for node in ("primary", "replica-1", "replica-2"):
        eventually(lambda node=node: stack.comments(node, "after all this") == 1)
        assert stack.comments(node, KEPT) == 1
