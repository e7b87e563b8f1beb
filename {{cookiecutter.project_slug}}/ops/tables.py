"""Tables for people, on a terminal or in a log."""

from typing import IO, Any

from rich.console import Console
from rich.table import Table


def show(table: Table, out: Any) -> None:
    """Prints the table to `out`; where that is no terminal, wide enough for a statement to be read."""
    stream: IO[str] = out
    Console(file=stream, width=None if stream.isatty() else 140).print(table)
