"""The records of what was timed: more and more devices, or several strategies."""

import dataclasses
import importlib
from collections.abc import Mapping
from typing import NamedTuple

from pdlkit.records import Shown


class Timing(NamedTuple):
    """Measured: the steps of one program, each waited for."""

    devices: int
    mesh: Mapping[str, int]  # axis -> size
    minimum: float  # seconds a step
    median: float  # seconds a step
    cores_busy: float  # seconds of CPU in each second of the timed steps
    steps: int  # that were timed
    examples: int  # in one batch


class Portrayed(Shown):
    """A record that is called what its picture is: the same on every run."""

    def __repr__(self) -> str:
        return repr(importlib.import_module("pdlkit.drawing").show(self))


@dataclasses.dataclass(frozen=True, repr=False)
class Speedup(Portrayed):
    """Measured: how many times as fast as one device more of them are.

    Measured as far as there are cores; past them only the two laws say something,
    by serial shares that are fitted to what was measured and not clipped to 0..1.
    """

    name: str  # digits_mlp by DataParallel
    cores: int  # as many devices as can be measured here
    how: str  # sentences: the way it was measured
    asked: tuple[int, ...]  # counts of devices, from 1 up
    strong: tuple[Timing, ...] = ()  # the same batches for every count, one device first
    weak: tuple[Timing, ...] = ()  # n batches joined for n devices, one device first
    amdahl: float | None = None  # fitted to `speedups`; None while there is one count only
    gustafson: float | None = None  # likewise to `scaled_speedups`

    @property
    def speedups(self) -> dict[int, float]:
        """Strong scaling by the shortest steps: devices -> speedup."""
        return _gains(self.strong, "minimum")

    @property
    def median_speedups(self) -> dict[int, float]:
        """Strong scaling by the median steps: devices -> speedup."""
        return _gains(self.strong, "median")

    @property
    def scaled_speedups(self) -> dict[int, float]:
        """Weak scaling by the shortest steps: devices -> examples a second, over one's."""
        return _gains(self.weak, "minimum")

    @property
    def median_scaled_speedups(self) -> dict[int, float]:
        """Weak scaling by the median steps: devices -> examples a second, over one's."""
        return _gains(self.weak, "median")

    @property
    def efficiency(self) -> dict[int, float]:
        """Speedup for each device: 1 where none is wasted."""
        return {n: speedup / n for n, speedup in self.speedups.items()}

    @property
    def karp_flatt(self) -> dict[int, float]:
        """The serial share that each speedup stands for, from two devices on."""
        return {n: (n / s - 1) / (n - 1) for n, s in self.speedups.items() if n > 1}


def _gains(timings: tuple[Timing, ...], figure: str) -> dict[int, float]:
    """Return devices -> how many times one device's examples a second they do."""
    rates = {each.devices: each.examples / getattr(each, figure) for each in timings}
    return {n: rate / rates[1] for n, rate in rates.items()}


class Compared(NamedTuple):
    """One strategy on one mesh, beside others."""

    name: str
    devices: int
    mesh: Mapping[str, int]  # axis -> size
    gradient_error: float  # measured: largest relative difference from one device's, by SGD
    update_error: float  # measured: likewise of updates by the workload's own optimizer
    wire_bytes: int  # counted: what one device sends in a step
    memory: int  # counted: bytes that one device holds in a step
    seconds: float  # measured: a step, the median
    agrees: bool  # with one device, within the tolerances of `check.same_update`


@dataclasses.dataclass(frozen=True, repr=False)
class Comparison(Portrayed):
    """Measured and counted: several strategies on one workload, a row each."""

    name: str  # the workload's
    rows: tuple[Compared, ...]
    how: str  # sentences: the way it was measured
