"""One set: in each round starts its sites and asks them in turn. Prints a line of JSON for each turn.

usage: run.py SET ROUNDS SECONDS QUICK < the turns that are done already, lines of JSON
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from plan import SETS, Set, Site, relays

HERE = Path(__file__).resolve().parent
FIRST_PORT = 8000
# The project's own gunicorn settings, but for the access log, and the 512 clients that some sets have. So many requests at
# once are served by gevent and asgi only, and each pool has four connections.
ENVIRONMENT = {"DJANGO_SETTINGS_MODULE": "site_settings", "LOG_LEVEL": "ERROR", "WEB_CONNECTIONS": "1000"}


@contextmanager
def process(*command: str | Path, **env: str) -> Iterator["subprocess.Popen[bytes]"]:
    """In a group of its own, which ends with the block. What it says is kept, to be told if it dies."""
    log = open(f"/tmp/{time.monotonic_ns()}.log", "w+b")  # noqa: SIM115
    running = subprocess.Popen(
        command, env=os.environ | ENVIRONMENT | env, stdout=log, stderr=log, start_new_session=True
    )
    running.log = log  # type: ignore[attr-defined]
    try:
        yield running
    finally:
        with suppress(ProcessLookupError):  # it has died, and whoever waits for it tells why
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        log.close()


def gunicorn(site: Site, port: int) -> Any:
    command = ["gunicorn", "--config", "config/gunicorn.conf.py", "--bind", f"127.0.0.1:{port}"]
    if site.env["SITE"] == "bare":
        command.append("bare:application")
    return process(*command, **site.env)


def path(work: str) -> str:
    return "articles/bench-0/" if work == "page" else work


def method(work: str) -> str:
    return "POST" if work == "write" else "GET"


def wait_for(site: Site, port: int, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urlopen(
                Request(f"http://127.0.0.1:{port}/{path(site.works[0])}", method=method(site.works[0])), timeout=10
            ):
                return
        except (URLError, OSError) as error:
            if server.poll() is not None or time.monotonic() > deadline:
                server.log.seek(0)  # type: ignore[attr-defined]
                said = server.log.read().decode()[-3000:]  # type: ignore[attr-defined]
                sys.exit(f"{said}\n{site.name} does not answer: {error}")
            time.sleep(0.2)


def busy() -> tuple[int, int]:
    """Ticks of all processors since the start: not idle, and all."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def wait_until_quiet() -> None:
    """So that nobody pays for what the one before has left in its queue: at most 10 s."""
    deadline = time.monotonic() + 10
    share = 1.0
    while share > 0.2 and time.monotonic() < deadline:
        before = busy()
        time.sleep(0.1)
        after = busy()
        share = (after[0] - before[0]) / max(1, after[1] - before[1])


def ask(port: int, work: str, clients: int, seconds: int) -> dict[str, Any]:
    command = ["wrk", "--threads", "1", "--connections", str(clients), "--duration", f"{seconds}s", "--timeout", "10s"]
    command += ["--latency", "--script", str(HERE / "wrk.lua"), f"http://127.0.0.1:{port}/{path(work)}"]
    done = subprocess.run(
        command, env=os.environ | {"METHOD": method(work)}, capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextmanager
def running(plan: Set) -> Iterator[dict[str, int]]:
    """:returns: the port of each site"""
    with ExitStack() as stack:
        for rtt in (1, 5):
            if any(f"127.0.0.1:60{rtt}" in site.env["DATABASE_URL"] for site in plan.sites):
                stack.enter_context(process(sys.executable, HERE / "relay.py", str(rtt), *relayed(rtt)))
        ports = {site.name: FIRST_PORT + number for number, site in enumerate(plan.sites)}
        servers = {site.name: stack.enter_context(gunicorn(site, ports[site.name])) for site in plan.sites}
        for site in plan.sites:
            wait_for(site, ports[site.name], servers[site.name])
        # Both processes, all threads: the first request of each opens a connection, and imports.
        with ThreadPoolExecutor(len(plan.sites)) as clients:
            seconds = 1 + len(plan.sites) // 8
            list(clients.map(lambda site: ask(ports[site.name], site.works[0], 16, seconds), plan.sites))
        yield ports


def run(plan: Set, rounds: int, seconds: int, quick: bool, done: set[tuple[Any, ...]]) -> None:
    turns = plan.turns(rounds, quick=quick)
    todo = [turn for turn in turns if (turn.round, turn.one, turn.site.name, turn.work, turn.clients) not in done]
    # Each round has processes of its own: two of the same site may differ by a tenth, as long as they live.
    for number, of_round in groupby(todo, key=lambda turn: turn.round):
        with running(plan) as ports:
            for turn in of_round:
                wait_until_quiet()
                about = {"set": plan.name, "round": number, "pass": turn.one, "site": turn.site.name}
                asked = {"work": turn.work, "clients": turn.clients}
                answers = ask(ports[turn.site.name], turn.work, turn.clients, seconds * turn.length)
                print(json.dumps(about | asked | answers), flush=True)


def relayed(rtt: int) -> list[str]:
    """relay.py's arguments."""
    return [f"{port}={host}" for port, host in relays(rtt).items()]


if __name__ == "__main__":
    name, rounds, seconds, quick = sys.argv[1:]
    samples = [one for one in map(json.loads, sys.stdin) if one["set"] == name]
    known = {(one["round"], one["pass"], one["site"], one["work"], one["clients"]) for one in samples}
    run(SETS[name], int(rounds), int(seconds), quick == "quick", known)
