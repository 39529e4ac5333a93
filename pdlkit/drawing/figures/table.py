"""A table: words left, numbers right, a rule under the header."""

from numbers import Real

from pdlkit.drawing.figures.ink import FAINT, MUTED
from pdlkit.drawing.figures.ticks import clear
from pdlkit.drawing.scales import write
from pdlkit.pictures import Axis, Panel, Table

_MOST = 24  # rows; a longer table is for `.text` and `.save("table.csv")`
_LETTER, _BETWEEN, _LINE = 0.078, 0.25, 0.21  # inches


def size(panel: Panel) -> tuple[float, float]:
    """Return the width and height of the panel, in inches."""
    columns = _columns(panel)
    return _width(columns), _LINE * len(columns[0]) + 0.15


def draw(axes, panel: Panel) -> None:
    """Write the cells in place, column by column."""
    columns = _columns(panel)
    count = len(columns[0])
    clear(axes)
    width = _width(columns)
    room = axes.figure.bbox.width / axes.figure.dpi - 0.2
    axes.set(xlim=(0, max(width, room)), ylim=(count - 0.5, -0.5))
    left = 0.0
    for column, numeric in zip(columns, _numeric(panel), strict=True):
        right = left + _LETTER * max(map(len, column))
        place, side = (right, "right") if numeric else (left, "left")
        for row, text in enumerate(column):
            weight = "normal" if row else "bold"
            axes.text(place, row, text, ha=side, va="center", fontsize=9, fontweight=weight)
        left = right + _BETWEEN
    axes.hlines(0.5, 0, width, color=MUTED, lw=0.8)
    for row in range(1, count - 1):
        axes.hlines(row + 0.5, 0, width, color=FAINT, lw=0.8)


def _columns(panel: Panel) -> list[list[str]]:
    """Return the written columns, each with its header."""
    header, rows = _table(panel)
    columns = [
        [axis.label, *(write(row[i], axis.unit) for row in rows[:_MOST])]
        for i, axis in enumerate(header)
    ]
    if len(rows) > _MOST:
        for i, column in enumerate(columns):
            column.append("" if i else f"and {len(rows) - _MOST} more")
    return columns


def _numeric(panel: Panel) -> list[bool]:
    header, rows = _table(panel)
    return [
        bool(rows) and all(isinstance(row[i], Real) for row in rows) for i in range(len(header))
    ]


def _table(panel: Panel) -> tuple[tuple[Axis, ...], tuple[tuple, ...]]:
    (table,) = (mark for mark in panel.marks if isinstance(mark, Table))
    return table.header, table.rows


def _width(columns: list[list[str]]) -> float:
    return sum(_LETTER * max(map(len, column)) + _BETWEEN for column in columns)
