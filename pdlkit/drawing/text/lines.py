"""Curves in text: their shape in braille dots, their ends in a table."""

import numpy as np

from pdlkit.drawing.crowds import crowds, end, extremes, start
from pdlkit.drawing.scales import can_show, extent, fraction, write
from pdlkit.drawing.text.table import align
from pdlkit.pictures import Axis, Line, Panel, Table

WIDTH, HEIGHT = 56, 8  # in characters, each of 2 x 4 dots
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # [4, 2], top to bottom


def lower(panel: Panel) -> list[str]:
    """Return the chart, then where each curve starts and ends."""
    lines = [mark for mark in panel.marks if isinstance(mark, Line)]
    wide = extent([x for line in lines for x in line.x], panel.x)
    high = extent([y for line in lines for y in line.y], panel.y)
    dots = np.zeros((HEIGHT * 4, WIDTH * 2), bool)
    for line in lines:
        _draw(dots, _places(line, panel, wide, high))
    return [*_framed(dots, panel, wide, high), *_ends(panel, lines)]


def _places(line: Line, panel: Panel, wide, high) -> list[tuple[float, float] | None]:
    """Return each point between 0 and 1 along both axes, or None for a gap."""
    places: list[tuple[float, float] | None] = []
    for x, y in zip(line.x, line.y, strict=True):
        if can_show(x, panel.x) and can_show(y, panel.y):
            places.append((fraction(x, wide, panel.x), fraction(y, high, panel.y)))
        else:
            places.append(None)
    return places


def _draw(dots: np.ndarray, places) -> None:
    rows, columns = dots.shape
    for here, there in zip(places, [*places[1:], None], strict=True):
        if here is None:
            continue
        (x0, y0), (x1, y1) = here, there or here
        x0, x1 = x0 * (columns - 1), x1 * (columns - 1)
        y0, y1 = (1 - y0) * (rows - 1), (1 - y1) * (rows - 1)
        count = int(max(abs(x1 - x0), abs(y1 - y0))) + 2
        along, down = np.linspace(x0, x1, count), np.linspace(y0, y1, count)
        dots[down.round().astype(int), along.round().astype(int)] = True


def _framed(dots: np.ndarray, panel: Panel, wide, high) -> list[str]:
    """Return the chart with its axes, their ends and their labels."""
    bottom, top = (write(value, panel.y.unit) for value in high)
    left, right = (write(value, panel.x.unit) for value in wide)
    margin, side = max(len(top), len(bottom)), max(len(left), len(right))
    space = " " * (margin + 1)
    lines = [space + _labelled(panel.y)] if panel.y.label else []
    for i, row in enumerate(_rows(dots)):
        name = {0: top, HEIGHT - 1: bottom}.get(i, "")
        lines.append(f"{name:>{margin}} {'┤' if name else '│'}{row}")
    middle = _labelled(panel.x).center(WIDTH - 2 * side)
    return [
        *lines,
        f"{space}└{'─' * WIDTH}",
        f"{space} {left:<{side}}{middle}{right:>{side}}",
    ]


def _rows(dots: np.ndarray) -> list[str]:
    blocks = dots.reshape(HEIGHT, 4, WIDTH, 2)
    codes = (blocks * np.array(_DOTS)[None, :, None, :]).sum(axis=(1, 3))
    # an empty cell is a space: a reader aloud skips it
    return ["".join(chr(0x2800 + code) if code else " " for code in row) for row in codes.tolist()]


def _labelled(axis: Axis) -> str:
    return f"{axis.label}, log scale" if axis.log else axis.label


def _ends(panel: Panel, lines: list[Line]) -> list[str]:
    few, many = crowds(lines)
    named = [(_named(line, panel), line) for line in few]
    for members in many.values():
        for which, line in zip(("lowest", "highest"), extremes(members), strict=True):
            named.append((f"{_named(line, panel)}, {which} of {len(members)}", line))
    rows = tuple((name, start(line)[1], end(line)[1]) for name, line in named)
    header = (Axis("line"), Axis("starts", panel.y.unit), Axis("ends", panel.y.unit))
    return align(Table(header, rows))


def _named(line: Line, panel: Panel) -> str:
    return f"{line.label} ({line.word})" if line.word not in ("", panel.word) else line.label
