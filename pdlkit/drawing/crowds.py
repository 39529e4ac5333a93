"""Lines that are too many to name: each group of them is shown as a crowd."""

import math

from pdlkit.pictures import Line

MOST = 10  # lines of a group that are told apart by colour and name


def crowds(lines: list[Line]) -> tuple[list[Line], dict[str, list[Line]]]:
    """Return the lines to name one by one, and the large groups of the others."""
    groups: dict[str, list[Line]] = {}
    for line in lines:
        groups.setdefault(line.group, []).append(line)
    many = {name: each for name, each in groups.items() if name and len(each) > MOST}
    return [line for line in lines if line.group not in many], many


def extremes(lines: list[Line]) -> tuple[Line, Line]:
    """Return the line that ends lowest and the one that ends highest."""
    ends = [end(line)[1] for line in lines]
    ended = [i for i, value in enumerate(ends) if math.isfinite(value)] or range(len(lines))
    # where all end alike, the first and the last: two lines, not one twice
    return lines[min(ended, key=ends.__getitem__)], lines[
        max(reversed(ended), key=ends.__getitem__)
    ]


def start(line: Line) -> tuple[float, float]:
    """Return the first point whose y is finite, or NaN for both."""
    return next(_finite(line), (math.nan, math.nan))


def end(line: Line) -> tuple[float, float]:
    """Return the last point whose y is finite, or NaN for both."""
    return next(_finite(line, -1), (math.nan, math.nan))


def _finite(line: Line, step: int = 1):
    points = zip(line.x[::step], line.y[::step], strict=True)
    return ((float(x), float(y)) for x, y in points if math.isfinite(y))
