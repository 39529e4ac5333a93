"""Lanes of time: what lasts from when to when."""

from pdlkit.drawing import marks
from pdlkit.drawing.figures.ink import INK, hatch, tint
from pdlkit.drawing.figures.ticks import label, name
from pdlkit.drawing.scales import extent
from pdlkit.pictures import Panel

_WIDTH, _LETTER = 6.5, 0.08  # inches, of the lanes and of a letter


def size(panel: Panel) -> tuple[float, float]:
    """Return the width and height of the panel, in inches."""
    return 8.0, 0.3 * len(marks.lanes(panel)) + 0.7


def draw(axes, panel: Panel) -> None:
    """Draw each lane from left to right, the first on top, and a key."""
    spans = marks.spans(panel)
    lanes = marks.lanes(panel)
    kinds = list(dict.fromkeys(span.kind for span in spans))
    low, high = extent(marks.times(panel), panel.x)
    for i, kind in enumerate(kinds):
        these = [span for span in spans if span.kind == kind]
        axes.barh(
            [lanes.index(span.lane) for span in these],
            [span.end - span.start for span in these],
            height=0.8,
            left=[span.start for span in these],
            color=tint(i),
            hatch=hatch(i),
            edgecolor="white",
            label=kind or None,
        )
    for span in spans:
        if len(span.label) * _LETTER < _WIDTH * (span.end - span.start) / (high - low):
            middle = ((span.start + span.end) / 2, lanes.index(span.lane))
            axes.text(*middle, span.label, ha="center", va="center", fontsize=8, color=INK)
    axes.set(xlim=(low, high), ylim=(len(lanes) - 0.5, -0.5), ylabel=panel.y.label)
    label(axes.xaxis, panel.x)
    name(axes.yaxis, tuple(lanes))
    if any(kinds):
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8.5)
