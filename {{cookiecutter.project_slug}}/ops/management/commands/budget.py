from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.table import Table

from config.settings import BASE_DIR
from ops.budget import budget, limits_in
from ops.checks import choices
from ops.tables import show


class Command(BaseCommand):
    help = "Shows how many connections the choices in .env may open at most, and how many there is room for."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            found = budget(choices(), limits_in(BASE_DIR))
        except (ValueError, FileNotFoundError) as error:
            raise CommandError(str(error)) from error
        table = Table(title="Connections, at most", title_justify="left")
        table.add_column("what")
        table.add_column("opened", justify="right")
        table.add_column("of")
        for what, number, of in found.rows():
            table.add_row(what, str(number), of)
        show(table, self.stdout)
        if problems := list(found.problems()):
            raise CommandError("\n".join(f"{problem.text} {problem.remedy}" for problem in problems))
