"""Bars, each with its name before it and its number behind it."""

from pdlkit.drawing import marks
from pdlkit.drawing.figures.ink import hatch
from pdlkit.drawing.figures.ticks import clear, name
from pdlkit.drawing.scales import write
from pdlkit.drawing.styles import colour
from pdlkit.pictures import Panel

_ABREAST = 4  # names of parts in a row


def size(panel: Panel) -> tuple[float, float]:
    """Return the width and height of the panel, in inches."""
    parts = len(marks.parts(panel)) if any(marks.parts(panel)) else 0
    return 8.0, 0.3 * len(marks.wholes(panel)) + 0.2 + 0.3 * -(-parts // _ABREAST)


def draw(axes, panel: Panel) -> None:
    """Draw the bars from the top down, the parts of each end to end."""
    whole = marks.wholes(panel)
    parts = marks.parts(panel)
    unnamed = set(parts)
    clear(axes)
    for place, bars in enumerate(whole.values()):
        upto = 0.0
        for bar in bars:
            at = parts.index(bar.part)
            axes.barh(
                *(place, bar.value, 0.66, upto),
                color=colour(at),
                hatch=hatch(at),
                edgecolor="white",
                linewidth=0,
                label=bar.part if bar.part in unnamed else None,
            )
            unnamed.discard(bar.part)
            upto += bar.value
        axes.annotate(
            write(upto, panel.x.unit),
            (upto, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
        )
    name(axes.yaxis, tuple(whole))
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    axes.set_ylim(len(whole) - 0.5, -0.5)
    # A full row of names reaches to where the label of the axis usually stands.
    axes.set_xlabel(panel.x.label, loc="right" if len(parts) >= _ABREAST else "center")
    if any(parts):
        axes.legend(loc="upper left", bbox_to_anchor=(0, 0), ncols=_ABREAST, fontsize=8.5)
