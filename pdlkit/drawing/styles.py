"""How each line is drawn and named, in a figure and in an SVG alike."""

import math
from typing import NamedTuple

from pdlkit.drawing.crowds import crowds, extremes
from pdlkit.drawing.marks import foreign
from pdlkit.pictures import Line, Panel

# of all palettes tried, petroff10 keeps its colours furthest apart for every
# kind of colour vision; dashes and names beside the lines say the same again
COLOURS = (
    *("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6"),
    *("#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"),
)
DASHES = ((), (6, 1.5), (3, 1), (6, 1.5, 1, 1.5), (1.5, 1))  # ink and gaps, in line widths
TINT = 0.35  # of a colour, where letters stand on it
FEW = 12  # points of a line that are each shown as what they are


class Style(NamedTuple):
    """How a line is drawn."""

    colour: str  # one of COLOURS, or "" for the ink of the text
    points: float  # wide
    dash: tuple[float, ...] = ()  # one of DASHES
    opacity: float = 1.0


class Drawn(NamedTuple):
    """A line, how it is drawn, and the name beside it where it has one."""

    line: Line
    label: str
    name: str
    style: Style


def colour(index: int) -> str:
    """Return the colour of the index-th thing."""
    return COLOURS[index % len(COLOURS)]


def drawn(panel: Panel) -> list[Drawn]:
    """Return the lines of a panel in the order in which they are drawn.

    Of a crowd only the two extremes are named. Beside a group, a line of its
    own stands for the whole (a mean, a limit): it is drawn in ink, on top.
    """
    lines = [mark for mark in panel.marks if isinstance(mark, Line)]
    few, many = crowds(lines)
    found = [each for members in many.values() for each in _crowd(members, panel)]
    grouped = any(line.group for line in lines)
    parts = [line for line in few if line.group or not grouped]
    for i, line in enumerate(parts):
        each = _named(line, panel, Style(colour(i), 1.3, DASHES[i % len(DASHES)]))
        found.append(each._replace(name="") if _has_left(line) else each)
    wholes = [line for line in few if grouped and not line.group]
    return found + [_named(line, panel, Style("", 2.0)) for line in wholes]


def steady(place: float, gap: float) -> int:
    """Return by what names are sorted: those closer than a name keep their order."""
    return round(place / gap)


def spread(places: list[float], gap: float) -> list[float]:
    """Return places moved apart, each at least `gap` above the last, below 1."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + gap) if moved else place)
    ceiling = 1.0
    for i in reversed(range(len(moved))):
        moved[i] = min(moved[i], ceiling)
        ceiling = moved[i] - gap
    return moved


def _has_left(line: Line) -> bool:
    """Tell whether a member of a group, such as a device, is no longer there."""
    return bool(line.group) and len(line.y) > 0 and not math.isfinite(line.y[-1])


def _crowd(members: list[Line], panel: Panel) -> list[Drawn]:
    low, high = extremes(members)
    faint = Style(colour(0), 0.7, opacity=0.25)
    found = [
        _named(line, panel, faint)._replace(name="")
        for line in members
        if line is not low and line is not high
    ]
    for i, line, which in ((1, low, "lowest"), (2, high, "highest")):
        each = _named(line, panel, Style(colour(i), 1.2))
        found.append(each._replace(name=f"{each.label}, {which} of {len(members)}"))
    return found[:-1] if low is high else found


def _named(line: Line, panel: Panel, style: Style) -> Drawn:
    label = line.label + foreign(line, panel)
    return Drawn(line, label, label, style)
