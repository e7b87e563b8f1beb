"""The schema changes under load, with prepared statements: a plan that was made for the old one is not the visitor's problem."""

from tests.conftest import MakeStack
from tests.stack.load import Load
from tests.stack.stack import Stack
from tests.waiting import eventually

MIGRATION = """from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("articles", "{before}")]
    operations = [migrations.{operation}]
"""
# A deployment runs these before the code that needs them, one after the other.
OPERATIONS = {
    "0002_add": 'AddField("article", "extra", models.CharField(max_length=20, null=True))',
    "0003_add_with_default": 'AddField("comment", "likes", models.IntegerField(db_default=0))',
    "0004_widen": 'AlterField("article", "title", models.CharField(max_length=250))',
    "0005_remove": 'RemoveField("article", "extra")',
}


def prepared(stack: Stack) -> int:
    """Statements, by the client of PgBouncer that has prepared the most."""
    return max(int(row["prepared_statements"]) for row in stack.pgbouncer("SHOW CLIENTS"))


def migrate(stack: Stack, name: str, operation: str, before: str) -> None:
    path = stack.project / "articles" / "migrations" / f"{name}.py"
    path.write_text(MIGRATION.format(before=before, operation=operation))
    path.chmod(0o644)
    mounts = [f"--volume={one}:/app/articles/migrations/{one.name}:ro" for one in path.parent.glob("000[2-9]*.py")]
    stack.compose("run", "--rm", "--no-deps", "-T", *mounts, "migrate")


def test_no_request_fails_while_the_schema_changes(make_stack: MakeStack) -> None:
    failed: dict[str, list[str]] = {}
    with make_stack() as stack:
        stack.edit_env(PREPARED_STATEMENTS="on")
        stack.up()
        stack.an_article()
        with Load(stack) as load:
            before = "0001_initial"
            for name, operation in OPERATIONS.items():
                eventually(lambda: prepared(stack) >= 3)
                seen = len(load.failures)
                migrate(stack, name, operation, before)
                # Each of the 8 threads meets its old plans.
                load.asks(150)
                failed[name], before = load.failures[seen:], name
        assert failed == {name: [] for name in OPERATIONS}, stack.logs("web")[-5000:]
