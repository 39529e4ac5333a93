"""Curves in text: their shape in braille dots, their ends in a table."""

import numpy as np

from pdlkit.drawing.crowds import crowds, end, extremes, start
from pdlkit.drawing.marks import foreign, points
from pdlkit.drawing.scales import extent, fractions, write
from pdlkit.drawing.text.table import align
from pdlkit.pictures import Axis, Line, Panel, Table

WIDTH, HEIGHT = 56, 8  # in characters, each of 2 x 4 dots
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # [4, 2], top to bottom


def lower(panel: Panel) -> list[str]:
    """Return the chart, then where each curve starts and ends."""
    lines = [mark for mark in panel.marks if isinstance(mark, Line)]
    x, y = points(lines)
    wide, high = extent(x, panel.x), extent(y, panel.y)
    across = (WIDTH * 2 - 1) * fractions(x, wide, panel.x)
    down = (HEIGHT * 4 - 1) * (1 - fractions(y, high, panel.y))
    stops = np.cumsum([len(line.x) for line in lines])
    return [*_framed(_dots(across, down, stops), panel, wide, high), *_ends(panel, lines)]


def _dots(across: np.ndarray, down: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """Return the dots that the lines pass through; `stops` is where each ends."""
    seen = np.isfinite(across) & np.isfinite(down)
    joined = np.append(seen[1:], False)
    joined[stops[stops > 0] - 1] = False
    stretches = [
        (places[seen], np.where(joined, np.roll(places, -1), places)[seen])
        for places in (down, across)
    ]
    counts = np.maximum(*(np.abs(there - here) for here, there in stretches)).astype(int) + 1
    # the k-th dot of each stretch, which ends before the next
    k = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    dots = np.zeros((HEIGHT * 4, WIDTH * 2), bool)
    dots[*(_whole(there) for _, there in stretches)] = True
    dots[
        *(
            _whole(np.repeat(here, counts) + k * np.repeat((there - here) / counts, counts))
            for here, there in stretches
        )
    ] = True
    return dots


def _whole(places: np.ndarray) -> np.ndarray:
    return np.rint(places).astype(int)


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
    named = [(line.label + foreign(line, panel), line) for line in few]
    for members in many.values():
        for which, line in zip(("lowest", "highest"), extremes(members), strict=True):
            name = line.label + foreign(line, panel)
            named.append((f"{name}, {which} of {len(members)}", line))
    rows = tuple((name, start(line)[1], end(line)[1]) for name, line in named)
    header = (Axis("line"), Axis("starts", panel.y.unit), Axis("ends", panel.y.unit))
    return align(Table(header, rows))
