"""Ticks at round numbers, and the axis that carries them."""

import math

from pdlkit.drawing.scales import fraction, is_scaled, write
from pdlkit.drawing.svg.letters import MIDDLE, MUTED, fit, put, width
from pdlkit.drawing.svg.scene import Frame
from pdlkit.pictures import Axis

BELOW = 22.0  # px, of the ticks and their numbers
LABEL = 17.0  # px, of the label under them
AXIS = 'fill="none" stroke="currentColor" stroke-opacity=".5"'
_STEPS = (1, 2, 2.5, 5, 10)
_OCTAVES = 256  # up to here a log axis counts in powers of two, as devices do
_APART, _MOST = 50.0, 8  # px at least from tick to tick along the bottom, and how many


def ticks(ends: tuple[float, float], axis: Axis, most: int, *, whole: bool = False) -> list[float]:
    """Return round numbers between both ends, `most` of them and perhaps one more.

    `whole` keeps them to whole numbers: there is no step 2.5.
    """
    return (axis.log and _powers(*ends, most)) or _steps(*ends, most, whole)


def written(values: list[float], axis: Axis) -> list[str]:
    """Return the numbers with their unit, no two of them alike."""
    unit = axis.unit if is_scaled(axis.unit) else ""
    texts = [write(value, unit) for value in values]
    return texts if len(set(texts)) == len(texts) else _told_apart(values, unit)


def label(axis: Axis) -> str:
    """Return the label of an axis, with a unit that its numbers do not carry."""
    counts = axis.unit and not is_scaled(axis.unit)
    return f"{axis.label} ({axis.unit})" if counts else axis.label


def bottom(frame: Frame, axis: Axis, *, whole: bool = False) -> str:
    """Return the axis below a frame: its line, ticks, numbers and label."""
    ends = frame.x.low, frame.x.high
    most = min(max(int(frame.width / _APART), 2), _MOST)
    texts = written(values := ticks(ends, axis, most, whole=whole), axis)
    while most > 2 and len(texts) * (max(map(width, texts)) + _APART / 4) > frame.width:
        most -= 1
        texts = written(values := ticks(ends, axis, most, whole=whole), axis)
    places = [frame.left + frame.width * fraction(value, ends, axis) for value in values]
    foot = frame.top + frame.height
    marks = "".join([f"M{place:.1f} {foot:.1f}v4" for place in places])
    numbers = [
        put(place, foot + 13, text, MIDDLE) for place, text in zip(places, texts, strict=True)
    ]
    line = f'<path d="M{frame.left:.1f} {foot:.1f}h{frame.width:.1f}{marks}" {AXIS}/>'
    return line + "".join(numbers) + _labelled(frame, axis, foot + BELOW + LABEL / 2)


def _labelled(frame: Frame, axis: Axis, height: float) -> str:
    says = label(axis)
    middle = frame.left + frame.width / 2
    return fit(middle, height, says, frame.width + 40, MIDDLE + MUTED) if says else ""


def beside(frame: Frame, axis: Axis, left: float) -> str:
    """Return the label of the upward axis, turned, its middle this far left."""
    says = label(axis)
    if not says:
        return ""
    middle = frame.top + frame.height / 2
    turned = f'{MIDDLE}{MUTED} transform="rotate(-90 {left:.1f} {middle:.1f})"'
    return fit(left, middle, says, 1.1 * frame.height, turned)


def _powers(low: float, high: float, most: int) -> list[float]:
    """Return powers of two or ten, or none where there are less than two."""
    base = 2.0 if high < _OCTAVES * low else 10.0
    first = math.ceil(math.log(low, base) - 1e-9)
    last = math.floor(math.log(high, base) + 1e-9)
    stride = max(math.ceil((last - first + 1) / (most + 1)), 1)
    found = [base**power for power in range(first, last + 1) if power % stride == 0]
    return found if len(found) > 1 else []


def _steps(low: float, high: float, most: int, whole: bool) -> list[float]:
    least = max((high - low) / most * (1 - 1e-9), 1e-300)
    power = 10.0 ** math.floor(math.log10(least))
    sizes = [size * power for size in _STEPS]
    step = next(size for size in sizes if size >= least and not (whole and size % 1))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    # far from zero, a step may be less than from one float to the next
    return list(dict.fromkeys(place * step for place in range(first, last + 1)))


def _told_apart(values: list[float], unit: str) -> list[str]:
    """Return the numbers with as many digits as tell them apart, in one unit."""
    largest = max(map(abs, values))
    factor, suffix = _unit(largest, unit) if unit else (1.0, "")
    step = (values[1] - values[0]) / factor
    digits = 2 + math.floor(math.log10(largest / factor)) - math.floor(math.log10(step))
    return [f"{value / factor:.{digits}g} {suffix}".rstrip() for value in values]


def _unit(largest: float, unit: str) -> tuple[float, str]:
    """Return the unit in which the largest number is written, and its size."""
    suffix = write(largest, unit).rpartition(" ")[2]
    sizes = [1000.0**power for power in range(-3, 7)]
    ones = (f"1.00 {suffix}", f"1 {suffix}")
    return next((size for size in sizes if write(size, unit) in ones), 1.0), suffix
