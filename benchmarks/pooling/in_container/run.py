"""One set: in each round starts its sites and asks them in turn. Prints a line of JSON for each turn.

usage: run.py SET ROUNDS SECONDS [SITE…]     SITE: only these, and without waiting until the machine is quiet
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from plan import SETS, Set, Site, relays

HERE = Path(__file__).resolve().parent
FIRST_PORT = 8000
PATHS = {"page": "articles/bench-0/"}
METHODS = {"write": "POST"}
# The project's own gunicorn settings, but for the access log, and the 512 clients that some sets have. So many requests at
# once are served by gevent and asgi only, and each pool has four connections.
ENVIRONMENT = {"DJANGO_SETTINGS_MODULE": "site_settings", "LOG_LEVEL": "ERROR", "WEB_CONNECTIONS": "1000"}


@contextmanager
def process(*command: str | Path, **how: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """In a group of its own, which ends with the block."""
    running = subprocess.Popen(command, start_new_session=True, **how)
    try:
        yield running
    finally:
        # It has not been waited for: even if it has died, this is its group and nobody else's.
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()


@contextmanager
def relay(rtt: int) -> Iterator["subprocess.Popen[bytes]"]:
    ports = [f"{port}={host}" for port, host in relays(rtt).items()]
    with process(sys.executable, HERE / "relay.py", str(rtt), *ports, stdout=subprocess.PIPE) as running:
        assert running.stdout and running.stdout.readline()
        yield running


def gunicorn(site: Site, port: int) -> Any:
    command = ["gunicorn", "--config", "config/gunicorn.conf.py", "--bind", f"127.0.0.1:{port}"]
    if site.env["SITE"] == "bare":
        command.append("bare:application")
    return process(*command, env=os.environ | ENVIRONMENT | site.env, stdout=sys.stderr)


def wait_for(site: Site, port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            return urlopen(f"http://127.0.0.1:{port}/{PATHS.get(site.works[0], site.works[0])}", timeout=10).close()
        except OSError as error:
            if time.monotonic() > deadline:
                sys.exit(f"{site.name} does not answer: {error}")
            time.sleep(0.2)


def wait_until_quiet() -> None:
    """So that nobody pays for what the one before has left in its queue: at most 10 s."""

    def idle() -> float:
        return float(Path("/proc/uptime").read_text().split()[1])

    for _ in range(100):
        before = idle()
        time.sleep(0.1)
        if idle() - before >= 0.08 * (os.cpu_count() or 1):
            return


def ask(port: int, work: str, clients: int, seconds: int) -> dict[str, Any]:
    command = ["wrk", "--threads", "1", "--connections", str(clients), "--duration", f"{seconds}s", "--timeout", "10s"]
    command += ["--latency", "--script", str(HERE / "wrk.lua"), f"http://127.0.0.1:{port}/{PATHS.get(work, work)}"]
    env = os.environ | {"METHOD": METHODS.get(work, "GET")}
    told = subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True).stdout
    found: dict[str, Any] = json.loads(told.splitlines()[-1])
    return found


@contextmanager
def running(sites: tuple[Site, ...]) -> Iterator[dict[str, int]]:
    """:returns: the port of each site"""
    with ExitStack() as stack:
        for rtt in (1, 5):
            if any(f"127.0.0.1:60{rtt}" in site.env["DATABASE_URL"] for site in sites):
                stack.enter_context(relay(rtt))
        ports = {site.name: FIRST_PORT + number for number, site in enumerate(sites)}
        for site in sites:
            stack.enter_context(gunicorn(site, ports[site.name]))
        for site in sites:
            wait_for(site, ports[site.name])
        # Both processes, all threads: the first request of each opens a connection, and imports.
        with ThreadPoolExecutor(len(sites)) as clients:
            list(clients.map(lambda site: ask(ports[site.name], site.works[0], 16, 1 + len(sites) // 8), sites))
        yield ports


def run(plan: Set, rounds: int, seconds: int, patient: bool) -> None:
    # Each round has processes of its own: two of the same site may differ by a tenth, as long as they live.
    for number, of_round in groupby(plan.turns(rounds), key=lambda turn: turn.round):
        with running(plan.sites) as ports:
            for turn in of_round:
                if patient:
                    wait_until_quiet()
                about = {"set": plan.name, "round": number, "site": turn.site.name}
                asked = {"work": turn.work, "clients": turn.clients}
                answers = ask(ports[turn.site.name], turn.work, turn.clients, seconds * turn.length)
                print(json.dumps(about | asked | answers), flush=True)


if __name__ == "__main__":
    name, rounds, seconds, *only = sys.argv[1:]
    plan = SETS[name]
    if only:
        plan = replace(plan, sites=tuple(site for site in plan.sites if site.name in only))
    run(plan, int(rounds), int(seconds), patient=not only)
