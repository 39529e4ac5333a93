"""A grid: tinted rectangles, each with its label."""

from pdlkit.drawing import marks
from pdlkit.drawing.styles import TINT, colour
from pdlkit.drawing.svg.fills import box
from pdlkit.drawing.svg.letters import END, MIDDLE, MUTED, SIZE, fit, width
from pdlkit.drawing.svg.scene import Drawing, Place
from pdlkit.pictures import Cell, Panel

_LINE, _ROUND, _NAMES = 16.0, 14.0, 18.0  # px, a line of letters, around it, names above
_LEAST, _SMALLEST = 40.0, 8.0  # px, the width of a cell, and the size of letters


def draw(panel: Panel, place: Place) -> Drawing:
    """Return the cells, row 0 on top, with the names of rows and columns."""
    cells, says = marks.cells(panel), marks.directions(panel)
    _, columns = marks.shape(cells)
    before = min(max(map(width, panel.y.names), default=0.0), 0.4 * place.width)
    left = place.left + before + 8 * bool(before)
    wide = _wide(cells, place.left + place.width - left, columns, panel)
    high = _ROUND + _LINE * max(-(-_lines(cell) // cell.rows) for cell in cells)
    found, top = [], place.top
    if says:
        found.append(fit(place.left, top + _NAMES / 2, says, place.width, MUTED))
        top += _NAMES
    if panel.x.names:
        found += [
            fit(left + wide * (i + 0.5), top + _NAMES / 2, name, wide, MIDDLE)
            for i, name in enumerate(panel.x.names)
        ]
        top += _NAMES
    found += [
        fit(left - 8, top + high * (i + 0.5), name, before, END)
        for i, name in enumerate(panel.y.names)
    ]
    kinds = list(dict.fromkeys(cell.kind for cell in cells))
    for cell in cells:
        fill = f'fill="{colour(kinds.index(cell.kind))}" fill-opacity="{TINT}"'
        found.append(_cell(cell, (left, top), (wide, high), fill))
    rows = max(marks.shape(cells)[0], len(panel.y.names))
    return Drawing(top + high * rows - place.top, "".join(found))


def _wide(cells: list[Cell], room: float, columns: int, panel: Panel) -> float:
    """Return how wide a column is: as its longest label, or as there is room."""
    longest = max(width(line) / cell.columns for cell in cells for line in cell.label.split("\n"))
    named = max(map(width, panel.x.names), default=0.0)
    return min(max(longest + 20, named + 8, _LEAST), room / max(columns, len(panel.x.names)))


def _cell(cell: Cell, corner: tuple[float, float], size: tuple[float, float], fill: str) -> str:
    """Return one cell, its letters as large as fit."""
    left, top = corner[0] + cell.column * size[0], corner[1] + cell.row * size[1]
    wide, high = cell.columns * size[0], cell.rows * size[1]
    lines = cell.label.split("\n")
    letters = min(SIZE, SIZE * (wide - 4) / max(*map(width, lines), 1.0))
    letters = max(letters, _SMALLEST)
    how = MIDDLE if letters == SIZE else f'{MIDDLE} font-size="{letters:.1f}"'
    first = top + high / 2 - _LINE * (len(lines) - 1) / 2
    words = [
        fit(left + wide / 2, first + _LINE * i, line, wide, how, letters)
        for i, line in enumerate(lines)
        if line
    ]
    # one px less at each side parts it from the next
    return box(left + 1, top + 1, max(wide - 2, 1.0), high - 2, fill) + "".join(words)


def _lines(cell: Cell) -> int:
    return cell.label.count("\n") + 1
