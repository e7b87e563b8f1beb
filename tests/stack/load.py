"""Clients that ask for pages all the time, and count what fails."""

import random
import re
import threading
import time
from dataclasses import dataclass, field

import requests

from tests.stack.stack import Stack
from tests.waiting import eventually

CLIENTS = 16


@dataclass
class Load:
    """Clients in threads, each with its own pages in random order; every twentieth request writes."""

    stack: Stack
    requests: int = 0
    from_replica: int = 0
    failures: list[str] = field(default_factory=list)
    # Seconds.
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
        client = requests.Session()
        # gunicorn closes a connection that was idle for 2 s; a request just then would fail for no fault of ours.
        client.headers["Connection"] = "close"
        while not self.over:
            page = random.choice(["/", "/from-replica/", "/most-discussed/", *articles])
            started = time.monotonic()
            try:
                answer = client.get(self.stack.url(page), timeout=60)
                if page in articles and random.random() < 0.1:
                    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', answer.text)
                    form = {"csrfmiddlewaretoken": token and token[1], "author_name": "load", "body": "x"}
                    answer = client.post(self.stack.url(page), form, timeout=60)
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
        """By what the footer says."""
        footer = page[page.rindex("<footer") :]
        return "database replica" in footer and "database primary" not in footer

    def serves_again(self, since: float) -> float:
        """Seconds from `since` until a replica has answered a page by itself."""
        eventually(lambda: self.last_from_replica > since, patience=180)
        return self.last_from_replica - since

    def asks(self, number: int) -> None:
        """Waits until so many more requests are answered."""
        before = self.requests
        eventually(lambda: self.requests >= before + number)
