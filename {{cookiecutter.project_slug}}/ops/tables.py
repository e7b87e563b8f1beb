"""Tables for people, on a terminal or in a log."""

from typing import IO, Any

from rich.console import Console
from rich.table import Table


def show(table: Table, out: Any) -> None:
    """Prints the table to `out`; where that is no terminal, wide enough for a statement to be read."""
    stream: IO[str] = out
    width = None if stream.isatty() else 140
    # A statement is no markup: tags[1] is to be printed as it is.
    Console(file=stream, width=width, markup=False, emoji=False, highlight=False).print(table)
