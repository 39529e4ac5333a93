"""Curves, each named where it ends; a crowd of them by its two extremes."""

import functools
import math

import numpy as np

from pdlkit.drawing.marks import points
from pdlkit.drawing.scales import extent, fraction, fractions, padded
from pdlkit.drawing.styles import FEW, Drawn, drawn, spread, steady
from pdlkit.drawing.svg import ticks
from pdlkit.drawing.svg.letters import END, escape, fit, put, width
from pdlkit.drawing.svg.scene import Curve, Drawing, Frame, Place, Scale
from pdlkit.pictures import Axis, Panel

NAME = 15.0  # px, from name to name
_HIGH, _LOW, _WIDE = 240.0, 200.0, 600.0  # px; from this width on it is higher
_ABOVE = 8.0  # px, for half a name
_SAMPLE = 38.0  # px, from the frame to a name: a sample of its line
_DOT = 5.0  # px
_LEADER = 'stroke-opacity=".6" stroke-dasharray="1 3"'
_PX = 4 / 3  # px a point


def draw(panel: Panel, place: Place) -> Drawing:
    """Return the curves, their axes and their names."""
    order = drawn(panel)
    x, y = points(each.line for each in order)
    upward = padded(extent(y, panel.y), panel.y)
    height = max(
        (_HIGH if place.width > _WIDE else _LOW) - _ABOVE - ticks.BELOW - ticks.LABEL,
        NAME * (sum(bool(each.name) for each in order) - 1),
    )
    values = ticks.ticks(upward, panel.y, int(height / 32))
    texts = ticks.written(values, panel.y)

    left = _margin(18.0 * bool(panel.y.label) + max(map(width, texts), default=0.0) + 8)
    right = min(_margin(_SAMPLE + _names(order)), 0.5 * place.width)
    frame = Frame(
        *(place.left + left, place.top + _ABOVE, max(place.width - left - right, 20.0), height),
        _scale(extent(x, panel.x), panel.x),
        _scale(upward, panel.y),
        *(panel.title, panel.words),
    )
    curves = _curves(order, _placed(x, y, frame, panel), place.frames)
    markup = (
        _grid(frame, panel.y, values, texts),
        ticks.bottom(frame, panel.x, whole=bool((np.floor(x) == x).all())),
        ticks.beside(frame, panel.y, place.left + 8),
        *_named(order, curves, frame, right - _SAMPLE),
    )
    below = ticks.BELOW + ticks.LABEL * bool(panel.x.label)
    return Drawing(_ABOVE + height + below, "".join(markup), (frame,), curves)


def _scale(ends: tuple[float, float], axis: Axis) -> Scale:
    return Scale(*ends, axis.log, axis.unit, axis.label)


def _margin(least: float) -> float:
    """Return a margin that seldom changes while a picture is live."""
    return 12.0 * math.ceil(least / 12)


def _names(order: list[Drawn]) -> float:
    """Return the room for names, whichever of a crowd should be named next."""
    label = max((each.label for each in order), key=len)
    behind = max(len(each.name) - len(each.label) for each in order)
    return width(label + "n" * behind)


def _placed(x: np.ndarray, y: np.ndarray, frame: Frame, panel: Panel) -> np.ndarray:
    """Return the points in px, [points, 2]; NaN where an axis has no place."""
    placed = np.empty((len(x), 2), np.float32)
    along, up = fractions(x, frame.x[:2], panel.x), fractions(y, frame.y[:2], panel.y)
    placed[:, 0] = frame.left + frame.width * along
    placed[:, 1] = frame.top + frame.height - frame.height * up
    if not np.isfinite(placed).all():
        placed[~np.isfinite(placed).all(axis=1)] = np.nan
    return placed


def _curves(order: list[Drawn], placed: np.ndarray, panel: int) -> tuple[Curve, ...]:
    curves, first = [], 0
    for line, label, _, (colour, wide, dash, opacity) in order:
        last = first + len(line.x)
        how = (colour or "currentColor", _dash(dash, wide), wide * _PX, opacity)
        dot = _DOT if last - first <= FEW else 0.0
        curves.append(Curve(panel, label, *how, dot, placed[first:last]))
        first = last
    return tuple(curves)


@functools.lru_cache(64)
def _dash(dash: tuple[float, ...], wide: float) -> str:
    return " ".join(f"{part * wide * _PX:.1f}" for part in dash)


def _grid(frame: Frame, axis: Axis, values: list[float], texts: list[str]) -> str:
    """Return the upward axis: its line, a faint line a tick, and the numbers."""
    foot, ends = frame.top + frame.height, frame.y[:2]
    places = [foot - frame.height * fraction(value, ends, axis) for value in values]
    faint = "".join([f"M{frame.left:.1f} {place:.1f}h{frame.width:.1f}" for place in places])
    marks = "".join([f"M{frame.left:.1f} {place:.1f}h-4" for place in places])
    numbers = [
        put(frame.left - 7, place, text, END) for place, text in zip(places, texts, strict=True)
    ]
    line = f"M{frame.left:.1f} {frame.top:.1f}v{frame.height:.1f}{marks}"
    return (
        f'<path d="{faint}" fill="none" stroke="currentColor" stroke-opacity=".1"/>'
        f'<path d="{line}" {ticks.AXIS}/>{"".join(numbers)}'
    )


def _named(order: list[Drawn], curves: tuple[Curve, ...], frame: Frame, room: float) -> list[str]:
    """Return each name, a sample of its line before it, and what leads there."""
    foot, right = frame.top + frame.height, frame.left + frame.width
    ends = []
    for each, curve in zip(order, curves, strict=True):
        end = _end(curve.points) if each.name else None
        if end:
            ends.append(((foot - end[1]) / frame.height, end, each.name, curve))
    ends.sort(key=lambda each: steady(each[0], NAME / frame.height))
    places = spread([each[0] for each in ends], NAME / frame.height)
    found = []
    for place, (_, end, name, curve) in zip(places, ends, strict=True):
        y = foot - frame.height * place
        # a live picture hides the curve whose name is clicked
        found += (
            f'<g data-label="{escape(curve.label)}">',
            _sample(end, (right, y), curve),
            fit(right + _SAMPLE, y, name, room),
            "</g>",
        )
    return found


def _end(placed: np.ndarray) -> list[float] | None:
    """Return the last point that has a place."""
    if len(placed) and not math.isnan((end := placed[-1].tolist())[0]):
        return end
    seen = np.flatnonzero(~np.isnan(placed[:, 0]))
    return placed[seen[-1]].tolist() if len(seen) else None


def _sample(end: list[float], at: tuple[float, float], curve: Curve) -> str:
    """Return a sample of a curve before its name, and what leads there from its end.

    Dotted, so that a curve which ends early does not seem to go on.
    """
    (x, y), (right, place) = end, at
    start = f"{right + 10:.1f} {place:.1f}"
    dash = f' stroke-dasharray="{curve.dash}"' if curve.dash else ""
    return (
        f'<g fill="none" stroke="{curve.colour}">'
        f'<path d="M{x:.1f} {y:.1f}H{right:.1f}L{start}" {_LEADER}/>'
        f'<path d="M{start}h23" stroke-width="{curve.width:.1f}"{dash}/></g>'
    )
