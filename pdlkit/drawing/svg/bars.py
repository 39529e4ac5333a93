"""Bars, each with its name before it and its number behind it."""

import math

from pdlkit.drawing import marks
from pdlkit.drawing.scales import write
from pdlkit.drawing.svg.fills import ROW, filled, key
from pdlkit.drawing.svg.letters import END, MUTED, fit, put, width
from pdlkit.drawing.svg.scene import Drawing, Place
from pdlkit.pictures import Bar, Panel

_LANE, _BAR, _GAP = 24.0, 16.0, 8.0  # px, from bar to bar, of a bar, around it
_LEAST = 1.5  # px: what is not nothing is seen


def draw(panel: Panel, place: Place) -> Drawing:
    """Return the bars from the top down, the parts of each end to end."""
    whole, parts = marks.wholes(panel), marks.parts(panel)
    sums = [sum(bar.value for bar in bars) for bars in whole.values()]
    numbers = [write(value, panel.x.unit) for value in sums]
    before = min(max(map(width, whole)), 0.4 * place.width)
    left = place.left + before + _GAP
    room = place.left + place.width - left - _GAP - max(map(width, numbers))
    longest = max((value for value in sums if math.isfinite(value)), default=0.0)
    scale = max(room, 0.0) / longest if longest > 0 else 0.0

    found, y = [], place.top + _LANE / 2
    for (name, bars), number in zip(whole.items(), numbers, strict=True):
        found.append(fit(left - _GAP, y, name, before, END))
        right = left
        for bar, wide in zip(bars, _lengths(bars, scale), strict=True):
            index = parts.index(bar.part)
            found.append(filled(right, y - _BAR / 2, wide=wide, high=_BAR, index=index))
            right += wide
        found.append(put(right + _GAP, y, number))
        y += _LANE
    y -= _LANE / 2
    if panel.x.label:
        found.append(fit(left, y + ROW / 2, panel.x.label, place.left + place.width - left, MUTED))
        y += ROW
    rows = key(parts, left, y + 2, place.left + place.width - left)
    return Drawing(y + (ROW * len(rows) + 2) * bool(rows) - place.top, "".join((*found, *rows)))


def _lengths(bars: list[Bar], scale: float) -> list[float]:
    """Return how long the bars are, in px; what is less than nothing has no length."""
    return [
        max(bar.value * scale, _LEAST) if bar.value > 0 and math.isfinite(bar.value) else 0.0
        for bar in bars
    ]
