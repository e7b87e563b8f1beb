"""In the generated project's environment: the stack without Docker, then visitors in threads of this process."""

import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from timeit import repeat
from typing import Any

from ops.devstack import BASE_DIR, Devstack

SESSIONS = 40
SECONDS = float(os.environ.get("SHARE_SECONDS", "15"))
# What a visitor thinks between two pages, in seconds; a writer writes with every fifth.
THINKING = (0.2, 1.5)


def asked(stack: Devstack, node: str) -> Counter[str]:
    """Statements that the site has sent to this node, and how often, since the last reset."""
    rows = stack.psql(
        "SELECT calls || ' ' || regexp_replace(query, '\\s+', ' ', 'g') FROM pg_stat_statements"
        " WHERE userid = 'app'::regrole",
        node=node,
    )
    counts: Counter[str] = Counter()
    for row in filter(None, rows.splitlines()):
        calls, query = row.split(" ", 1)
        kind = "sample" if "pg_postmaster_start_time" in query else "position" if "pg_size_bytes" in query else "site"
        counts[kind] += int(calls)
    return counts


def main() -> None:
    choices = dict(line.split("=", 1) for line in Path(".env").read_text().splitlines() if line[:1].isupper())
    with (
        tempfile.TemporaryDirectory(prefix="share-data-") as data,
        Devstack(Path(data) / "nodes", choices, secrets=BASE_DIR / "secrets", pooler=False) as stack,
    ):
        os.chmod(data, 0o755)
        os.environ.update(stack.urls() | {"STATIC_ROOT": f"{data}/static", "LOG_LEVEL": "ERROR"})
        manage = [sys.executable, "manage.py"]
        subprocess.run([*manage, "collectstatic", "--noinput", "--verbosity=0"], check=True)
        direct = os.environ | {"DATABASE_DIRECT_URL": stack.url("primary", "owner")}
        subprocess.run([*manage, "migrate", "--database=direct", "--verbosity=0"], env=direct, check=True)
        subprocess.run([*manage, "seed_articles", "--articles=100", "--comments=500", "--verbosity=0"], check=True)
        os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
        import django

        django.setup()
        measure(stack)


def measure(stack: Devstack) -> None:
    from django.contrib.auth.models import User
    from django.db import connections

    users = [User.objects.create_user(f"reader-{number}", password="x", is_staff=True) for number in range(SESSIONS)]
    connections.close_all()
    costs(stack, users[0])
    print("\n| visitors | writing | healthy | 100 ms behind |\n| --- | ---: | ---: | ---: |")
    for known in (False, True):
        for writing in (0.0, 0.05, 0.2):
            shares = []
            for lag in (0, 100):
                for node in stack.nodes[1:]:
                    stack.psql(
                        f"ALTER SYSTEM SET recovery_min_apply_delay = {lag}", "SELECT pg_reload_conf()", node=node
                    )
                shares.append(share(users if known else [None] * SESSIONS, writing))
            kind = "logged in" if known else "anonymous"
            print(f"| {kind} | {writing:.0%} | {shares[0]:.1%} | {shares[1]:.1%} |", flush=True)


def share(users: list[Any], writing: float) -> float:
    """Of all reads that the router was asked about, the part that a replica served."""
    from dbrouting.monitor import monitor

    time.sleep(1)
    over = threading.Event()
    threads = [
        threading.Thread(target=visit, args=[user, number < writing * SESSIONS, over])
        for number, user in enumerate(users)
    ]
    for thread in threads:
        thread.start()
    # Everybody has logged in, and thought about it.
    time.sleep(3)
    before = Counter(monitor.counts)
    time.sleep(SECONDS)
    counts = Counter(monitor.counts) - before
    over.set()
    for thread in threads:
        thread.join()
    return counts["replica"] / counts.total()


def visit(user: Any, writes: bool, over: threading.Event) -> None:
    from django.db import connections
    from django.test import Client

    client = Client(SERVER_NAME="localhost")
    try:
        if user is not None:
            client.force_login(user)
        pages = re.findall(r'href="(/articles/[^"]+/)"', client.get("/").text)
        number = 0
        while not over.wait(random.uniform(*THINKING)):
            number += 1
            page = random.choice(pages)
            if writes and number % 5 == 0:
                client.post(page, {"author_name": "writer", "body": "x"})
            # Logged in, that is looked up for each page.
            client.get("/admin/password_change/" if user and number % 3 == 0 else page)
    finally:
        connections.close_all()


def costs(stack: Devstack, user: Any) -> None:
    from articles.models import Article
    from dbrouting import consistency_context
    from dbrouting.middleware import ConsistencyMiddleware
    from dbrouting.routers import ReadWriteRouter
    from django.db import connections
    from django.http import HttpRequest, HttpResponse
    from django.test import Client

    def microseconds(call: Any, number: int = 20_000) -> str:
        times = sorted(time / number * 1e6 for time in repeat(call, number=number, repeat=7))
        return f"{times[3]:.2f} µs ({times[0]:.2f} to {times[-1]:.2f})"

    print("| what | cost |\n| --- | ---: |")
    router, client = ReadWriteRouter(), Client(SERVER_NAME="localhost")
    client.force_login(user)
    time.sleep(2)
    with consistency_context():
        for _ in range(100):
            if router.db_for_read(Article).startswith("replica"):
                break
            time.sleep(0.1)
        time.sleep(0.5)
        print(
            f"| a decision, in a request that has its replica | {microseconds(lambda: router.db_for_read(Article))} |"
        )

    def first() -> None:
        with consistency_context():
            router.db_for_read(Article)

    print(f"| a context and its first decision | {microseconds(first)} |")
    list(Article.objects.using("replica")[:1])
    replica = connections["replica"]
    cursor = replica.cursor()
    around = {"connection": replica, "cursor": cursor}
    nothing = lambda *statement: None  # noqa: E731
    print(
        f"| what is around a read on a replica | {microseconds(lambda: replica._read(nothing, '', None, False, around))} |"
    )
    client.get("/")
    for name, cookies in (("no token", {}), ("a token", {key: morsel.value for key, morsel in client.cookies.items()})):
        request = HttpRequest()
        request.method, request.COOKIES = "GET", cookies
        middleware = ConsistencyMiddleware(lambda request: HttpResponse())
        print(
            f"| the middleware, for a visitor with {name} | {microseconds(lambda m=middleware, r=request: m(r), 2000)} |"
        )

    page = Article.objects.published()[0].get_absolute_url()

    def statements(action: Any, times: int = 100) -> str:
        action()
        time.sleep(1)
        stack.psql("SELECT pg_stat_statements_reset()")
        for _ in range(times):
            assert action().status_code in (200, 302)
        counts = asked(stack, "primary")
        return f"{counts['site'] / times:.2f} + {counts['position'] / times:.2f} for the token"

    client.get(page)
    time.sleep(1)
    client.get(page)
    print(
        f"| statements on the primary, a page for someone logged in who reads | {statements(lambda: client.get(page))} |"
    )
    post = lambda: client.post(page, {"author_name": "a", "body": "b"})  # noqa: E731
    print(f"| the same, a request that writes a comment | {statements(post)} |")
    before = {node: asked(stack, node)["sample"] for node in stack.nodes}
    time.sleep(10)
    rates = [f"{(asked(stack, node)['sample'] - before[node]) / 10:.1f}" for node in stack.nodes]
    print(f"| samples a second and process, on each node | {', '.join(rates)} |")
    connections.close_all()


main()
