"""Axes with their labels, their units, and no more ticks than one reads."""

from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from pdlkit.drawing.scales import is_scaled, write
from pdlkit.pictures import Axis

_OCTAVES = 256  # up to here a log axis counts in powers of two, as devices do


def label(axis, of: Axis, *, whole: bool = False) -> None:
    """Give a matplotlib axis its label and ticks that carry its unit.

    `whole` keeps the ticks to whole numbers: there is no step 2.5.
    """
    counts = of.unit and not is_scaled(of.unit)
    axis.set_label_text(f"{of.label} ({of.unit})" if counts else of.label)
    if of.log:
        low, high = axis.get_view_interval()
        axis.set_major_locator(LogLocator(2 if high < _OCTAVES * low else 10))
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_major_locator(MaxNLocator(6, integer=whole, steps=[1, 2, 2.5, 5, 10]))
    if is_scaled(of.unit):
        axis.set_major_formatter(EngFormatter(unit=of.unit))
    elif of.log:
        axis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))


def name(axis, names: tuple[str, ...]) -> None:
    """Name the places 0, 1, 2 of a matplotlib axis, without tick marks."""
    axis.set_ticks(range(len(names)), labels=names)
    axis.set_tick_params(length=0)


def clear(axes) -> None:
    """Leave nothing of the axes but what is drawn on them."""
    axes.spines[:].set_visible(False)
    axes.set(xticks=[], yticks=[])
