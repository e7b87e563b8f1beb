"""What a pool mode breaks, tried through the real PgBouncer; docs/pooling.md tells the same, and what to do instead."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stack.stack import Stack

GUIDE = Path(__file__).parent.parent.parent / "docs" / "pooling.md"
SCRIPT = (Path(__file__).parent / "breakages.py").read_text()
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
}
# mode: (alias, what is different there)
DIFFERENT = {
    "session": ("default", {}),
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
def stack(make_stack: Callable) -> Iterator[Stack]:
    with make_stack() as stack:
        stack.up()
        stack.an_article()
        assert "permission denied to create temporary tables" in attempts(stack, "default")["temporary_table"]
        # As docs/pooling.md says for who needs them.
        stack.psql("primary", f"GRANT TEMPORARY ON DATABASE {stack.slug} TO app")
        yield stack


@pytest.mark.parametrize("mode", DIFFERENT)
def test_what_works_and_what_does_not(stack: Stack, mode: str) -> None:
    alias, different = DIFFERENT[mode]
    stack.edit_env(POOL_MODE=mode)
    stack.compose("up", "--detach", "--wait")
    # Whoever else asks would take the server that was used last.
    stack.compose("stop", "web")
    assert attempts(stack, alias) == WORKS | different
    told = GUIDE.read_text()
    assert [
        error for error in different.values() if isinstance(error, str) and " " in error and error not in told
    ] == []
