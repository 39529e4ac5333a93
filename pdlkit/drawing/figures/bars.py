"""Bars, each with its name before it and its number behind it."""

from pdlkit.drawing.figures.ink import colour, hatch
from pdlkit.drawing.figures.ticks import clear, name
from pdlkit.drawing.scales import write
from pdlkit.pictures import Bar, Panel


def size(panel: Panel) -> tuple[float, float]:
    """Return the width and height of the panel, in inches."""
    parts = any(bar.part for bar in panel.marks if isinstance(bar, Bar))
    return 8.0, 0.3 * len(_wholes(panel)) + 0.2 + 0.3 * parts


def draw(axes, panel: Panel) -> None:
    """Draw the bars from the top down, the parts of each end to end."""
    wholes = _wholes(panel)
    parts = list(dict.fromkeys(bar.part for bars in wholes.values() for bar in bars))
    clear(axes)
    for place, bars in enumerate(wholes.values()):
        upto = 0.0
        for bar in bars:
            at = parts.index(bar.part)
            axes.barh(
                *(place, bar.value, 0.66, upto),
                color=colour(at),
                hatch=hatch(at),
                edgecolor="white",
                linewidth=0,
                label=bar.part if place == 0 else None,
            )
            upto += bar.value
        axes.annotate(
            write(upto, panel.x.unit),
            (upto, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
        )
    name(axes.yaxis, tuple(wholes))
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    axes.set_ylim(len(wholes) - 0.5, -0.5)
    axes.set_xlabel(panel.x.label)
    if any(parts):
        axes.legend(loc="upper left", bbox_to_anchor=(0, 0), ncols=4, fontsize=8.5)


def _wholes(panel: Panel) -> dict[str, list[Bar]]:
    """Return the bars of each label, one that another word holds of apart."""
    wholes: dict[str, list[Bar]] = {}
    for bar in panel.marks:
        if isinstance(bar, Bar):
            foreign = bar.word not in ("", panel.word)
            wholes.setdefault(f"{bar.label} ({bar.word})" if foreign else bar.label, []).append(bar)
    return wholes
