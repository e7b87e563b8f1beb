from typing import Any

from django.core.management.base import BaseCommand, CommandError
from psycopg import OperationalError
from rich.table import Table

from ops import topology
from ops.tables import show


class Command(BaseCommand):
    help = "Shows the nodes as Django reaches them, the measured replay lag, and PgBouncer's pools."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        nodes = Table("database", "role", "reached at", "replay lag", title="Topology", title_justify="left")
        for node in topology.nodes():
            lag = f"{node.lag_ms:.1f} ms" if node.lag_ms is not None else ""
            nodes.add_row(node.alias, node.role, node.address, node.problem or lag)
        show(nodes, self.stdout)

        try:
            pools = topology.pgbouncer("SHOW POOLS")
        except OperationalError as error:
            raise CommandError(f"PgBouncer does not answer: {str(error).strip()}") from error
        if pools is None:
            self.stdout.write("No PgBouncer: Django reaches the nodes directly.")
            return
        modes = {row["name"]: row["pool_mode"] for row in topology.pgbouncer("SHOW DATABASES") or []}
        columns = ("database", "user", "cl_active", "cl_waiting", "sv_active", "sv_idle", "maxwait")
        table = Table(*columns, "pool_mode", title="PgBouncer's pools", title_justify="left")
        for row in pools:
            if row["database"] != "pgbouncer":
                table.add_row(*(str(row[column]) for column in columns), modes[row["database"]] or row["pool_mode"])
        show(table, self.stdout)
