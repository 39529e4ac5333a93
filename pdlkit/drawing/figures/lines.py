"""Curves, each named where it ends; a crowd of them by its two extremes."""

from matplotlib.lines import Line2D

from pdlkit.drawing.crowds import crowds, end, extremes
from pdlkit.drawing.figures.ink import INK, colour, dash
from pdlkit.drawing.figures.ticks import label
from pdlkit.drawing.scales import can_show, extent, fraction
from pdlkit.pictures import Line, Panel

_HEIGHT = 2.9  # inches
_GAP = 0.07  # from name to name, as a part of the height
_FEW = 12  # points that are each shown as what they are
_DOTTED = {"marker": "o", "markersize": 3.5}


def size(panel: Panel) -> tuple[float, float]:
    """Return the width and height of the panel, in inches."""
    return 8.0, _HEIGHT


def draw(axes, panel: Panel) -> None:
    """Draw the curves and their names."""
    lines = [mark for mark in panel.marks if isinstance(mark, Line)]
    limits = _limits(axes, panel, lines)
    label(axes.xaxis, panel.x, whole=all(float(x).is_integer() for line in lines for x in line.x))
    label(axes.yaxis, panel.y)
    axes.grid(axis="y")
    ends = []
    for line, name, style in _styled(lines):
        axes.plot(line.x, line.y, **style, **(_DOTTED if len(line.x) <= _FEW else {}))
        x, y = end(line)
        if name and can_show(y, panel.y):
            axes.plot((x, axes.get_xlim()[1]), (y, y), **_thin(style))
            foreign = f" ({line.word})" if line.word not in ("", panel.word) else ""
            ends.append((fraction(y, limits, panel.y), name + foreign, style))
    _name(axes, ends)


def spread(places: list[float], gap: float) -> list[float]:
    """Return sorted places moved apart, each at least `gap` above the last, below 1."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + gap) if moved else place)
    ceiling = 1.0
    for i in reversed(range(len(moved))):
        moved[i] = min(moved[i], ceiling)
        ceiling = moved[i] - gap
    return moved


def _limits(axes, panel: Panel, lines: list[Line]) -> tuple[float, float]:
    """Set how far the axes reach, and return how far up."""
    axes.set_xscale("log" if panel.x.log else "linear")
    axes.set_yscale("log" if panel.y.log else "linear")
    axes.set_xlim(extent([x for line in lines for x in line.x], panel.x))
    low, high = extent([y for line in lines for y in line.y], panel.y)
    if panel.y.log:
        limits = low / (high / low) ** 0.05, high * (high / low) ** 0.05
    else:
        limits = low - 0.05 * (high - low), high + 0.05 * (high - low)
    axes.set_ylim(limits)
    return limits


def _styled(lines: list[Line]) -> list[tuple[Line, str, dict]]:
    """Return each line with the name beside it and how it is drawn."""
    few, many = crowds(lines)
    styled = []
    for members in many.values():
        low, high = extremes(members)
        styled += [(line, "", {"color": colour(0), "alpha": 0.25, "lw": 0.7}) for line in members]
        for i, line, which in ((1, low, "lowest"), (2, high, "highest")):
            name = f"{line.label}, {which} of {len(members)}"
            styled.append((line, name, {"color": colour(i), "lw": 1.2}))
    # beside a group, a line of its own stands for the whole: a mean, a limit
    grouped = any(line.group for line in lines)
    parts = [line for line in few if line.group or not grouped]
    for i, line in enumerate(parts):
        styled.append((line, line.label, {"color": colour(i), "ls": dash(i), "lw": 1.3}))
    for line in few:
        if grouped and not line.group:
            styled.append((line, line.label, {"color": INK, "lw": 2.0}))
    return styled


def _thin(style: dict) -> dict:
    return {"color": style["color"], "lw": 0.7, "alpha": 0.6}


def _name(axes, ends: list[tuple[float, str, dict]]) -> None:
    """Write each name, a sample of its line before it, and lead the line there."""
    ends = sorted(ends, key=lambda each: each[0])
    places = spread([at for at, _, _ in ends], _GAP)
    for (at, name, style), place in zip(ends, places, strict=True):
        sample = ((1.02, 1.055), (place, place), style)
        for across, up, ink in (((1, 1.02), (at, place), _thin(style)), sample):
            piece = Line2D(across, up, clip_on=False, transform=axes.transAxes, **ink)
            axes.add_artist(piece)
        axes.text(1.063, place, name, va="center", fontsize=8.5, transform=axes.transAxes)
