"""Django's own tests through a generated project's databases, held against plain Django in the same place."""

import json
import secrets
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Any

from tests.stack.stack import Stack

HERE = Path(__file__).parent
# Django's version, and the Python on which a generated project installs it.
PYTHONS = {"6.1": "3.14", "5.2": "3.11"}

PLAIN = "plain"
ENGINES = {
    "persistent": {"CONNECTION_STRATEGY": "persistent", "WEB_WORKER": "gthread"},
    "pool": {"CONNECTION_STRATEGY": "pool", "WEB_WORKER": "gthread"},
    "geventpool": {"CONNECTION_STRATEGY": "pool", "WEB_WORKER": "gevent"},
    "per-request": {"CONNECTION_STRATEGY": "per-request", "WEB_WORKER": "gthread"},
}
# A site that reaches a node without PgBouncer behaves as in session mode.
WAYS = {
    "transaction": {"POOL_MODE": "transaction", "DB_HOST": "pgbouncer"},
    "session": {"POOL_MODE": "session", "DB_HOST": "pgbouncer"},
    "direct": {"POOL_MODE": "session", "DB_HOST": "primary"},
}
STATEMENTS = {"": {"PREPARED_STATEMENTS": "off"}, "-prepared": {"PREPARED_STATEMENTS": "on"}}
CONFIGURATIONS = {
    f"{engine}-{way}{prepared}": ENGINES[engine] | WAYS[way] | STATEMENTS[prepared]
    for engine, way, prepared in product(ENGINES, WAYS, STATEMENTS)
}
DEFAULTS = ["persistent-transaction-prepared", "pool-transaction", "geventpool-transaction", "persistent-session"]

Outcomes = dict[str, str]


class Suite:
    """A primary and PgBouncer of a generated project, and Django's tests beside them."""

    def __init__(self, directory: Path, django: str, output: Path) -> None:
        self.django = django
        self.output = output
        self.stack = Stack(directory, slug=f"django_suite_{secrets.token_hex(3)}", replicas="0")
        dockerfile = self.stack.project / "Dockerfile"
        dockerfile.write_text(dockerfile.read_text().replace("python:3.14-", f"python:{PYTHONS[django]}-"))
        conf = self.stack.project / "postgres" / "postgresql.conf"
        # These rows need not outlive a crash.
        conf.write_text(conf.read_text() + "\nfsync = off\n")
        with (self.stack.project / ".env").open("a") as env:
            env.write(f"COMPOSE_FILE=compose.yaml:{HERE / 'compose.yaml'}\nSUITE={HERE}\n")

    def start(self) -> None:
        self.stack.up("primary", "pgbouncer", "suite")
        installed = self.stack.compose("exec", "-T", "suite", "python", "-m", "django", "--version").stdout.strip()
        assert installed.startswith(f"{self.django}."), f"the lock installs Django {installed} on this Python"
        # Django's tests create databases and extensions.
        self.stack.psql("primary", "ALTER ROLE app SUPERUSER")

    def run(self, name: str, labels: list[str]) -> Outcomes:
        """What came of each test through this configuration, or through plain Django."""
        environment = CONFIGURATIONS.get(name, {"DB_HOST": "primary"})
        if environment["DB_HOST"] == "pgbouncer" and environment["POOL_MODE"] != self.stack.env("POOL_MODE"):
            self.stack.edit_env(POOL_MODE=environment["POOL_MODE"])
            self.stack.up("--no-deps", "pgbouncer")
        given = [part for item in environment.items() for part in ("--env", "=".join(item))]
        run = ["docker", "compose", "exec", "-T", *given, "suite", "python", "/suite/in_container/run.py", name]
        kept = self.output / f"{self.django}-{name}.json"
        kept.parent.mkdir(parents=True, exist_ok=True)
        with kept.with_suffix(".log").open("w") as log:
            subprocess.run([*run, *labels], cwd=self.stack.project, stdout=log, stderr=subprocess.STDOUT)
        written = self.stack.compose("exec", "-T", "suite", "cat", f"/tmp/{name}.json", check=False)
        if written.returncode:
            end = "\n".join(Path(log.name).read_text().splitlines()[-30:])
            raise RuntimeError(f"Django's tests did not come to their end ({name}). The end of {log.name}:\n{end}")
        kept.write_text(written.stdout)
        if environment["DB_HOST"] == "pgbouncer":
            self.assert_pooled(f"test_{name.replace('-', '_')}_default", environment["POOL_MODE"])
        outcomes: Outcomes = json.loads(written.stdout)
        return outcomes

    def assert_pooled(self, database: str, mode: str) -> None:
        """The tests have used their database through PgBouncer, in this mode."""
        modes = [row["pool_mode"] for row in self.stack.pgbouncer("SHOW POOLS") if row["database"] == database]
        queries = [row for row in self.stack.pgbouncer("SHOW STATS") if row["database"] == database]
        assert modes == [mode], modes
        assert int(queries[0]["total_query_count"]) > 100, queries


@contextmanager
def running(django: str, output: Path) -> Iterator[Suite]:
    """:param output: where outcomes and logs are left"""
    with tempfile.TemporaryDirectory() as directory:
        suite = Suite(Path(directory), django, output)
        try:
            suite.start()
            yield suite
        finally:
            suite.stack.down()


def expected_differences(django: str, name: str) -> list[dict[str, Any]]:
    """The entries of expected.toml that are about this configuration."""
    entries = tomllib.loads((HERE / "expected.toml").read_text())["difference"]
    return [entry for entry in entries if any(fnmatchcase(f"{django}/{name}", where) for where in entry["where"])]


def differences(plain: Outcomes, found: Outcomes) -> dict[str, tuple[str, str]]:
    """The tests of which something else came: with both outcomes. Two failures are the same, whatever they say, and what is
    left out (in_container/run.py says what) is not compared.
    """

    def kind(outcome: str) -> str:
        return outcome.split(":")[0]

    every = {test: (plain.get(test, "not run"), found.get(test, "not run")) for test in plain.keys() | found.keys()}
    return {
        test: both
        for test, both in sorted(every.items())
        if kind(both[0]) != kind(both[1]) and kind(both[1]) != "left out"
    }


def complaints(plain: Outcomes, found: Outcomes, expected: list[dict[str, Any]], *, whole: bool = False) -> list[str]:
    """What is different and not expected, and what is expected and not different (any more).

    :param whole: all tests were run, so that each expected difference must be there; otherwise those of tests that were
    """
    different = differences(plain, found)
    patterns = [(pattern, entry["outcome"]) for entry in expected for pattern in entry["tests"]]
    unexpected = [
        f"{test}: {was} in plain Django, here {now}"
        for test, (was, now) in different.items()
        if not any(fnmatchcase(test, pattern) and now.startswith(outcome) for pattern, outcome in patterns)
    ]
    missing = [
        f"{pattern}: expected.toml says {outcome!r}, but no such test is different from plain Django"
        for pattern, outcome in patterns
        if (whole or any(fnmatchcase(test, pattern) for test in plain))
        and not any(fnmatchcase(test, pattern) and now.startswith(outcome) for test, (_, now) in different.items())
    ]
    return unexpected + missing
