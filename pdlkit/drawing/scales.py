"""How far an axis reaches, and how its numbers are written."""

import math
from collections.abc import Iterable
from numbers import Real

from pdlkit.pictures import Axis
from pdlkit.units import write_bytes, write_flops, write_seconds

_WRITERS = {"B": write_bytes, "s": write_seconds, "FLOP": write_flops}


def is_scaled(unit: str) -> bool:
    """Say whether numbers of this unit are written with k, M, G or m, µ, n."""
    return unit in _WRITERS


def write(value, unit: str = "") -> str:
    """Return a number with its unit as people write it; text stays as it is."""
    if not isinstance(value, Real):
        return str(value)
    if unit in _WRITERS and value:
        return _WRITERS[unit](float(value))
    return f"{_number(float(value))} {unit}".rstrip()


def extent(values: Iterable[float], axis: Axis) -> tuple[float, float]:
    """Return the lowest and highest value that the axis can show."""
    shown = [float(value) for value in values if can_show(value, axis)]
    low, high = (min(shown), max(shown)) if shown else (1.0, 1.0)
    if low < high:
        return low, high
    return (low / 2, low * 2) if axis.log else (low - 0.5, low + 0.5)


def can_show(value: float, axis: Axis) -> bool:
    """Say whether a value has a place on the axis."""
    return math.isfinite(value) and (value > 0 or not axis.log)


def fraction(value: float, ends: tuple[float, float], axis: Axis) -> float:
    """Return where a value lies between the lower end, 0, and the upper, 1."""
    low, high = ends
    if axis.log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / (high - low)


def _number(value: float) -> str:
    if not math.isfinite(value) or value == 0 or 1e-3 <= abs(value) < 1e3:
        return f"{value:.3g}"
    if 1e3 <= abs(value) < 1e7:
        return f"{value:,.0f}"
    return f"{value:.1e}"
