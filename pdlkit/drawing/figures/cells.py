"""A grid: tinted rectangles, each with its label."""

from matplotlib.patches import Rectangle

from pdlkit.drawing import marks
from pdlkit.drawing.figures.ink import INK, tint
from pdlkit.drawing.figures.ticks import clear, name
from pdlkit.pictures import Cell, Panel

_LETTER, _POINTS = 0.085, 9.5  # inches a letter, at that size
_WIDEST, _TALLEST = 8.0, 8.0  # inches, of the whole grid


def size(panel: Panel) -> tuple[float, float]:
    """Return the width and height of the panel, in inches."""
    width, height = _grid(panel)
    beside = _LETTER * max(map(len, panel.y.names), default=0)
    return width + beside, height + 0.25 * bool(panel.x.label) + 0.25 * bool(panel.x.names)


def _grid(panel: Panel) -> tuple[float, float]:
    """Return the width and height of the cells alone."""
    cells = marks.cells(panel)
    rows, columns = marks.shape(cells)
    longest = max(len(line) for cell in cells for line in cell.label.split("\n"))
    lines = max(cell.label.count("\n") + 1 for cell in cells)
    across = min(max(longest * _LETTER + 0.3, 0.8), _WIDEST / columns)
    return max(columns * across, 2.4), rows * min(0.25 + 0.17 * lines, _TALLEST / rows)


def draw(axes, panel: Panel) -> None:
    """Draw the cells, row 0 on top, with the names of rows and columns."""
    cells = marks.cells(panel)
    rows, columns = marks.shape(cells)
    width, height = _grid(panel)
    points = _fitting(cells, width / columns, height / rows)
    kinds = list(dict.fromkeys(cell.kind for cell in cells))
    clear(axes)
    for cell in cells:
        corner = (cell.column - 0.5, cell.row - 0.5)
        fill = tint(kinds.index(cell.kind))
        axes.add_patch(
            Rectangle(corner, cell.columns, cell.rows, facecolor=fill, edgecolor="white", lw=2.5)
        )
        middle = (corner[0] + cell.columns / 2, corner[1] + cell.rows / 2)
        axes.text(*middle, cell.label, ha="center", va="center", color=INK, fontsize=points)
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
    name(axes.xaxis, panel.x.names)
    name(axes.yaxis, panel.y.names)
    axes.set_box_aspect(height / width)
    axes.set_anchor("NW")
    axes.set_xlabel(marks.directions(panel), loc="left")
    axes.xaxis.tick_top()


def _fitting(cells: list[Cell], width: float, height: float) -> float:
    """Return the size of letters at which every label fits its cell, in points."""
    lines = [(line, cell) for cell in cells for line in cell.label.split("\n")]
    across = min(width * cell.columns / (_LETTER * len(line) + 0.05) for line, cell in lines)
    down = min(height * cell.rows / (0.17 * (cell.label.count("\n") + 1)) for cell in cells)
    return _POINTS * min(1.0, across, down)
