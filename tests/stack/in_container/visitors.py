"""Visitors who check what they are shown. Runs in the web container, by `manage.py shell`.

Each visitor has a row that nobody else writes, and reads it again and again, with a row that another thread counts up all
the time. Each keeps its cookies and goes through the middleware, as a browser does. Prints one JSON object at the end.

They leave when the file LEAVE appears, and after PATIENCE seconds at the latest. Environment: VISITORS, their number; SEED;
REMOVED, a guarantee to take out, to show that this program notices: then they leave at the first wrong read.
"""

import json
import os
import random
import threading
import time
from collections import Counter
from http.cookies import SimpleCookie
from pathlib import Path

from articles.models import Article
from dbrouting import consistency_context, routers, tokens
from dbrouting.middleware import ConsistencyMiddleware
from dbrouting.monitor import Replica, monitor
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse

LEAVE = Path("/tmp/visitors-leave")
# Seconds.
PATIENCE = 300.0


class NeverInAtomicBlock:
    """Of the connections, as the router sees them."""

    in_atomic_block = False

    def __class_getitem__(cls, alias):
        return cls


def remove(guarantee):
    """By its name; all others stay."""
    if guarantee == "token":
        tokens.SessionToken.satisfied_by = lambda self, replica: True
    elif guarantee == "incarnation":
        Replica.holds = lambda self, proof: True
    elif guarantee == "page":
        tokens.normalised = lambda lsn, page, segment: lsn
    elif guarantee == "atomic":
        routers.connections = NeverInAtomicBlock


class Visitor(threading.Thread):
    def __init__(self, number, seed, over):
        super().__init__()
        self.dice = random.Random(f"{seed}-{number}")
        self.over = over
        self.slug = f"visitor-{number}"
        self.version = 0
        self.seen = 0
        self.cookies = {}
        self.counts = Counter()
        self.wrong = []
        self.longest = 0.0

    def run(self):
        actions = [self.read] * 7 + [self.write, self.write_by_hand, self.write_in_a_transaction]
        while not self.over.is_set():
            # The first is a write: the promise is about rows that the visitor itself has written.
            action = self.dice.choice(actions) if self.version else self.write
            started = time.monotonic()
            try:
                self.request("GET" if action == self.read else self.dice.choice(["GET", "POST"]), action)
            except Exception as error:
                self.counts["failed"] += 1
                self.wrong.append(f"{self.slug} failed in {action.__name__}: {type(error).__name__}: {error}"[:300])
            self.longest = max(self.longest, time.monotonic() - started)
            for connection in connections.all(initialized_only=True):
                connection.close_if_unusable_or_obsolete()
            time.sleep(self.dice.choice([0, 0, 0.001, 0.02, 0.3]))
        connections.close_all()

    def request(self, method, action):
        def view(request):
            action()
            return HttpResponse()

        request = HttpRequest()
        request.method, request.COOKIES = method, dict(self.cookies)
        response = ConsistencyMiddleware(view)(request)
        for name, morsel in SimpleCookie(response.cookies.output(header="")).items() if response.cookies else ():
            if morsel["max-age"] == "0":
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = morsel.value

    def read(self):
        for _ in range(self.dice.randint(1, 4)):
            self.check(self.slug, self.version, exactly=True)
            self.seen = self.check("counter", self.seen)

    def check(self, slug, least, exactly=False):
        found = Article.objects.get(slug=slug)
        version = int(found.title)
        self.counts[found._state.db] += 1
        if version < least and not exactly and found._state.db == "default" and self.comes(slug, least):
            self.counts["replica_was_first"] += 1
        elif version < least or (exactly and version != least):
            self.counts["wrong"] += 1
            self.wrong.append(f"{self.slug} read {version} of {slug} on {found._state.db}, had seen {least}")
        return version

    def comes(self, slug, least, patience=10.0):
        """The primary shows it a moment later. A commit is in the WAL before others see it on the primary, so a quick
        replica may show it first.
        """
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if int(Article.objects.using("default").get(slug=slug).title) >= least:
                return True
        return False

    def write(self):
        self.version += 1
        Article.objects.filter(slug=self.slug).update(title=self.version)
        if self.dice.random() < 0.5:
            self.read()

    def write_by_hand(self):
        """Asking no router."""
        self.version += 1
        with connections["default"].cursor() as cursor:
            cursor.execute("UPDATE articles_article SET title = %s WHERE slug = %s", [str(self.version), self.slug])

    def write_in_a_transaction(self):
        """With a task that is run at once, in a context of its own: it has to see what is not committed yet."""
        with transaction.atomic():
            self.write()
            with consistency_context():
                self.check(self.slug, self.version, exactly=True)


def count_up(over):
    while not over.is_set():
        Article.objects.filter(slug="counter").update(title=int(Article.objects.get(slug="counter").title) + 1)
        time.sleep(0.005)
    connections.close_all()


def reached_at_a_page_boundary(patience):
    """A replica gets to a token that was taken where a record has just filled its page, with nothing after it."""
    with connections["default"].cursor() as cursor:
        for _ in range(500):
            cursor.execute("SELECT pg_current_wal_insert_lsn() - '0/0'")
            used = int(cursor.fetchone()[0]) % 8192
            if used == 24:
                break
            size = max(1, 8192 - used - 56)
            cursor.execute("SELECT pg_logical_emit_message(false, '', repeat('x', %s), true)", [size])
        else:
            raise AssertionError("no record ended with its page")
    token = tokens.primary_token()
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        proofs = [monitor.replica(alias).proof() for alias in monitor._replicas]
        if any(proof and token.satisfied_by(proof) for proof in proofs):
            return True
        time.sleep(0.01)
    return False


def main(number, seed, removed):
    remove(removed)
    LEAVE.unlink(missing_ok=True)
    over = threading.Event()
    visitors = [Visitor(each, seed, over) for each in range(number)]
    Article.objects.filter(slug__startswith="visitor-").delete()
    for slug in ["counter", *(visitor.slug for visitor in visitors)]:
        Article.objects.update_or_create(slug=slug, defaults={"title": "0", "body": "", "author_name": "torture"})
    connections.close_all()
    threads = [threading.Thread(target=count_up, args=[over]), *visitors]
    for thread in threads:
        thread.start()
    print("started", flush=True)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and not LEAVE.exists():
        if removed and any(visitor.counts["wrong"] for visitor in visitors):
            break
        time.sleep(0.1)
    over.set()
    for thread in threads:
        thread.join()
    counts = sum((visitor.counts for visitor in visitors), Counter())
    wrong = [line for visitor in visitors for line in visitor.wrong]
    # Quiet now: nobody writes, so a replica that is not there stays behind. (PostgreSQL itself writes every 15 s or so.)
    for _ in range(6):
        if not reached_at_a_page_boundary(patience=3.0 if removed else 10.0):
            counts["unreached"] += 1
            wrong.append("no replica reached a token taken at a page boundary")
    result = {
        "reads": sum(count for name, count in counts.items() if name in connections),
        "on_replicas": sum(count for name, count in counts.items() if name.startswith("replica")),
        "wrong": counts["wrong"],
        "replica_was_first": counts["replica_was_first"],
        "failed": counts["failed"],
        "unreached": counts["unreached"],
        "longest": round(max(visitor.longest for visitor in visitors), 3),
        "examples": wrong[:5],
        "decisions": dict(monitor.counts),
    }
    print(json.dumps(result))


main(int(os.environ["VISITORS"]), os.environ["SEED"], removed=os.environ.get("REMOVED", ""))
