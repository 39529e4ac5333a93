"""Lanes in text: one line a lane, time from left to right."""

from pdlkit.drawing import marks
from pdlkit.drawing.scales import extent, write
from pdlkit.pictures import Panel, Span

WIDTH = 56
_FILLS = "█▒▓░▚"


def lower(panel: Panel) -> list[str]:
    """Return one line a lane, the times at both ends, and a key."""
    spans, lanes = marks.spans(panel), marks.lanes(panel)
    kinds = list(dict.fromkeys(span.kind for span in spans))
    fills = {kind: _FILLS[i % len(_FILLS)] for i, kind in enumerate(kinds)}
    low, high = extent(marks.times(panel), panel.x)
    margin = max(map(len, lanes))

    rows = {lane: [" "] * WIDTH for lane in lanes}
    for span in spans:
        first, last = (
            round(WIDTH * (time - low) / (high - low)) for time in (span.start, span.end)
        )
        width = max(last - first, 1)
        rows[span.lane][first : first + width] = _filled(span, width, fills[span.kind])
    lines = [f"{lane:<{margin}} │{''.join(row[:WIDTH])}│" for lane, row in rows.items()]
    left, right = write(low, panel.x.unit), write(high, panel.x.unit)
    middle = panel.x.label.center(WIDTH - len(left) - len(right))
    key = "  ".join(f"{fills[kind]} {kind}" for kind in kinds if kind)
    return [*lines, f"{'':{margin}}  {left}{middle}{right}", *([key] if key else [])]


def _filled(span: Span, width: int, fill: str) -> str:
    """Return the stretch, its label in the middle where it fits."""
    return span.label.center(width, fill) if len(span.label) <= width else fill * width
