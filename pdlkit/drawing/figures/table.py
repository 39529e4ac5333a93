"""A table: words left, numbers right, a rule under the header."""

from pdlkit.drawing.figures.ink import FAINT, MUTED
from pdlkit.drawing.figures.ticks import clear
from pdlkit.drawing.marks import columns, numeric
from pdlkit.pictures import Panel

_LETTER, _BETWEEN, _LINE = 0.078, 0.25, 0.21  # inches


def size(panel: Panel) -> tuple[float, float]:
    """Return the width and height of the panel, in inches."""
    written = columns(panel)
    return _width(written), _LINE * len(written[0]) + 0.15


def draw(axes, panel: Panel) -> None:
    """Write the cells in place, column by column."""
    written = columns(panel)
    count = len(written[0])
    clear(axes)
    width = _width(written)
    room = axes.figure.bbox.width / axes.figure.dpi - 0.2
    axes.set(xlim=(0, max(width, room)), ylim=(count - 0.5, -0.5))
    left = 0.0
    for column, number in zip(written, numeric(panel), strict=True):
        right = left + _LETTER * max(map(len, column))
        place, side = (right, "right") if number else (left, "left")
        for row, text in enumerate(column):
            weight = "normal" if row else "bold"
            axes.text(place, row, text, ha=side, va="center", fontsize=9, fontweight=weight)
        left = right + _BETWEEN
    axes.hlines(0.5, 0, width, color=MUTED, lw=0.8)
    for row in range(1, count - 1):
        axes.hlines(row + 0.5, 0, width, color=FAINT, lw=0.8)


def _width(columns: list[list[str]]) -> float:
    return sum(_LETTER * max(map(len, column)) + _BETWEEN for column in columns)
