"""How tables stand on stdout, however narrow it is: nothing in them is cut, nor read as markup.

Owns our style of tables. Imported when a table is made: rich is not for `--help`.
"""

from __future__ import annotations

import sys
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

from rnatracker.escapes import printable

_WIDE = 400
"""Columns of an output that is not a terminal; more where a table needs them."""
_ENDLESS = 100_000


class PlainTable(Table):
    """A table in our style, whose headers and cells are text and nothing else."""

    def __init__(self) -> None:
        super().__init__(box=box.SIMPLE_HEAD)

    def add_column(self, header: RenderableType = "", *arguments: Any, **options: Any) -> None:
        """Add a column; see `rich.table.Table`."""
        super().add_column(_text(header), *arguments, **options)

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        """Add a row; see `rich.table.Table`."""
        super().add_row(*(_text(cell or "") for cell in cells), **options)


def show(table: PlainTable, title: str = "") -> None:
    """Print a table under its title.

    On a terminal that is too narrow for it words are wrapped, and where that isn't enough each row becomes a block of
    lines. Into a file or a pipe nothing is ever wrapped.
    """
    console = _console(table)
    if title:
        console.print(Text(printable(title), style="bold"), soft_wrap=True)
    if _fit(table, console):
        console.print(table)
    else:
        _show_rows(table, console)


def fits(table: PlainTable) -> bool:
    """Tell whether a table has room on stdout with whole words; it may be narrowed for that."""
    return _fit(table, _console(table))


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave what to do then to `rnatracker.terminal.output`."""
        raise BrokenPipeError


def _console(table: Table) -> Console:
    console = _Console()
    return console if sys.stdout.isatty() else _Console(width=max(_WIDE, _natural_width(table, console)))


def _text(thing: RenderableType) -> RenderableType:
    return Text(printable(thing)) if isinstance(thing, str) else thing


def _natural_width(table: Table, console: Console) -> int:
    return Measurement.get(console, console.options.update(width=_ENDLESS), table).maximum


def _fit(table: Table, console: Console) -> bool:
    """Narrow a table's columns where it is too wide; return whether all words are whole then."""
    natural = _natural_width(table, console)
    if natural <= console.width:
        return True
    ranges = [_range(column, console) for column in table.columns]
    room = console.width - (natural - sum(each.maximum for each in ranges)) - sum(each.minimum for each in ranges)
    if not table.show_header and len(ranges) > 1:  # a list of facts: its values are broken
        table.columns[-1].overflow = "fold"
        table.columns[-1].width = max(min(ranges[-1].minimum + room, ranges[-1].maximum), 10)
        return True
    if room < 0:
        return False
    by_need = sorted(range(len(ranges)), key=lambda i: ranges[i].span)
    for rank, i in enumerate(by_need):
        more = min(ranges[i].span, room // (len(by_need) - rank))
        table.columns[i].width = ranges[i].minimum + more
        room -= more
    return True


def _range(column: Column, console: Console) -> Measurement:
    """Return the width of a column's longest word, and of its longest cell."""
    options = console.options.update(width=_ENDLESS)
    found = [Measurement.get(console, options, cell) for cell in (column.header, *column.cells)]
    longest = max(each.maximum for each in found)
    return Measurement(longest if column.no_wrap else max(each.minimum for each in found), longest)


def _show_rows(table: Table, console: Console) -> None:
    """Print each row as a block: its headers below each other, with its cells beside them."""
    columns = [list(column.cells) for column in table.columns]
    for cells in zip(*columns, strict=True):
        block = Table.grid(padding=(0, 2))
        block.add_column(overflow="fold")
        block.add_column(overflow="fold")
        for column, cell in zip(table.columns, cells, strict=True):
            block.add_row(column.header, cell)
        console.print(block)
        console.print()
