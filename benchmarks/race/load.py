"""The visitors: closed loops, each asks for a page, thinks, and asks for the next. A process of its own.

usage: load.py SITE SEED ARTICLES SESSION…     ARTICLES: their slugs in a file; SESSION: keys of those who are logged in

Each line of standard input begins a phase of that name; "-" is not measured, the end of the input ends all. Then a line
of JSON is printed for each phase. A request belongs to the phase in which it began.
"""

import json
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
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


@dataclass
class Tally:
    """What one visitor met in one phase."""

    counts: Counter[str] = field(default_factory=Counter)
    # Milliseconds until the answer, whatever it was.
    waits: list[float] = field(default_factory=list)


class Race:
    """What all visitors share: where they go, and which phase it is."""

    def __init__(self, site: str, slugs: list[str]) -> None:
        self.site = site
        self.slugs = slugs
        self.phase: str | None = "-"


class Visitor(threading.Thread):
    def __init__(self, race: Race, seed: str) -> None:
        super().__init__(daemon=True)
        self.race = race
        self.random = Random(seed)
        self.tallies: dict[str, Tally] = {}
        self.browser = requests.Session()
        # A kept connection would stay with one of gunicorn's processes, and a round depend on how they fell.
        self.browser.headers["Connection"] = "close"

    def run(self) -> None:
        while self.race.phase is not None:
            self.visit()

    def visit(self) -> None:
        raise NotImplementedError

    @property
    def tally(self) -> Tally:
        return self.tallies.setdefault(self.race.phase or "-", Tally())

    def think(self) -> None:
        time.sleep(self.random.uniform(*THINK))

    def ask(self, path: str, form: dict[str, str] | None = None) -> requests.Response | None:
        """The answer, redirects not followed; None if there was none, or one that says the site has failed."""
        tally = self.tally
        if form is not None:
            form = {**form, "csrfmiddlewaretoken": self.browser.cookies.get("csrftoken", "")}
        begun = time.perf_counter()
        try:
            answer = self.browser.request(
                "POST" if form else "GET", self.race.site + path, data=form, allow_redirects=False, timeout=PATIENCE
            )
        except requests.RequestException as error:
            answer = None
            tally.counts[type(error).__name__] += 1
        tally.waits.append((time.perf_counter() - begun) * 1000)
        if answer is None or answer.status_code >= 500:
            tally.counts["failed"] += 1
            return None
        # Anything else would mean that this program is wrong.
        if answer.status_code not in (200, 302):
            tally.counts[f"unexpected {answer.status_code}"] += 1
        primary, replicas = map(int, answer.headers["Race-Reads"].split())
        tally.counts["reads_primary"] += primary
        tally.counts["reads_replicas"] += replicas
        return answer

    def is_logged_in(self) -> bool | None:
        """Asks for a page that requires it; None if that failed."""
        tally, answer = self.tally, self.ask(ADMIN)
        if answer is None:
            return None
        tally.counts["logged_in_views"] += 1
        tally.counts["logged_out"] += answer.status_code == 302
        return answer.status_code == 200


class AnonymousReader(Visitor):
    def visit(self) -> None:
        self.ask("/" if self.random.random() < 0.3 else self.random.choice(self.race.slugs))
        self.think()


class LoggedInReader(Visitor):
    """Has logged in long ago: no router remembers that."""

    def __init__(self, race: Race, seed: str, session: str) -> None:
        super().__init__(race, seed)
        self.session = session

    def visit(self) -> None:
        # A site that logs somebody out deletes the cookie. Put back, so that each time is counted once.
        self.browser.cookies.set("sessionid", self.session)
        self.is_logged_in()
        self.think()
        self.ask(self.random.choice(self.race.slugs))
        self.think()


class Writer(Visitor):
    """Comments, follows the redirect, and looks at the page once more."""

    def visit(self) -> None:
        path = self.random.choice(self.race.slugs)
        # For the form's token.
        self.ask(path)
        self.think()
        comment = f"said-{self.random.getrandbits(64):x}"
        posted = self.ask(path, {"author_name": "race", "body": comment})
        if posted is not None and posted.status_code == 302:
            for _ in range(2):
                tally, page = self.tally, self.ask(path)
                if page is not None:
                    tally.counts["own_reads"] += 1
                    tally.counts["stale"] += comment not in page.text
                self.think()
        elif posted is not None:
            self.tally.counts["unexpected answer to a comment"] += 1
        self.think()


class Newcomer(Visitor):
    """Logs in, is redirected to the page, and looks at it once more. Then somebody else comes."""

    def __init__(self, race: Race, seed: str, person: str) -> None:
        super().__init__(race, seed)
        self.person = person

    def visit(self) -> None:
        self.browser.cookies.clear()
        self.ask("/admin/login/")
        self.think()
        entered = self.ask("/admin/login/", {"username": self.person, "password": "race", "next": ADMIN})
        if entered is not None and entered.status_code != 302:
            self.tally.counts["unexpected answer to a login"] += 1
        elif entered is not None and self.is_logged_in():
            self.think()
            self.is_logged_in()
        self.think()


def percentile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def summary(name: str, seconds: float, tallies: list[Tally]) -> dict[str, float | str]:
    # Those that are zero, too.
    counts = Counter(dict.fromkeys(COUNTED, 0))
    for tally in tallies:
        counts.update(tally.counts)
    waits = sorted(wait for tally in tallies for wait in tally.waits)
    times = {f"p{percent}_ms": round(percentile(waits, percent / 100), 2) for percent in (50, 99)}
    return {
        "phase": name, "seconds": round(seconds, 3), "requests": len(waits), **times, "max_ms": round(waits[-1], 2),
        **dict(sorted(counts.items())),
    }  # fmt: skip


def main() -> None:
    site, seed, articles, *sessions = sys.argv[1:]
    race = Race(site, Path(articles).read_text().split())
    visitors: list[Visitor] = [
        *(AnonymousReader(race, f"{seed} anonymous {number}") for number in range(ANONYMOUS)),
        *(LoggedInReader(race, f"{seed} reader {number}", session) for number, session in enumerate(sessions)),
        *(Writer(race, f"{seed} writer {number}") for number in range(WRITERS)),
        *(Newcomer(race, f"{seed} newcomer {number}", f"visitor-{number}") for number in range(NEWCOMERS)),
    ]
    begun, seconds = time.monotonic(), Counter[str | None]()
    for visitor in visitors:
        visitor.start()
    # Not `for line in sys.stdin`, which would read ahead.
    for line in iter(sys.stdin.readline, ""):
        seconds[race.phase] += time.monotonic() - begun
        begun, race.phase = time.monotonic(), line.strip()
    seconds[race.phase] += time.monotonic() - begun
    race.phase = None
    for visitor in visitors:
        visitor.join(2 * PATIENCE)
    for name in (phase for phase in seconds if phase not in ("-", None)):
        print(json.dumps(summary(name, seconds[name], [v.tallies[name] for v in visitors if name in v.tallies])))


main()
