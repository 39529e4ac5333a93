"""How far an axis reaches, and how its numbers are written."""

import math
import sys
from collections.abc import Sequence
from numbers import Real

import numpy as np

from pdlkit.pictures import Axis
from pdlkit.units import write_bytes, write_flops, write_seconds

_WRITERS = {"B": write_bytes, "s": write_seconds, "FLOP": write_flops}


def is_scaled(unit: str) -> bool:
    """Say whether numbers of this unit are written with k, M, G or m, µ, n."""
    return unit in _WRITERS


def write(value, unit: str = "") -> str:
    """Return a number with its unit as people write it; text stays as it is."""
    # float first: to ask an abstract class is slow, and most values are floats
    if not isinstance(value, (float, Real)):
        return str(value)
    if unit in _WRITERS and value:
        return _WRITERS[unit](float(value))
    return f"{_number(float(value))} {unit}".rstrip()


def extent(values: Sequence[float] | np.ndarray, axis: Axis) -> tuple[float, float]:
    """Return the lowest and highest value that the axis can show."""
    shown = np.asarray(values, float)
    low, high = _ends(shown)
    if not (can_show(low, axis) and can_show(high, axis)):
        low, high = _ends(shown[np.isfinite(shown) & ((shown > 0) | (not axis.log))])
    if low < high:
        return low, high
    if math.isnan(low):
        low = high = 1.0
    # far from zero, a half more or less is the same float
    margin = max(0.5, abs(low) * 1e-12)
    return (low / 2, low * 2) if axis.log else (low - margin, low + margin)


def padded(ends: tuple[float, float], axis: Axis) -> tuple[float, float]:
    """Return the ends moved apart, so that no curve lies on the frame."""
    low, high = ends
    if axis.log:
        apart = high**0.05 / low**0.05
        return max(low / apart, sys.float_info.min), min(high * apart, sys.float_info.max)
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


def can_show(value: float, axis: Axis) -> bool:
    """Say whether a value has a place on the axis."""
    return math.isfinite(value) and (value > 0 or not axis.log)


def fraction(value: float, ends: tuple[float, float], axis: Axis) -> float:
    """Return where a value lies between the lower end, 0, and the upper, 1."""
    low, high = ends
    if axis.log:
        # of two large numbers next to each other, the logarithms are one
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / (high - low or 1.0)


def fractions(values: np.ndarray, ends: tuple[float, float], axis: Axis) -> np.ndarray:
    """Return where many values lie; what has no place on the axis is not finite."""
    low, high = ends
    if axis.log:
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.log(values)
        low, high = math.log(low), math.log(high)
    return (values - low) / (high - low or 1.0)


def _ends(values: np.ndarray) -> tuple[float, float]:
    return (float(values.min()), float(values.max())) if values.size else (math.nan, math.nan)


def _number(value: float) -> str:
    if not math.isfinite(value) or value == 0 or 1e-3 <= abs(value) < 1e3:
        return f"{value:.3g}"
    if 1e3 <= abs(value) < 1e7:
        return f"{value:,.0f}"
    return f"{value:.2g}"
