"""`make bench`: a project of the template, its sites under load one after the other, and what came out.

Stopped, it goes on where it was: `make bench` once more. The tables that are done stand in results/pooling.part.jsonl.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

from rich.progress import track

from benchmarks.pooling import report
from benchmarks.pooling.plan import CROWD_ROUNDS, CROWDS, SETS
from benchmarks.publish import RESULTS
from tests.stack.stack import Stack

HERE = Path(__file__).resolve().parent
PART = RESULTS / "pooling.part.jsonl"
# For the sets. 100, the project's, is for the crowd.
SESSIONS = 450
CONFIGURATION = f"""
# What a person who measures adds.
max_connections = {SESSIONS}
ssl = on
ssl_cert_file = '/certificate/server.crt'
ssl_key_file = '/certificate/server.key'
# Not in the middle of somebody's turn.
autovacuum = off
checkpoint_timeout = 1h
max_wal_size = 20GB
"""
POOLERS = ("pgbouncer", "pgbouncer-session", "pgbouncer-statement", "pgbouncer-tls")
# Idle connections whose memory is looked at.
BACKENDS, CLIENTS = 50, 900
TABLES = (*SETS, "micro", "memory", "crowd")
Samples = Iterator[dict[str, Any]]


class Bench:
    """The containers, and what is asked of them. crowd() is the last: it changes the primary."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack

    def start(self) -> None:
        self.configure("", CONFIGURATION)
        self.stack.up("bench", "replica-1", *POOLERS)
        database = self.stack.env("DATABASE_NAME")
        owner = f"postgresql://owner@primary:5432/{database}"
        prepare = ["bench", "python", "manage.py", "shell", "--no-imports"]
        self.stack.compose(
            "exec", "-T", "--env", f"DATABASE_URL={owner}", "--env", "REPLICAS=0", *prepare,
            stdin=(HERE / "in_container" / "prepare.py").read_text(),
        )  # fmt: skip
        self.stack.psql("primary", "VACUUM ANALYZE", database=database)

    def configure(self, old: str, new: str) -> None:
        path = self.stack.project / "postgres" / "postgresql.conf"
        text = path.read_text()
        path.write_text(text.replace(old, new) if old else text + new)

    @contextmanager
    def program(self, name: str, *arguments: object) -> "Iterator[subprocess.Popen[str]]":
        """One of in_container/, until the end of the block."""
        command = ["docker", "compose", "exec", "-T", "bench", "python", f"/bench/in_container/{name}.py"]
        with subprocess.Popen(
            [*command, *map(str, arguments)], cwd=self.stack.project, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        ) as process:  # fmt: skip
            assert process.stdin
            try:
                yield process
            finally:
                process.stdin.close()
        if process.returncode:
            sys.exit(f"{name}.py has failed: {process.returncode}")

    def lines(self, name: str, *arguments: object) -> Samples:
        with self.program(name, *arguments) as process:
            assert process.stdout
            yield from map(json.loads, process.stdout)

    def turns(self, name: str, rounds: int, seconds: int, sites: Iterable[str] = ()) -> Samples:
        """Of a set."""
        run = self.lines("run", name, rounds, seconds, *sites)
        if name != "apart":
            yield from run
            return
        # The first half of the processors for the sites and their load, the others for PgBouncer and PostgreSQL.
        number = int(subprocess.check_output(["docker", "info", "--format", "{{.NCPU}}"]))
        bench, half = self.stack.container("bench"), number // 2
        others = set(self.stack.compose("ps", "--quiet").stdout.split()) - {bench}
        try:
            pin(0, half - 1, bench)
            pin(half, number - 1, *others)
        except subprocess.CalledProcessError:
            print("No processors apart: left out.", file=sys.stderr)
        else:
            yield from run
            pin(0, number - 1, bench, *others)

    def micro(self, rounds: int) -> Samples:
        # Not in the log, nor in anybody's list of processes.
        password = self.stack.secret("monitor_password")
        self.stack.psql("primary", f"SET scram_iterations = 1; ALTER ROLE monitor PASSWORD '{password}'")
        yield from self.lines("micro", rounds)

    @contextmanager
    def held(self, host: str, clients: int) -> Iterator[dict[str, Any]]:
        """:returns: what crowd.py says of them"""
        with self.program("crowd", host, clients) as process:
            assert process.stdout
            yield json.loads(process.stdout.readline())

    def resident(self, service: str, processes: list[Any], field: str) -> int:
        """Bytes of all of them. PSS shares what is shared, RSS counts it each time."""
        files = [f"/proc/{process}/smaps_rollup" for process in processes]
        rollups = self.stack.compose("exec", "-T", service, "cat", *files).stdout
        found = re.findall(rf"^{field}: +(\d+) kB", rollups, re.MULTILINE)
        assert len(found) == len(processes)
        return sum(1024 * int(kilobytes) for kilobytes in found)

    def memory(self) -> Samples:
        """Of an idle connection."""
        with self.held("primary", BACKENDS) as told:
            size = self.resident("primary", told["processes"], "Pss") / BACKENDS
            yield {"set": "memory", "what": "backend of PostgreSQL", "bytes": size}
        # It keeps what earlier clients have needed.
        self.stack.compose("restart", "--no-deps", "pgbouncer")
        self.stack.up("pgbouncer")
        itself = self.stack.compose("exec", "-T", "pgbouncer", "pgrep", "--full", "^pgbouncer").stdout.split()
        before = self.resident("pgbouncer", itself, "Rss")
        with self.held("pgbouncer", CLIENTS):
            size = (self.resident("pgbouncer", itself, "Rss") - before) / CLIENTS
            yield {"set": "memory", "what": "client of PgBouncer", "bytes": size}

    def crowd(self, rounds: int, crowds: Iterable[int] = CROWDS) -> Samples:
        """As generated, max_connections = 100: only the primary's is lowered, since a replica's must not be below it."""
        self.configure(f"max_connections = {SESSIONS}", "max_connections = 100")
        self.stack.compose("up", "--detach", "--build", "--wait", "--no-deps", "primary")
        # PostgreSQL alone has all of its slots for itself: no pooler keeps any.
        self.stack.compose("stop", *POOLERS)
        for host in ("primary", "pgbouncer-crowd"):
            self.stack.up(host)
            assert self.stack.psql("primary", "SHOW max_connections") == "100"
            for number, clients in product(range(rounds), crowds):
                with self.held(host, clients) as told:
                    del told["processes"]
                    yield {"set": "crowd", "round": number, "host": host} | told

    def machine(self, **options: Any) -> str:
        """The first line of the samples: what they hang on."""
        names = ("django", "psycopg", "gunicorn")
        ask = (
            f"import sys, {', '.join(names)}\nprint(sys.version.split()[0], {'.__version__, '.join(names)}.__version__)"
        )
        versions = self.stack.compose("exec", "-T", "bench", "python", "-c", ask).stdout.split()
        servers = {
            "postgresql": self.stack.psql("primary", "SHOW server_version").split()[0],
            "pgbouncer": self.stack.pgbouncer("SHOW VERSION")[0]["version"].split()[-1],
        }
        return json.dumps(
            dict(zip(("python", *names), versions, strict=True)) | servers | {"cores": os.cpu_count()} | options
        )

    def tables(self, rounds: int, seconds: int) -> dict[str, tuple[str, int, Samples]]:
        """What can be measured: title, how many samples, and these."""
        tables = {
            name: (one.title, len(list(one.turns(rounds))), self.turns(name, rounds, seconds))
            for name, one in SETS.items()
        }
        crowds = min(CROWD_ROUNDS, rounds)
        return tables | {
            "micro": ("Single steps", 64 * rounds, self.micro(4 * rounds)),
            "memory": ("Memory", 2, self.memory()),
            "crowd": ("A crowd", 2 * crowds * len(CROWDS), self.crowd(crowds)),
        }


def pin(first: int, last: int, *containers: str) -> None:
    subprocess.run(
        ["docker", "update", f"--cpuset-cpus={first}-{last}", *containers], check=True, stdout=subprocess.DEVNULL
    )


@contextmanager
def bench(directory: Path, slug: str = "pgstack_bench") -> Iterator[Bench]:
    stack = Stack(directory, slug=slug, replicas="1")
    stack.edit_env(LOG_LEVEL="ERROR")
    with (stack.project / ".env").open("a") as env:
        env.write(f"\nCOMPOSE_FILE=compose.yaml:{HERE / 'compose.yaml'}\nBENCH={HERE}\n")
    # What a run that was killed has left has other passwords.
    stack.down()
    try:
        started = Bench(stack)
        started.start()
        yield started
    finally:
        stack.compose("down", "--volumes", "--rmi", "local", "--timeout", "0", check=False)
        stack.down()


def measure(running: Bench, options: argparse.Namespace, file: Path) -> None:
    """Adds to the file what is not in it, a whole table at a time: what is compared is measured in one go."""
    head = running.machine(rounds=options.rounds, seconds=options.seconds)
    if not file.exists():
        file.write_text(head + "\n")
    first, *lines = file.read_text().splitlines()
    if first != head:
        sys.exit(f"{file} is of another run: {first}\nthis is: {head}\nRemove it.")
    done = {json.loads(line)["set"] for line in lines}
    for name, (title, number, samples) in running.tables(options.rounds, options.seconds).items():
        if name in (options.tables or TABLES) and name not in done:
            told = [json.dumps(sample) + "\n" for sample in track(samples, f"{title:38.38}", number)]
            with file.open("a") as output:
                output.writelines(told)


def main() -> None:
    # SIGTERM as Ctrl-C, and Ctrl-C also where a shell's background job began with it ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pooling", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=1, help="of a turn")
    parser.add_argument(
        "tables", nargs="*", choices=[*TABLES, []], metavar="TABLE", help=f"{', '.join(TABLES)}; printed only"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        file = Path(scratch) / "pooling.jsonl" if options.tables else PART
        with bench(Path(scratch)) as running:
            measure(running, options, file)
        if options.tables:
            print(report.markdown(report.Results(file.read_text())))
        else:
            report.write(file.read_text(), RESULTS, HERE / "README.md")
            PART.unlink()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("Stopped. `make bench` goes on where this was.")
