"""Curves, each named where it ends; a crowd of them by its two extremes."""

import numpy as np
from matplotlib.lines import Line2D

from pdlkit.drawing.crowds import end
from pdlkit.drawing.figures.ink import ink, thin
from pdlkit.drawing.figures.ticks import label
from pdlkit.drawing.marks import points
from pdlkit.drawing.scales import can_show, extent, fraction, padded
from pdlkit.drawing.styles import FEW, Style, drawn, spread, steady
from pdlkit.pictures import Panel

_HEIGHT = 2.9  # inches
_GAP = 0.07  # from name to name, as a part of the height
_DOTTED = {"marker": "o", "markersize": 3.5}


def size(panel: Panel) -> tuple[float, float]:
    """Return the width and height of the panel, in inches."""
    return 8.0, _HEIGHT


def draw(axes, panel: Panel) -> None:
    """Draw the curves and their names."""
    order = drawn(panel)
    x, y = points(each.line for each in order)
    limits = padded(extent(y, panel.y), panel.y)
    axes.set_xscale("log" if panel.x.log else "linear")
    axes.set_yscale("log" if panel.y.log else "linear")
    axes.set_xlim(extent(x, panel.x))
    axes.set_ylim(limits)
    label(axes.xaxis, panel.x, whole=bool((np.floor(x) == x).all()))
    label(axes.yaxis, panel.y)
    axes.grid(axis="y")
    ends = []
    for line, _, name, style in order:
        axes.plot(line.x, line.y, **ink(style), **(_DOTTED if len(line.x) <= FEW else {}))
        x, y = end(line)
        if name and can_show(y, panel.y):
            axes.plot((x, axes.get_xlim()[1]), (y, y), **thin(style))
            ends.append((fraction(y, limits, panel.y), name, style))
    _name(axes, ends)


def _name(axes, ends: list[tuple[float, str, Style]]) -> None:
    """Write each name, a sample of its line before it, and lead the line there."""
    ends = sorted(ends, key=lambda each: steady(each[0], _GAP))
    places = spread([at for at, _, _ in ends], _GAP)
    for (at, name, style), place in zip(ends, places, strict=True):
        sample = ((1.02, 1.055), (place, place), ink(style))
        for across, up, how in (((1, 1.02), (at, place), thin(style)), sample):
            piece = Line2D(across, up, clip_on=False, transform=axes.transAxes, **how)
            axes.add_artist(piece)
        axes.text(1.063, place, name, va="center", fontsize=8.5, transform=axes.transAxes)
