"""The schema changes under load, with prepared statements: a plan that was made for the old one must not be the visitor's
problem.
"""

import time
from collections.abc import Callable, Iterator

import pytest

from tests.stack.stack import Stack, eventually
from tests.stack.test_no_request_fails import Load

MIGRATION = """from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("articles", "{before}")]
    operations = [migrations.{operation}]
"""
# What a deployment does before the code that needs it runs, one after the other.
OPERATIONS = {
    "0002_add": 'AddField("article", "extra", models.CharField(max_length=20, null=True))',
    "0003_add_with_default": 'AddField("comment", "likes", models.IntegerField(db_default=0))',
    "0004_widen": 'AlterField("article", "title", models.CharField(max_length=250))',
    "0005_remove": 'RemoveField("article", "extra")',
}


@pytest.fixture(scope="module")
def stack(make_stack: Callable) -> Iterator[Stack]:
    with make_stack() as stack:
        stack.edit_env(PREPARED_STATEMENTS="on")
        stack.up()
        stack.an_article()
        yield stack


def prepared(stack: Stack) -> int:
    """Statements, by the client of PgBouncer's that has prepared the most."""
    return max(int(row["prepared_statements"]) for row in stack.pgbouncer("SHOW CLIENTS"))


def migrate(stack: Stack, name: str, operation: str, before: str) -> None:
    path = stack.project / "articles" / "migrations" / f"{name}.py"
    path.write_text(MIGRATION.format(before=before, operation=operation))
    path.chmod(0o644)
    mounts = [f"--volume={one}:/app/articles/migrations/{one.name}:ro" for one in path.parent.glob("000[2-9]*.py")]
    stack.compose("run", "--rm", "--no-deps", "-T", *mounts, "migrate")


def test_no_request_fails_while_the_schema_changes(stack: Stack) -> None:
    failed: dict[str, list[str]] = {}
    with Load(stack) as load:
        before = "0001_initial"
        for name, operation in OPERATIONS.items():
            eventually(lambda: prepared(stack) >= 3, patience=60)
            seen, asked = len(load.failures), load.requests
            migrate(stack, name, operation, before)
            time.sleep(5)
            failed[name], before = load.failures[seen:], name
            assert load.requests - asked > 100
    assert failed == {name: [] for name in OPERATIONS}, stack.logs("web")[-5000:]
