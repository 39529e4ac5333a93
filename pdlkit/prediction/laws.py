"""Speedup laws: how far more devices help, as numbers go in and come out.

A share is a number from 0 to 1, a speedup a ratio of times (2.0: twice as fast),
`n` a number of devices.
"""

import math
from collections.abc import Mapping

from pdlkit.errors import lesson


def amdahl(serial: float, n: int) -> float:
    """Return the speedup of n devices on the same work.

    Args:
        serial: share of one device's time that cannot be divided.
        n: devices, 1 or more.

    Raises:
        ValueError: a share outside of 0 to 1, or no device.

    Source: Amdahl 1967, "Validity of the single processor approach to achieving
    large scale computing capabilities", doi:10.1145/1465482.1465560
    """
    _check_share(serial)
    _check_devices(n)
    return 1 / (serial + (1 - serial) / n)


def gustafson(serial: float, n: int) -> float:
    """Return the scaled speedup: of n devices on n times the work.

    Args:
        serial: share of the n devices' time that is spent on what is not divided.
        n: devices, 1 or more.

    Raises:
        ValueError: a share outside of 0 to 1, or no device.

    Source: Gustafson 1988, "Reevaluating Amdahl's Law", doi:10.1145/42411.42415
    """
    _check_share(serial)
    _check_devices(n)
    return n - serial * (n - 1)


def efficiency(speedup: float, n: int) -> float:
    """Return the speedup for each device: 1 where none is wasted.

    Raises:
        ValueError: a speedup that is not above 0, or no device.
    """
    _check_speedup(speedup)
    _check_devices(n)
    return speedup / n


def karp_flatt(speedup: float, n: int) -> float:
    """Return the serial share that one measured speedup stands for.

    The share by which `amdahl` gives this speedup. Where it grows with n, what
    is lost is not serial work but talk between devices. Below 0 where the speedup
    is more than n, above 1 where n devices are slower than one; not clipped.

    Args:
        speedup: of n devices on the same work, measured.
        n: devices, 2 or more.

    Raises:
        ValueError: a speedup that is not above 0, or fewer than two devices.

    Source: Karp and Flatt 1990, "Measuring parallel processor performance",
    doi:10.1145/78607.78614
    """
    _check_speedup(speedup)
    _check_devices(n, fewest=2)
    return (1 / speedup - 1 / n) / (1 - 1 / n)


def fit_amdahl(speedups: Mapping[int, float]) -> float:
    """Return the serial share whose law comes nearest to measured speedups.

    Nearest in time: it minimises the sum over n of (1/speedup - 1/amdahl)**2, the
    squared errors of the time that n devices take as a share of one device's. Not
    clipped: like `karp_flatt`, which it equals for a single count, it leaves 0 to
    1 where the law does not hold.

    Args:
        speedups: devices -> speedup on the same work; one device says nothing.

    Raises:
        ValueError: no count above 1, or a speedup that is not above 0.
    """
    points = _more_than_one(speedups)
    # 1/S = s + (1 - s)/n is a line through (1/n, 1/n): 1/S - 1/n = s (1 - 1/n)
    return _slope([(1 - 1 / n, 1 / speedup - 1 / n) for n, speedup in points])


def fit_gustafson(speedups: Mapping[int, float]) -> float:
    """Return the serial share whose law comes nearest to measured scaled speedups.

    It minimises the sum over n of (speedup - gustafson)**2. Not clipped: below 0
    where the scaled speedup is more than n, above 1 where it is less than 1.

    Args:
        speedups: devices -> speedup on as many times the work.

    Raises:
        ValueError: no count above 1, or a speedup that is not above 0.
    """
    points = _more_than_one(speedups)
    return _slope([(n - 1, n - speedup) for n, speedup in points])  # n - S = s (n - 1)


def _slope(points: list[tuple[float, float]]) -> float:
    """Return the slope of the line through 0 that is nearest in squares of y."""
    return sum(x * y for x, y in points) / sum(x * x for x, _ in points)


def _more_than_one(speedups: Mapping[int, float]) -> list[tuple[int, float]]:
    for n, speedup in speedups.items():
        _check_devices(n)
        _check_speedup(speedup)
    points = [(n, speedup) for n, speedup in speedups.items() if n > 1]
    if not points:
        raise ValueError(
            lesson(
                f"no serial share can be fitted to the speedups of {list(speedups)} devices.",
                why="one device is as fast as itself under every law.",
                fix="the speedup of two devices or more: {1: 1.0, 2: 1.7}.",
            )
        )
    return points


def _check_share(serial: float) -> None:
    if not 0 <= serial <= 1:  # NaN is no share either
        raise ValueError(
            lesson(
                f"serial={serial} is no share.",
                why="it says which part of the time cannot be divided among devices.",
                fix="a number from 0 to 1, say 0.05.",
            )
        )


def _check_speedup(speedup: float) -> None:
    if not (speedup > 0 and math.isfinite(speedup)):
        raise ValueError(
            lesson(
                f"{speedup} is no speedup.",
                why="it is the time of one device over the time of n, and both are above 0.",
                fix="1.0 where n devices are no faster than one.",
            )
        )


def _check_devices(n: int, fewest: int = 1) -> None:
    if not (n >= fewest and float(n).is_integer()):
        alone = "one device has no speedup to explain" if fewest > 1 else "one is the fewest"
        raise ValueError(
            lesson(
                f"n={n} is not a number of devices.",
                why=f"devices are counted, and {alone}.",
                fix=f"a whole number from {fewest} on.",
            )
        )
