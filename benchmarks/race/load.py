"""The visitors: closed loops, each asks for a page, thinks, and asks for the next. A process of its own.

usage: load.py SITE SEED ARTICLES SESSION…     ARTICLES: their paths in a file; SESSION: keys of those who are logged in

It says so when each has had an answer. Then each line of standard input begins a phase of that name; "-" is not measured,
the end of the input ends all, and a line of JSON is printed for each phase. A request belongs to the phase in which it began.
"""

import json
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from math import nan
from pathlib import Path
from random import Random

import requests

ANONYMOUS, WRITERS, NEWCOMERS = 6, 4, 2
# Seconds between an answer and the next request, evenly distributed.
THINK = (0.02, 0.08)
# Seconds after which a visitor goes away.
PATIENCE = 10.0
ADMIN = "/admin/"
COUNTED = ("failed", "logged_in_views", "logged_out", "own_reads", "reads_primary", "reads_replicas", "stale")
SITE, SEED, ARTICLES, *SESSIONS = sys.argv[1:]
PATHS = Path(ARTICLES).read_text().split()
# What all visitors share; None ends them.
phase: str | None = "-"


class Visitor(threading.Thread):
    def __init__(self, visit: "Callable[[Visitor], None]", number: int) -> None:
        super().__init__(daemon=True)
        self.visit, self.number = visit, number
        self.random = Random(f"{SEED} {visit.__name__} {number}")
        # Of each phase; the waiting is in milliseconds, whatever the answer was.
        self.counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.waits: defaultdict[str, list[float]] = defaultdict(list)
        self.browser = requests.Session()
        # A kept connection would stay with one of gunicorn's processes, and a round depend on how they fell.
        self.browser.headers["Connection"] = "close"

    def run(self) -> None:
        while phase is not None:
            self.visit(self)

    def think(self) -> None:
        time.sleep(self.random.uniform(*THINK))

    def count(self, what: str, number: int = 1) -> None:
        """In the phase in which the last request began."""
        self.counts[self.asked_in][what] += number

    def ask(self, path: str, form: dict[str, str] | None = None) -> requests.Response | None:
        """The answer, redirects not followed; None if there was none, or one that says the site has failed."""
        self.asked_in = phase or "-"
        if form is not None:
            form = {**form, "csrfmiddlewaretoken": self.browser.cookies.get("csrftoken", "")}
        begun = time.perf_counter()
        try:
            answer = self.browser.request(
                "POST" if form else "GET", SITE + path, data=form, allow_redirects=False, timeout=PATIENCE
            )
        except requests.RequestException as error:
            answer = None
            self.count(type(error).__name__)
        self.waits[self.asked_in].append((time.perf_counter() - begun) * 1000)
        if answer is None or answer.status_code >= 500:
            self.count("failed")
            return None
        # Anything else would mean that this program is wrong.
        if answer.status_code not in (200, 302):
            self.count(f"unexpected {answer.status_code}")
        for node, reads in zip(("primary", "replicas"), answer.headers["Race-Reads"].split(), strict=True):
            self.count(f"reads_{node}", int(reads))
        return answer

    def is_logged_in(self) -> bool | None:
        """Asks for a page that requires it; None if that failed."""
        if (answer := self.ask(ADMIN)) is None:
            return None
        self.count("logged_in_views")
        self.count("logged_out", answer.status_code == 302)
        return answer.status_code == 200


def anonymous_reader(visitor: Visitor) -> None:
    visitor.ask("/" if visitor.random.random() < 0.3 else visitor.random.choice(PATHS))
    visitor.think()


def logged_in_reader(visitor: Visitor) -> None:
    """Has logged in long ago: no router remembers that."""
    # A site that logs somebody out deletes the cookie. Put back, so that each time is counted once.
    visitor.browser.cookies.set("sessionid", SESSIONS[visitor.number])
    visitor.is_logged_in()
    visitor.think()
    visitor.ask(visitor.random.choice(PATHS))
    visitor.think()


def writer(visitor: Visitor) -> None:
    """Comments, follows the redirect, and looks at the page once more."""
    path = visitor.random.choice(PATHS)
    # For the form's token.
    visitor.ask(path)
    visitor.think()
    comment = f"said-{visitor.random.getrandbits(64):x}"
    posted = visitor.ask(path, {"author_name": "race", "body": comment})
    if posted is not None and posted.status_code == 302:
        for _ in range(2):
            if (page := visitor.ask(path)) is not None:
                visitor.count("own_reads")
                visitor.count("stale", comment not in page.text)
            visitor.think()
    elif posted is not None:
        visitor.count("unexpected answer to a comment")
    visitor.think()


def newcomer(visitor: Visitor) -> None:
    """Logs in, is redirected to the page, and looks at it once more. Then somebody else comes."""
    visitor.browser.cookies.clear()
    visitor.ask("/admin/login/")
    visitor.think()
    person = {"username": f"visitor-{visitor.number}", "password": "race", "next": ADMIN}
    entered = visitor.ask("/admin/login/", person)
    if entered is not None and entered.status_code != 302:
        visitor.count("unexpected answer to a login")
    elif entered is not None and visitor.is_logged_in():
        visitor.think()
        visitor.is_logged_in()
    visitor.think()


def summary(name: str, seconds: float, visitors: list[Visitor]) -> dict[str, float | str]:
    # Those that are zero, too.
    counts = Counter(dict.fromkeys(COUNTED, 0))
    for visitor in visitors:
        counts.update(visitor.counts[name])
    waits = sorted(wait for visitor in visitors for wait in visitor.waits[name])
    p99 = round(waits[int(len(waits) * 0.99)], 2) if waits else nan
    about = {"phase": name, "seconds": round(seconds, 3), "requests": len(waits), "p99_ms": p99}
    return about | dict(sorted(counts.items()))


def main() -> None:
    global phase
    kinds = {anonymous_reader: ANONYMOUS, logged_in_reader: len(SESSIONS), writer: WRITERS, newcomer: NEWCOMERS}
    visitors = [Visitor(visit, number) for visit, number_of in kinds.items() for number in range(number_of)]
    for visitor in visitors:
        visitor.start()
    while not all(visitor.waits for visitor in visitors):
        time.sleep(0.05)
    print("everybody has had an answer", flush=True)
    begun, seconds = time.monotonic(), Counter[str]()
    # Not `for line in sys.stdin`, which would read ahead.
    for line in iter(sys.stdin.readline, ""):
        seconds[phase or "-"] += time.monotonic() - begun
        begun, phase = time.monotonic(), line.strip()
    seconds[phase or "-"] += time.monotonic() - begun
    phase = None
    for visitor in visitors:
        visitor.join(2 * PATIENCE)
    for name in (name for name in seconds if name != "-"):
        print(json.dumps(summary(name, seconds[name], visitors)))


main()
