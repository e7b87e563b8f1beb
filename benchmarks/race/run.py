"""The race itself, in the generated project's environment: the stack, then each round's routers one after another.

usage: run.py SAMPLES ROUNDS QUICK     SAMPLES: the file to which each phase adds a line of JSON; QUICK: 0 or 1

What else it writes, data and logs, is beside SAMPLES.
"""

import json
import os
import platform
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import django
import psutil
from ops.devstack import BASE_DIR, Devstack, DevstackError, free_port, stop

HERE = Path(__file__).resolve().parent
ROUTERS = ("naive", "multidb", "replicated", "dbrouting")
READERS = 4
# Milliseconds by which the two replicas are behind in the phase `lagging`.
LAG = {"replica-1": 150, "replica-2": 400}
PYTHON = sys.executable


@dataclass(frozen=True)
class Durations:
    """Seconds. What a phase's faults take besides is the nodes' own time."""

    warm_up: float = 1.5
    healthy: float = 5.0
    lagging: float = 6.0
    frozen: float = 4.0
    # Before, between and after the faults.
    between: float = 1.0


QUICK = Durations(1.5, 4.0, 4.0, 4.0, 1.0)


class Stack:
    """The devstack, and what the race does to its nodes."""

    def __init__(self, stack: Devstack) -> None:
        self.stack = stack
        self.replicas = stack.nodes[1:]

    def psql(self, node: str, *statements: str) -> str:
        """On a replica: again, if replay has cancelled it."""
        while True:
            try:
                return self.stack.psql(*statements, node=node)
            except DevstackError as error:
                if "conflict with recovery" not in str(error):
                    raise

    def postmaster(self, node: str) -> int:
        return int((Path(self.stack.node_env(node)["PGDATA"]) / "postmaster.pid").read_text().split()[0])

    def clean(self) -> None:
        """The same rows for each router, and on each node."""
        delete = "DELETE FROM articles_comment WHERE author_name = 'race'"
        self.stack.psql(delete, "VACUUM articles_comment", "CHECKPOINT")
        self.catch_up()

    def catch_up(self) -> None:
        position = self.stack.psql("SELECT pg_current_wal_flush_lsn()")
        for node in self.replicas:
            while self.psql(node, f"SELECT pg_last_wal_replay_lsn() >= '{position}'") != "t":
                time.sleep(0.05)

    def lag(self, milliseconds: dict[str, int]) -> None:
        for node in self.replicas:
            delay = milliseconds.get(node, 0)
            self.psql(node, f"ALTER SYSTEM SET recovery_min_apply_delay = {delay}", "SELECT pg_reload_conf()")

    def kill_backends(self, node: str) -> None:
        self.psql(node, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")

    def stop_and_start(self, node: str, pause: float) -> None:
        """As a restart of its container: fast shutdown, then the same entrypoint."""
        pid = self.postmaster(node)
        os.kill(pid, signal.SIGINT)
        while (Path(self.stack.node_env(node)["PGDATA"]) / "postmaster.pid").exists():
            time.sleep(0.05)
        time.sleep(pause)
        self.stack.start_node(node)

    def freeze(self, node: str, seconds: float) -> None:
        """All its processes, as when its machine hangs: what is connected gets no answer, and no error either."""
        postmaster = psutil.Process(self.postmaster(node))
        # The parent first: then there is nobody to start another.
        postmaster.suspend()
        family = [postmaster, *postmaster.children()]
        try:
            for member in family:
                with suppress(psutil.NoSuchProcess):
                    member.suspend()
            time.sleep(seconds)
        finally:
            for member in family:
                with suppress(psutil.NoSuchProcess):
                    member.resume()


def cpu_seconds(parents: list[int]) -> float:
    """What these processes, their children, and the children that have ended have used until now."""
    used = 0.0
    for parent in map(psutil.Process, parents):
        for member in (parent, *parent.children()):
            with suppress(psutil.NoSuchProcess):
                times = member.cpu_times()
                used += times.user + times.system + times.children_user + times.children_system
    return used


@dataclass
class Progress:
    """One line: what runs, and about how long it all still takes."""

    slots: int
    begun: float = field(default_factory=time.monotonic)
    done: int = 0
    # Seconds; a guess until the first slot is over.
    slot: float = 32.0

    def show(self, text: str) -> None:
        left = max(0.0, self.begun + self.slots * self.slot - time.monotonic())
        line = f"{text:<40} about {int(left // 60)}:{int(left % 60):02} left"
        print(f"\r\033[K{line}" if sys.stdout.isatty() else line, end="" if sys.stdout.isatty() else "\n", flush=True)

    def slot_is_over(self) -> None:
        self.done += 1
        self.slot = (time.monotonic() - self.begun) / self.done


@contextmanager
def process(command: list[str], **arguments: object) -> "Iterator[subprocess.Popen[str]]":
    started = subprocess.Popen(command, start_new_session=True, text=True, **arguments)  # type: ignore[call-overload]
    try:
        yield started
    finally:
        # Alone at first: a gunicorn worker that gets SIGINT from here and SIGQUIT from its master can block for ever.
        started.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            started.wait(10)
        stop(started)


def wait_for_site(url: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            return urllib.request.urlopen(f"{url}/livez", timeout=5).close()
        except OSError:
            assert time.monotonic() < deadline, "the site did not start"
            time.sleep(0.1)


def slot(
    router: str, number: int, stack: Stack, sessions: list[str], scratch: Path, env: dict[str, str],
    durations: Durations, progress: Progress,
) -> Iterator[dict[str, object]]:  # fmt: skip
    """One router's turn in a round: all phases, in one life of the site and of its visitors."""

    cpu: dict[str, float] = {}

    def phase(name: str) -> None:
        assert load.stdin
        print(name, file=load.stdin, flush=True)
        progress.show(f"round {number}, {router}: {name.replace('-', 'settling')}")

    @contextmanager
    def measured(name: str) -> Iterator[None]:
        """The processor time of site and databases. Unlike pages per second, it does not tell who else was working."""
        all_of_it = [server.pid, *map(stack.postmaster, stack.stack.nodes)]
        before = cpu_seconds(all_of_it)
        yield
        cpu[name] = cpu_seconds(all_of_it) - before

    env = {**env, "DJANGO_SETTINGS_MODULE": "race_settings", "RACE_ROUTER": router}
    stack.clean()
    progress.show(f"round {number}, {router}: decisions")
    decided = subprocess.run(
        [PYTHON, HERE / "in_project/decide.py"], env=env, stdout=subprocess.PIPE, text=True, check=True
    )
    yield {"phase": "decision", "microseconds": round(float(decided.stdout), 3)}

    port = free_port()
    url = f"http://127.0.0.1:{port}"
    gunicorn = [PYTHON, "-m", "gunicorn", "--config", "config/gunicorn.conf.py", "race_wsgi:application"]
    visitors = [PYTHON, str(HERE / "load.py"), url, str(number), str(scratch / "articles"), *sessions]
    with ExitStack() as running:
        log = running.enter_context((scratch / f"site-{number}-{router}.log").open("w"))
        server = running.enter_context(
            process(gunicorn, env=env | {"WEB_BIND": f"127.0.0.1:{port}"}, stdout=log, stderr=log)
        )
        wait_for_site(url)
        load = running.enter_context(process(visitors, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        time.sleep(durations.warm_up)
        phase("healthy")
        with measured("healthy"):
            time.sleep(durations.healthy)
        phase("-")
        stack.lag(LAG)
        time.sleep(0.5)
        phase("lagging")
        with measured("lagging"):
            time.sleep(durations.lagging)
        phase("-")
        stack.lag({})
        stack.catch_up()
        phase("faults")
        first, second = stack.replicas
        time.sleep(durations.between)
        stack.kill_backends(first)
        time.sleep(durations.between)
        stack.stop_and_start(second, pause=1.0)
        time.sleep(durations.between)
        stack.freeze(first, durations.frozen)
        time.sleep(2 * durations.between)
        phase("-")
        output, _ = load.communicate()
        assert load.returncode == 0, "the visitors have failed"
    for line in output.splitlines():
        sample = json.loads(line)
        assert not any(name.startswith("unexpected") for name in sample), (
            f"{router}: answers that nobody expects: {sample}"
        )
        if (used := cpu.get(sample["phase"])) is not None:
            sample["cpu_ms"] = round(used * 1000)
        yield sample
    stack.catch_up()


def main() -> None:
    samples, rounds, quick = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "1"
    durations, scratch = QUICK if quick else Durations(), samples.parent
    # Leaving the blocks stops what they started.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    choices = dict(line.split("=", 1) for line in Path(".env").read_text().splitlines() if line[:1].isupper())
    with (
        Devstack(scratch / "data", choices, secrets=BASE_DIR / "secrets", pooler=False) as devstack,
        samples.open("w") as output,
    ):
        stack = Stack(devstack)

        def manage(*arguments: str, **extra: str) -> str:
            command = [PYTHON, "manage.py", *arguments]
            return subprocess.run(command, env=env | extra, stdout=subprocess.PIPE, text=True, check=True).stdout

        def write(sample: dict[str, object]) -> None:
            print(json.dumps(sample), file=output, flush=True)

        env = os.environ | devstack.urls() | {"STATIC_ROOT": str(scratch / "static"), "LOG_LEVEL": "ERROR"}
        env["PYTHONPATH"] = os.pathsep.join((str(BASE_DIR), str(HERE / "in_project")))
        manage("collectstatic", "--noinput", "--verbosity=0")
        direct = {"DATABASE_DIRECT_URL": devstack.url("primary", "owner")}
        manage("migrate", "--noinput", "--database=direct", "--verbosity=0", **direct)
        manage("seed_articles", "--articles=200", "--comments=2000", "--verbosity=0")
        slugs = devstack.psql("SELECT slug FROM articles_article WHERE published_at IS NOT NULL").split()
        (scratch / "articles").write_text("\n".join(f"/articles/{slug}/" for slug in slugs))
        # With no replica in sight, so that nothing made here is missing a moment later.
        alone = {"REPLICAS": "0", "DJANGO_SETTINGS_MODULE": "race_settings", "RACE_ROUTER": "dbrouting"}
        prepare = [PYTHON, HERE / "in_project/prepare.py", str(READERS)]
        sessions = subprocess.run(
            prepare, env=env | alone, stdout=subprocess.PIPE, text=True, check=True
        ).stdout.split()

        write(
            {
                "cores": os.cpu_count(),
                "python": platform.python_version(),
                "django": django.get_version(),
                "postgresql": devstack.psql("SHOW server_version"),
                "rounds": rounds,
                "lag_ms": list(LAG.values()),
            }
        )
        progress = Progress(rounds * len(ROUTERS))
        for number in range(1, rounds + 1):
            # Who comes first changes from round to round.
            shift = (number - 1) % len(ROUTERS)
            for router in (*ROUTERS[shift:], *ROUTERS[:shift]):
                for sample in slot(router, number, stack, sessions, scratch, env, durations, progress):
                    write({"round": number, "router": router, **sample})
                progress.slot_is_over()
        progress.show("done")
        print()


if __name__ == "__main__":
    main()
