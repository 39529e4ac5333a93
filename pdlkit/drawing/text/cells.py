"""A grid in text: boxes that share their edges."""

from pdlkit.drawing import marks
from pdlkit.pictures import Cell, Panel

_MOST = 72
_UP, _RIGHT, _DOWN, _LEFT = 1, 2, 4, 8
_EDGES = " ╵╶└╷│┌├╴┘─┴┐┤┬┼"  # by the sum of the directions that an edge leaves in


def lower(panel: Panel) -> list[str]:
    """Return the boxes, with the names of rows and columns beside them."""
    cells = marks.cells(panel)
    widths = _widths(cells, panel)
    heights = _heights(cells)
    left, top = _edges(widths), _edges(heights)
    canvas = [[" "] * (left[-1] + 1) for _ in range(top[-1] + 1)]
    joints: dict[tuple[int, int], int] = {}
    for cell in cells:
        box = (
            *(top[cell.row], top[cell.row + cell.rows]),
            *(left[cell.column], left[cell.column + cell.columns]),
        )
        _outline(joints, box)
        _write(canvas, cell.label, box)
    for (row, column), directions in joints.items():
        canvas[row][column] = _EDGES[directions]
    return _named(panel, ["".join(row) for row in canvas], left, top)


def _widths(cells: list[Cell], panel: Panel) -> list[int]:
    widths = [1] * max(cell.column + cell.columns for cell in cells)
    for cell in cells:
        longest = max(map(len, cell.label.split("\n")))
        each = -(-(longest - cell.columns + 1) // cell.columns)
        for column in range(cell.column, cell.column + cell.columns):
            widths[column] = max(widths[column], each)
    for column, name in enumerate(panel.x.names):
        widths[column] = max(widths[column], len(name))
    roomy = [width + 2 for width in widths]
    return roomy if sum(roomy) + len(roomy) < _MOST else widths


def _heights(cells: list[Cell]) -> list[int]:
    heights = [1] * max(cell.row + cell.rows for cell in cells)
    for cell in cells:
        lines = cell.label.count("\n") + 1
        each = -(-(lines - cell.rows + 1) // cell.rows)
        for row in range(cell.row, cell.row + cell.rows):
            heights[row] = max(heights[row], each)
    return heights


def _edges(sizes: list[int]) -> list[int]:
    places = [0]
    for size in sizes:
        places.append(places[-1] + size + 1)
    return places


def _outline(joints: dict[tuple[int, int], int], box: tuple[int, int, int, int]) -> None:
    top, bottom, left, right = box
    for column in range(left, right):
        for row in (top, bottom):
            joints[row, column] = joints.get((row, column), 0) | _RIGHT
            joints[row, column + 1] = joints.get((row, column + 1), 0) | _LEFT
    for row in range(top, bottom):
        for column in (left, right):
            joints[row, column] = joints.get((row, column), 0) | _DOWN
            joints[row + 1, column] = joints.get((row + 1, column), 0) | _UP


def _write(canvas: list[list[str]], label: str, box: tuple[int, int, int, int]) -> None:
    top, bottom, left, right = box
    lines = label.split("\n")
    first = top + 1 + (bottom - top - 1 - len(lines)) // 2
    for row, line in enumerate(lines, first):
        canvas[row][left + 1 : right] = line.center(right - left - 1)


def _named(panel: Panel, boxes: list[str], left: list[int], top: list[int]) -> list[str]:
    lines = [marks.directions(panel)]
    names = [" "] * len(boxes[0])
    for column, name in enumerate(panel.x.names):
        room = left[column + 1] - left[column] - 1
        names[left[column] + 1 : left[column + 1]] = name.center(room)
    margin = max([len(name) + 1 for name in panel.y.names], default=0)
    lines.append(" " * margin + "".join(names))
    rows = {(top[i] + top[i + 1]) // 2: name for i, name in enumerate(panel.y.names)}
    lines += [f"{rows.get(i, ''):<{margin}}{line}" for i, line in enumerate(boxes)]
    return [line for line in lines if line.strip()]
