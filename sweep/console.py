"""Where the commands print, and the columns that hold what one has to type."""

import os
from collections.abc import Iterable

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

UNLIMITED = 10_000
"""Width of what is no terminal: whoever reads a pipe or a file wants whole lines."""


def output(*, stderr: bool = False) -> Console:
    """Return standard output, or the output for errors.

    What is printed is text and never markup: names and labels may have brackets and colons. Tables fit a
    terminal, or `$COLUMNS`, and are as wide as they are elsewhere.
    """
    console = Console(stderr=stderr, soft_wrap=True, highlight=False, markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = UNLIMITED
    return console


def add_typed_column(table: Table, header: str, values: Iterable[str]) -> None:
    """Add a column of names or addresses, none of which is broken or shortened where the table is narrow.

    Args:
        table: The table.
        header: The column's head.
        values: What each row of it will hold, or what of that must stay in one piece.
    """
    longest = max((cell_len(value) for value in values), default=0)
    table.add_column(header, min_width=max(longest, len(header)), overflow="fold")
