"""Lanes of time: what lasts from when to when."""

from pdlkit.drawing import marks
from pdlkit.drawing.scales import extent, fraction
from pdlkit.drawing.styles import TINT
from pdlkit.drawing.svg import ticks
from pdlkit.drawing.svg.fills import ROW, filled, key
from pdlkit.drawing.svg.letters import END, MIDDLE, fit, put, width
from pdlkit.drawing.svg.scene import Drawing, Frame, Place, Scale
from pdlkit.pictures import Panel, Span

_LANE, _SPAN, _SIZE = 24.0, 20.0, 11.0  # px, from lane to lane, of a span, of its letters
_RIGHT = 24.0  # px, for half of the last number


def draw(panel: Panel, place: Place) -> Drawing:
    """Return the lanes from the top down, the time below them, and a key."""
    spans, lanes = marks.spans(panel), marks.lanes(panel)
    kinds = list(dict.fromkeys(span.kind for span in spans))
    ends = extent(marks.times(panel), panel.x)
    turned = 18.0 * bool(panel.y.label)
    before = min(max(map(width, lanes)), 0.4 * place.width)
    left = place.left + turned + before + 8
    frame = Frame(
        *(left, place.top, max(place.left + place.width - _RIGHT - left, 20.0)),
        _LANE * len(lanes),
        Scale(*ends, panel.x.log, panel.x.unit, panel.x.label),
        Scale(len(lanes), 0, False, "", ""),
        *(panel.title, panel.words),
    )
    middles = {lane: place.top + _LANE * (i + 0.5) for i, lane in enumerate(lanes)}
    found = [fit(left - 8, y, lane, before, END) for lane, y in middles.items()]
    for span in spans:
        found.append(_span(span, panel, frame, (middles[span.lane], kinds.index(span.kind))))
    found.append(ticks.bottom(frame, panel.x))
    found.append(ticks.beside(frame, panel.y, place.left + 8))
    height = frame.height + ticks.BELOW + ticks.LABEL * bool(panel.x.label)
    rows = key(kinds, left, place.top + height + 2, frame.width, TINT)
    return Drawing(height + (ROW * len(rows) + 2) * bool(rows), "".join((*found, *rows)))


def _span(span: Span, panel: Panel, frame: Frame, at: tuple[float, int]) -> str:
    """Return one stretch, its label in the middle where it fits."""
    y, index = at
    start, end = (
        frame.left + frame.width * fraction(time, frame.x[:2], panel.x)
        for time in (span.start, span.end)
    )
    # half a px less at both ends parts it from the next
    wide = max(end - start - 1, 1.0)
    size = {"wide": wide, "high": _SPAN, "index": index, "opacity": TINT}
    found = filled(start + 0.5, y - _SPAN / 2, **size)
    if span.label and width(span.label, _SIZE) <= wide:
        how = f'{MIDDLE} font-size="{_SIZE:g}"'
        found += put((start + end) / 2, y, span.label, how)
    return found
