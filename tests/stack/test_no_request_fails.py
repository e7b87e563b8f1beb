"""Sixteen clients ask for pages all the time, while the only replica is stopped, killed, frozen, cut off, restarted."""

import os
import random
import re
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests

from tests.stack.stack import Stack

# How often each fault happens. With 20 and an otherwise idle machine it is over 50,000 requests.
FAULTS = int(os.environ.get("FAULTS", "3"))
CLIENTS = 16


@dataclass
class Load:
    """Clients in threads, each with its own pages in random order; every twentieth request writes."""

    stack: Stack
    requests: int = 0
    from_replica: int = 0
    failures: list[str] = field(default_factory=list)
    longest: float = 0.0
    last_from_replica: float = 0.0
    over: bool = False

    def __enter__(self) -> "Load":
        pages = re.findall(r'href="(/articles/[^"]+/)"', self.stack.get("/").text)[:10]
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._client, args=[pages]) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        alive = [thread.is_alive() for thread in self._threads]
        self.over = True
        for thread in self._threads:
            thread.join()
        assert all(alive), "a client has given up: its traceback is above"

    def _client(self, articles: list[str]) -> None:
        site = f"http://127.0.0.1:{self.stack.port}"
        client = requests.Session()
        # gunicorn closes a connection that was idle for 2 s; a request just then would fail for no fault of ours.
        client.headers["Connection"] = "close"
        while not self.over:
            page = random.choice(["/", "/from-replica/", "/most-discussed/", *articles])
            started = time.monotonic()
            try:
                answer = client.get(site + page, timeout=60)
                if page in articles and random.random() < 0.1:
                    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', answer.text)
                    form = {"csrfmiddlewaretoken": token and token[1], "author_name": "load", "body": "x"}
                    answer = client.post(site + page, form, timeout=60)
                failure = "" if answer.status_code == 200 else f"{page}: {answer.status_code}"
            except requests.RequestException as error:
                failure, answer = f"{page}: {error}", None
            ended = time.monotonic()
            with self._lock:
                self.requests += 1
                self.longest = max(self.longest, ended - started)
                if failure:
                    self.failures.append(failure)
                elif answer is not None and self._by_replica(answer.text):
                    self.from_replica += 1
                    self.last_from_replica = ended

    @staticmethod
    def _by_replica(page: str) -> bool:
        """By what the footer says. A read that failed there and was run again on the primary names both."""
        footer = page[page.rindex("<footer") :]
        return "replica" in footer and "default" not in footer

    def serves_again(self, since: float, patience: float = 60.0) -> float:
        """Seconds from `since` until the replica has answered a page."""
        while self.last_from_replica <= since:
            assert time.monotonic() < since + patience, "the replica does not serve again"
            time.sleep(0.01)
        return self.last_from_replica - since


@pytest.fixture(scope="module")
def load(make_stack: Callable) -> Iterator[Load]:
    with make_stack() as stack:
        stack.up()
        stack.an_article()
        with Load(stack) as load:
            load.serves_again(time.monotonic())
            yield load


def docker(*arguments: str) -> None:
    subprocess.run(["docker", *arguments], check=True, capture_output=True)


def stop(stack: Stack, container: str) -> None:
    stack.compose("stop", "replica-1")
    time.sleep(1)
    stack.compose("start", "replica-1")


def kill(stack: Stack, container: str) -> None:
    stack.compose("kill", "replica-1")
    time.sleep(1)
    stack.compose("start", "replica-1")


def kill_a_backend(stack: Stack, container: str) -> None:
    """The whole node goes down with it. Docker waits twice as long before each restart of what ran for less than 10 s."""
    time.sleep(10)
    stack.kill_backend("replica-1")
    time.sleep(1)


def freeze(stack: Stack, container: str) -> None:
    with stack.paused("replica-1"):
        time.sleep(3)


def cut_off(stack: Stack, container: str) -> None:
    docker("network", "disconnect", f"{stack.slug}_database", container)
    time.sleep(3)
    docker("network", "connect", "--alias", "replica-1", f"{stack.slug}_database", container)


def restart(stack: Stack, container: str) -> None:
    stack.compose("restart", "replica-1")


@pytest.mark.parametrize("fault", [stop, kill, kill_a_backend, freeze, cut_off, restart])
def test_no_request_fails(load: Load, fault: Callable[[Stack, str], Any]) -> None:
    before, recoveries, longest = load.requests, [], []
    for _ in range(FAULTS):
        load.longest = 0.0
        fault(load.stack, load.stack.container("replica-1"))
        recoveries.append(load.serves_again(time.monotonic()))
        longest.append(load.longest)
        time.sleep(1)
    print(
        f"{fault.__name__} {FAULTS} times: {load.requests - before} requests, {len(load.failures)} failed; the longest "
        f"took {max(longest):.2f} s (median of the longest {statistics.median(longest):.2f} s); served again after "
        f"{statistics.median(recoveries):.2f} s ({min(recoveries):.2f} to {max(recoveries):.2f} s)"
    )
    assert load.failures == []


def test_there_were_enough(load: Load) -> None:
    print(f"{load.requests} requests, {load.from_replica} of them answered by the replica")
    assert load.failures == []
    assert load.requests >= 500 * FAULTS
