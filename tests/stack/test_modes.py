"""What a pool mode breaks, tried through the real PgBouncer; docs/pooling.md tells the same, and what to do instead."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stack.stack import Stack

GUIDE = Path(__file__).parent.parent.parent / "docs" / "pooling.md"
SCRIPT = (Path(__file__).parent / "in_container" / "breakages.py").read_text()
WORKS = {
    "begin": 1,
    "set_for_the_session": "30s",
    "set_local": ["4321s", "30s"],
    "advisory_lock": False,
    "advisory_xact_lock": False,
    "listen": 1,
    "temporary_table": 0,
    "temporary_table_in_a_transaction": 0,
    "sql_prepare": 42,
    "protocol_prepare": 90,
    "cursor_with_hold": 1,
    "django_iterator": True,
    "one_more_than_servers": 1,
    "a_test_database": "no such database: test_site",
}
# Where docs/pooling.md tells of it.
ROWS = {
    "begin": "`BEGIN`: `atomic()`",
    "set_for_the_session": "`SET statement_timeout = …`",
    "set_local": "`SET LOCAL` in `atomic()`",
    "advisory_lock": "`pg_advisory_lock`",
    "advisory_xact_lock": "`pg_advisory_xact_lock`",
    "listen": "`LISTEN`",
    "temporary_table": "a temporary table",
    "temporary_table_in_a_transaction": "one with `ON COMMIT DROP` in `atomic()`",
    "sql_prepare": "`PREPARE` as SQL",
    "protocol_prepare": "the protocol's prepared statements",
    "cursor_with_hold": "a cursor `WITH HOLD` (`.iterator()` of Django's by default)",
    "django_iterator": "`.iterator()` in this project",
    "one_more_than_servers": "a client more than servers, the others idle",
    "a_test_database": "creating a test database",
}
# mode: (alias, what is different there)
DIFFERENT = {
    "session": ("default", {"one_more_than_servers": "query_wait_timeout"}),
    "transaction": (
        "default",
        {
            # It has become another client's, too.
            "set_for_the_session": "4321s",
            # Both have it.
            "advisory_lock": True,
            "listen": 0,
            "temporary_table": 'relation "kept" does not exist',
            "sql_prepare": 'prepared statement "answer" does not exist',
            "cursor_with_hold": 'cursor "held" does not exist',
        },
    ),
    # Of replicas only, where there is no LISTEN and no temporary table.
    "statement": (
        "replica",
        {
            "begin": "transaction blocks not allowed in statement pooling mode",
            "set_for_the_session": "4321s",
            "set_local": "transaction blocks not allowed in statement pooling mode",
            "advisory_lock": True,
            "advisory_xact_lock": "transaction blocks not allowed in statement pooling mode",
            "listen": "cannot execute LISTEN during recovery",
            "temporary_table": "cannot execute CREATE TABLE in a read-only transaction",
            "temporary_table_in_a_transaction": "transaction blocks not allowed in statement pooling mode",
            "sql_prepare": 'prepared statement "answer" does not exist',
            "cursor_with_hold": 'cursor "held" does not exist',
        },
    ),
}


def attempts(stack: Stack, alias: str) -> dict[str, Any]:
    shell = ["python", "manage.py", "shell", "--verbosity", "0", "-c", SCRIPT]
    done = stack.compose("run", "--rm", "--no-deps", "-T", "--env", f"ALIAS={alias}", "web", *shell)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def stack(default_stack: Stack) -> Iterator[Stack]:
    stack = default_stack
    assert "permission denied to create temporary tables" in attempts(stack, "default")["temporary_table"]
    # What docs/pooling.md advises.
    stack.psql("primary", f"GRANT TEMPORARY ON DATABASE {stack.slug} TO app")
    yield stack
    stack.psql("primary", f"REVOKE TEMPORARY ON DATABASE {stack.slug} FROM app")
    stack.edit_env(POOL_MODE="transaction")
    stack.up()


def told(mode: str) -> dict[str, str]:
    """What the guide's table says of each attempt."""
    table = [
        [cell.strip() for cell in line.split(" | ")] for line in GUIDE.read_text().splitlines() if line[:2] == "| "
    ]
    column = 1 + list(DIFFERENT).index(mode)
    cells = {row[0].removeprefix("| "): row[column] for row in table if len(row) > column}
    return {attempt: cells[row] for attempt, row in ROWS.items()}


def as_told(attempt: str, outcome: Any) -> str:
    """How the guide's cell for it must begin."""
    if isinstance(outcome, str) and (" " in outcome or "_" in outcome):
        return f"`{outcome}`"
    # Wrong, and no error.
    return "works" if outcome == WORKS[attempt] else "**"


@pytest.mark.parametrize("mode", DIFFERENT)
def test_what_works_and_what_does_not(stack: Stack, mode: str) -> None:
    alias, different = DIFFERENT[mode]
    stack.edit_env(POOL_MODE=mode)
    stack.up()
    # Another client would take the server that was used last.
    stack.compose("stop", "web")
    # A client of the primary that finds no server waits 30 s for one. The outcome after 2 s is the same.
    stack.exec(
        "pgbouncer", "sed", "-i", "s/query_wait_timeout=30/query_wait_timeout=2/", "/run/pgbouncer/databases.ini"
    )
    stack.exec("pgbouncer", "psql", "-X", "-h", "/run/pgbouncer", "-U", "pgbouncer", "-d", "pgbouncer", "-c", "RELOAD")
    found = attempts(stack, alias)
    assert found == WORKS | different
    wrong = {one: cell for one, cell in told(mode).items() if not cell.startswith(as_told(one, found[one]))}
    assert wrong == {}
