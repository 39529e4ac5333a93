"""A table in text: aligned columns under a rule, words left, numbers right."""

from numbers import Real

from pdlkit.drawing.scales import write
from pdlkit.pictures import Axis, Panel, Table


def lower(panel: Panel) -> list[str]:
    """Return the header, a rule, and one line a row."""
    return [line for table in panel.marks if isinstance(table, Table) for line in align(table)]


def align(table: Table) -> list[str]:
    """Return the lines of one table."""
    columns = [
        _column(axis, cells) for axis, cells in zip(table.header, _turned(table), strict=True)
    ]
    header, *rows = ("  ".join(line) for line in zip(*columns, strict=True))
    return [header, "─" * len(header), *rows]


def _turned(table: Table) -> list[tuple]:
    return list(zip(*table.rows, strict=True)) or [()] * len(table.header)


def _column(axis: Axis, cells: tuple) -> list[str]:
    written = [axis.label, *(write(cell, axis.unit) for cell in cells)]
    width = max(map(len, written))
    side = ">" if cells and all(isinstance(cell, Real) for cell in cells) else "<"
    return [f"{text:{side}{width}}" for text in written]
