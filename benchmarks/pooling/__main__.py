"""`make bench`: a project of the template, its sites under load one after the other, and what came out.

Stopped, it goes on where it was: `make bench` once more. What is done stands in benchmarks/results/pooling.part.jsonl.
"""

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.pooling import report
from benchmarks.pooling.memory import memory
from benchmarks.pooling.plan import CROWD_ROUNDS, CROWDS, DATABASE, QUICK, SETS
from tests.baking import PROJECT, edit_env
from tests.stack.stack import Stack

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results"
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


class Bench:
    """The containers, and the samples: each is written down as soon as it is there."""

    def __init__(self, stack: Stack, options: argparse.Namespace, progress: Progress, samples: Path) -> None:
        self.stack, self.options, self.progress, self.file = stack, options, progress, samples
        self.task = progress.add_task("starting containers", total=None)

    @property
    def samples(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.read_text().splitlines()[1:]]

    def keep(self, line: str) -> None:
        with self.file.open("a") as file:
            file.write(line.strip() + "\n")
        if counted(json.loads(line)):
            self.progress.advance(self.task)

    def describe(self, what: str) -> None:
        self.progress.update(self.task, description=what)
        if not self.progress.console.is_terminal:
            self.progress.console.print(what)

    def in_container(self, *command: str, stdin: str = "") -> Iterator[str]:
        """Lines of a program in the bench container, as they come."""
        process = subprocess.Popen(
            ["docker", "compose", "exec", "-T", "bench", "python", *command],
            cwd=self.stack.project, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdin and process.stdout
        process.stdin.write(stdin)
        process.stdin.close()
        yield from process.stdout
        if process.wait():
            sys.exit(f"{' '.join(command)} has failed. What is measured already stays in {self.file}.")

    def forget_halves(self) -> None:
        """What is compared is measured in one go: a cell of a round that a stop has cut short is measured again."""
        head, *lines = self.file.read_text().splitlines()
        samples = [json.loads(line) for line in lines]
        have = Counter(cell(sample) for sample in samples if "site" in sample)
        need = Counter(
            (name, turn.round, turn.work, turn.clients)
            for name in self.options.sets
            for turn in SETS[name].turns(self.options.rounds, quick=self.options.quick)
        )
        whole = [
            line
            for line, one in zip(lines, samples, strict=True)
            if "site" not in one or have[cell(one)] == need[cell(one)]
        ]
        self.file.write_text("".join(f"{line}\n" for line in (head, *whole)))

    def start(self) -> None:
        settings = self.stack.project / "postgres" / "postgresql.conf"
        settings.write_text(settings.read_text() + CONFIGURATION)
        self.stack.up("bench", "replica-1", *POOLERS)
        owner = f"postgresql://owner@primary:5432/{DATABASE}"
        prepare = ["bench", "python", "manage.py", "shell", "--no-imports"]
        self.stack.compose(
            "exec", "-T", "--env", f"DATABASE_URL={owner}", "--env", "REPLICAS=0", *prepare,
            stdin=(HERE / "in_container" / "prepare.py").read_text(),
        )  # fmt: skip
        self.stack.psql("primary", "VACUUM ANALYZE", database=DATABASE)

    def sets(self, names: list[str]) -> None:
        rounds, seconds, quick = self.options.rounds, self.options.seconds, "quick" if self.options.quick else ""
        for name in names:
            if SETS[name].apart and self.processors == 1:
                self.describe(f"Left out, for want of processors: {SETS[name].title}")
                continue
            self.describe(SETS[name].title)
            arguments = (name, str(rounds), str(seconds), quick)
            done = "".join(json.dumps(sample) + "\n" for sample in self.samples)
            with self.apart() if SETS[name].apart else nullcontext():
                for line in self.in_container("/bench/in_container/run.py", *arguments, stdin=done):
                    self.keep(line)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """The first half of the processors for the sites and their load, the others for PgBouncer and PostgreSQL."""
        bench = self.stack.container("bench")
        others = set(self.stack.compose("ps", "--quiet").stdout.split()) - {bench}
        half = self.processors // 2
        pin(0, half - 1, bench)
        pin(half, self.processors - 1, *others)
        try:
            yield
        finally:
            pin(0, self.processors - 1, bench, *others)

    @cached_property
    def processors(self) -> int:
        """That containers can be bound to; 1 if they cannot."""
        number = int(subprocess.check_output(["docker", "info", "--format", "{{.NCPU}}"]))
        try:
            pin(0, number - 1, self.stack.container("bench"))
        except subprocess.CalledProcessError as error:
            self.progress.console.print(f"No processors apart: {error.stderr.strip()}")
            return 1
        return number

    def micro(self) -> None:
        if any(not counted(sample) for sample in self.samples):
            return
        self.describe("Single steps")
        password = self.stack.secret("monitor_password")
        # Not in the log, nor in anybody's list of processes.
        self.stack.psql("primary", f"SET scram_iterations = 1; ALTER ROLE monitor PASSWORD '{password}'")
        lines = list(self.in_container("/bench/in_container/micro.py", str(4 * self.options.rounds)))
        for sample in memory(self.stack):
            lines.append(json.dumps(sample))
        for line in lines:
            self.keep(line)

    def crowd(self) -> None:
        """As generated, max_connections = 100: only the primary's is lowered, since a replica's must not be below it."""
        done = {(one["round"], one["host"], one["clients"]) for one in self.samples if one["set"] == "crowd"}
        settings = self.stack.project / "postgres" / "postgresql.conf"
        settings.write_text(settings.read_text().replace(f"max_connections = {SESSIONS}", "max_connections = 100"))
        self.describe("A crowd")
        self.stack.compose("restart", "--no-deps", "primary")
        # PostgreSQL alone has all of its slots for itself: no pooler keeps any.
        self.stack.compose("stop", *POOLERS)
        for host in ("primary", "pgbouncer-crowd"):
            self.stack.up(host)
            assert self.stack.psql("primary", "SHOW max_connections") == "100"
            for number, clients in product(range(min(CROWD_ROUNDS, self.options.rounds)), CROWDS):
                if (number, host, clients) in done:
                    continue
                self.describe(f"{clients:,} clients of {host}")
                for line in self.in_container("/bench/in_container/crowd.py", host, str(clients)):
                    self.keep(json.dumps({"set": "crowd", "round": number, "host": host} | json.loads(line)))


def pin(first: int, last: int, *containers: str) -> None:
    command = ["docker", "update", f"--cpuset-cpus={first}-{last}", *containers]
    subprocess.run(command, check=True, capture_output=True, text=True)


def cell(sample: dict[str, Any]) -> tuple[str, int, str, int]:
    return sample["set"], sample["round"], sample["work"], sample["clients"]


def counted(sample: dict[str, Any]) -> bool:
    """Whether it is one of those that take their time."""
    return sample["set"] not in ("micro", "memory")


def turns(options: argparse.Namespace) -> int:
    """How many such samples a whole run gives."""
    sets = sum(len(list(SETS[name].turns(options.rounds, quick=options.quick))) for name in options.sets)
    return sets + (2 * len(CROWDS) * min(CROWD_ROUNDS, options.rounds) if options.whole else 0)


def code() -> str:
    """Changes with whatever decides what is measured, and how: these files, and the project's."""
    of = {".py", ".lua", ".ini", ".yaml", ".sh", ".sql", ".conf", ".txt", ""}
    files = {path for root in (HERE, PROJECT) for path in root.rglob("*") if path.is_file() and path.suffix in of}
    files -= {HERE / "report.py", *(PROJECT / "tests").iterdir()}
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(files))).hexdigest()[:12]


def machine(stack: Stack, options: argparse.Namespace) -> str:
    """The first line of the samples: what they hang on. Those of another run are not mixed with these."""
    versions = stack.compose("exec", "-T", "bench", "python", "-c", "import sys, django, psycopg, gunicorn; print("
                             "sys.version.split()[0], django.__version__, psycopg.__version__, gunicorn.__version__)")  # fmt: skip
    names = ("python", "django", "psycopg", "gunicorn")
    return json.dumps(
        dict(zip(names, versions.stdout.split(), strict=True))
        | {
            "postgresql": stack.psql("primary", "SHOW server_version").split()[0],
            "pgbouncer": stack.pgbouncer("SHOW VERSION")[0]["version"].split()[-1],
            "cores": os.cpu_count(),
            "code": code(),
            "rounds": options.rounds,
            "seconds": options.seconds,
        }
    )


@contextmanager
def running(directory: Path) -> Iterator[Stack]:
    os.environ |= {"COMPOSE_FILE": f"compose.yaml:{HERE / 'compose.yaml'}", "BENCH": str(HERE)}
    stack = Stack(directory, slug=DATABASE, replicas="1")
    edit_env(stack.project, LOG_LEVEL="ERROR")
    # What a run that was killed has left has other passwords.
    stack.down()
    try:
        yield stack
    finally:
        stack.down()


def main() -> None:
    # SIGTERM as Ctrl-C, and Ctrl-C also where a shell's background job began with it ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pooling", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=1, help="of a turn")
    parser.add_argument(
        "--quick", action="store_true", help="one round of the most important; printed, nothing is kept"
    )
    parser.add_argument(
        "--sets", nargs="+", choices=list(SETS), metavar="SET", help=f"of {', '.join(SETS)}; printed only"
    )
    options = parser.parse_args()
    options.rounds = 1 if options.quick else options.rounds
    options.whole = options.sets is None
    if options.whole:
        options.sets = list(QUICK if options.quick else SETS)
    columns = (
        TextColumn("{task.description:<38.38}"), BarColumn(12), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as scratch,
        Progress(*columns, console=Console(stderr=True)) as progress,
        running(Path(scratch)) as stack,
    ):
        samples = PART if options.whole and not options.quick else Path(scratch) / "pooling.jsonl"
        samples.parent.mkdir(exist_ok=True)
        bench = Bench(stack, options, progress, samples)
        bench.describe("starting containers")
        bench.start()
        head = machine(stack, options)
        if not samples.exists():
            samples.write_text(head + "\n")
        elif samples.read_text().splitlines()[0] != head:
            sys.exit(f"{samples} is of another run: {samples.read_text().splitlines()[0]}\nthis is: {head}\nRemove it.")
        bench.forget_halves()
        progress.update(bench.task, total=turns(options), completed=sum(map(counted, bench.samples)))
        bench.sets(options.sets)
        if options.whole:
            bench.micro()
            bench.crowd()
        text = samples.read_text()
    if options.whole and not options.quick:
        report.write(text, RESULTS, HERE / "README.md")
        PART.unlink()
    else:
        print(report.markdown(report.Results(text)))


try:
    main()
except KeyboardInterrupt:
    sys.exit("Stopped. `make bench` goes on where this was; the quick one keeps nothing.")
