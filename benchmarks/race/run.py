"""The race itself, in the generated project's environment: the stack, then each round's routers one after another.

usage: run.py SAMPLES ROUNDS SECONDS PYTHON     SAMPLES: the file to which each phase adds a line of JSON; SECONDS: of a phase;
                                                PYTHON: one that has requests, for the visitors

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
from pathlib import Path

import django
import psutil
from ops.devstack import BASE_DIR, Devstack, DevstackError, free_port, stop

HERE = Path(__file__).resolve().parent
ROUTERS = ("naive", "multidb", "replicated", "dbrouting")
READERS = 4
# Milliseconds by which the two replicas are behind in the phase `lagging`.
LAG = {"replica-1": 150, "replica-2": 400}
ENV = os.environ | {"PYTHONPATH": os.pathsep.join((os.environ["PYTHONPATH"], str(HERE / "in_project")))}


class Stack(Devstack):
    """The devstack, and what the race does to its nodes."""

    def psql(self, *statements: str, node: str = "primary", database: str | None = None) -> str:
        """On a replica: again, if replay has cancelled it."""
        while True:
            try:
                return super().psql(*statements, node=node, database=database)
            except DevstackError as error:
                if "conflict with recovery" not in str(error):
                    raise

    def postmaster(self, node: str) -> psutil.Process:
        return psutil.Process(int((Path(self.node_env(node)["PGDATA"]) / "postmaster.pid").read_text().split()[0]))

    def clean(self) -> None:
        """The same rows for each router, and on each node."""
        delete = "DELETE FROM articles_comment WHERE author_name = 'race'"
        self.psql(delete, "VACUUM articles_comment", "CHECKPOINT")
        self.catch_up()

    def catch_up(self) -> None:
        position = self.psql("SELECT pg_current_wal_flush_lsn()")
        for node in self.nodes[1:]:
            while self.psql(f"SELECT pg_last_wal_replay_lsn() >= '{position}'", node=node) != "t":
                time.sleep(0.05)

    def lag(self, milliseconds: dict[str, int]) -> None:
        for node in self.nodes[1:]:
            delay = milliseconds.get(node, 0)
            self.psql(f"ALTER SYSTEM SET recovery_min_apply_delay = {delay}", "SELECT pg_reload_conf()", node=node)

    def stop_and_start(self, node: str) -> None:
        """As a restart of its container: fast shutdown, then the same entrypoint."""
        postmaster = self.postmaster(node)
        postmaster.send_signal(signal.SIGINT)
        postmaster.wait(30)
        time.sleep(1)
        self.start_node(node)

    def freeze(self, node: str, seconds: float) -> None:
        """All its processes, as when its machine hangs: what is connected gets no answer, and no error either."""
        postmaster = self.postmaster(node)
        # The parent first: then there is nobody to start another, nor to bury one that ends.
        postmaster.suspend()
        family = [postmaster, *postmaster.children()]
        try:
            for member in family:
                member.suspend()
            time.sleep(seconds)
        finally:
            for member in reversed(family):
                member.resume()


def cpu_seconds(parents: list[psutil.Process]) -> float:
    """What these processes, their children, and the children that have ended have used until now."""
    used = 0.0
    for parent in parents:
        for member in (parent, *parent.children()):
            with suppress(psutil.NoSuchProcess):
                times = member.cpu_times()
                used += times.user + times.system + times.children_user + times.children_system
    return used


@contextmanager
def process(*command: str | Path, **arguments: object) -> "Iterator[subprocess.Popen[str]]":
    started = subprocess.Popen(command, start_new_session=True, text=True, **arguments)  # type: ignore[call-overload]
    try:
        yield started
    finally:
        stop(started)


def python(*arguments: str | Path, **extra: str) -> str:
    """What a program in the project says."""
    command, env = [sys.executable, *arguments], ENV | extra
    return subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout


def wait_for_site(url: str) -> None:
    for _ in range(600):
        with suppress(OSError):
            return urllib.request.urlopen(f"{url}/livez", timeout=5).close()
        time.sleep(0.1)
    sys.exit("the site did not start")


def turn(
    router: str, number: int, stack: Stack, visitors: list[str | Path], scratch: Path, seconds: float
) -> Iterator[dict[str, object]]:
    """Of one router in a round: all phases, in one life of the site and of its visitors.

    :param visitors: load.py's Python, and what it is told besides the site and the round
    """
    cpu: dict[str, float] = {}
    chosen = {"DJANGO_SETTINGS_MODULE": "race_settings", "RACE_ROUTER": router}

    def phase(name: str) -> None:
        print(name, file=load.stdin, flush=True)

    def measure(name: str) -> None:
        """With the processor time of site and databases. Unlike pages per second, it does not tell who else was working."""
        all_of_it = [psutil.Process(server.pid), *map(stack.postmaster, stack.nodes)]
        phase(name)
        before = cpu_seconds(all_of_it)
        time.sleep(seconds)
        cpu[name] = cpu_seconds(all_of_it) - before
        phase("-")

    yield {"phase": "alone", **json.loads(python(HERE / "in_project/costs.py", **chosen))}
    stack.clean()
    bind = f"127.0.0.1:{free_port()}"
    gunicorn = (sys.executable, "-m", "gunicorn", "--config", "config/gunicorn.conf.py", "race_wsgi:application")
    with ExitStack() as running:
        log = running.enter_context((scratch / f"site-{number}-{router}.log").open("w"))
        site = process(*gunicorn, env=ENV | chosen | {"WEB_BIND": bind}, stdout=log, stderr=log)
        server = running.enter_context(site)
        wait_for_site(f"http://{bind}")
        program = (visitors[0], HERE / "load.py", f"http://{bind}", str(number), *visitors[1:])
        load = running.enter_context(process(*program, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        load.stdout.readline()
        time.sleep(0.3 * seconds)
        measure("healthy")
        stack.lag(LAG)
        time.sleep(0.5)
        measure("lagging")
        stack.lag({})
        stack.catch_up()
        phase("faults")
        first, second = stack.nodes[1:]
        between = seconds / 5
        time.sleep(between)
        stack.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'", node=first)
        time.sleep(between)
        stack.stop_and_start(second)
        time.sleep(between)
        stack.freeze(first, 4 * between)
        time.sleep(2 * between)
        phase("-")
        output, _ = load.communicate()
        assert load.returncode == 0, "the visitors have failed"
    for sample in map(json.loads, output.splitlines()):
        unexpected = [name for name in sample if name.startswith("unexpected")]
        assert not unexpected, f"{router}: answers that nobody expects: {sample}"
        if (used := cpu.get(sample["phase"])) is not None:
            sample["cpu_ms"] = round(used * 1000)
        yield sample
    stack.catch_up()


def main() -> None:
    samples, rounds, seconds, python_of_load = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    scratch = samples.parent
    # Leaving the blocks stops what they started.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    choices = dict(line.split("=", 1) for line in Path(".env").read_text().splitlines() if line[:1].isupper())
    with (
        Stack(scratch / "data", choices, secrets=BASE_DIR / "secrets", pooler=False) as stack,
        samples.open("w") as output,
    ):

        def write(**sample: object) -> None:
            print(json.dumps(sample), file=output, flush=True)

        ENV.update(stack.urls() | {"STATIC_ROOT": str(scratch / "static"), "LOG_LEVEL": "ERROR"})
        python("manage.py", "collectstatic", "--noinput", "--verbosity=0")
        python("manage.py", "migrate", "--noinput", "--verbosity=0")
        python("manage.py", "seed_articles", "--articles=200", "--comments=2000", "--verbosity=0")
        slugs = stack.psql("SELECT slug FROM articles_article WHERE published_at IS NOT NULL").split()
        articles = scratch / "articles"
        articles.write_text("\n".join(f"/articles/{slug}/" for slug in slugs))
        # With no replica in sight, so that nothing made here is missing a moment later.
        alone = {"REPLICAS": "0", "DJANGO_SETTINGS_MODULE": "race_settings", "RACE_ROUTER": "dbrouting"}
        sessions = python(HERE / "in_project/prepare.py", str(READERS), **alone).split()
        versions = {"django": django.get_version(), "postgresql": stack.psql("SHOW server_version")}
        write(cores=os.cpu_count(), python=platform.python_version(), **versions, rounds=rounds)
        visitors = [python_of_load, articles, *sessions]
        for number in range(1, rounds + 1):
            # Who comes first changes from round to round.
            shift = (number - 1) % len(ROUTERS)
            for router in (*ROUTERS[shift:], *ROUTERS[:shift]):
                print(f"round {number} of {rounds}: {router}", flush=True)
                for sample in turn(router, number, stack, visitors, scratch, seconds):
                    write(round=number, router=router, **sample)


main()
