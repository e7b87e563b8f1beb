from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from rich.table import Table

from ops.tables import show

# A role sees the text of its own statements; those of others need pg_read_all_stats.
SLOWEST = """
    SELECT calls, total_exec_time, mean_exec_time, max_exec_time, rows,
           coalesce(round(100.0 * shared_blks_hit / nullif(shared_blks_hit + shared_blks_read, 0)), 100) AS hit_percent,
           regexp_replace(query, '\\s+', ' ', 'g') AS query
    FROM pg_stat_statements
    JOIN pg_database ON pg_database.oid = dbid
    WHERE datname = current_database() AND query <> '<insufficient privilege>'
    ORDER BY {order} DESC
    LIMIT %s
"""
ORDERS = {"total": "total_exec_time", "mean": "mean_exec_time", "max": "max_exec_time", "calls": "calls"}


class Command(BaseCommand):
    help = "Shows the most expensive statements that a node has run, from pg_stat_statements. Each node counts its own."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, choices=list(connections), help="which node to ask")
        parser.add_argument("--by", default="total", choices=list(ORDERS), help="what makes a statement expensive")
        parser.add_argument("--limit", default=10, type=int, help="how many statements")

    def handle(self, *args: Any, database: str, by: str, limit: int, **options: Any) -> None:
        if limit < 1:
            raise CommandError(f"--limit is {limit}. Give a number from 1 up.")
        try:
            with connections[database].cursor() as cursor:
                cursor.execute(SLOWEST.format(order=ORDERS[by]), [limit])
                rows = cursor.fetchall()
        except DatabaseError as error:
            raise CommandError(f"pg_stat_statements on {database!r} does not answer: {error}") from error
        table = Table(title=f"{database}: the most expensive statements by {by}", title_justify="left")
        for column in ("calls", "total ms", "mean ms", "max ms", "rows", "cache %"):
            table.add_column(column, justify="right", no_wrap=True)
        table.add_column("statement")
        for calls, total, mean, longest, count, hits, query in rows:
            table.add_row(
                str(calls), f"{total:.1f}", f"{mean:.2f}", f"{longest:.1f}", str(count), str(hits), query[:400]
            )
        show(table, self.stdout)
