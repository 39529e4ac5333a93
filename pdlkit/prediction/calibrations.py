"""What was measured on a machine, and the sheet that was fitted to it."""

import dataclasses
from typing import NamedTuple

import numpy as np

from pdlkit.prediction.hardware import Hardware
from pdlkit.timings import Portrayed


class Sample(NamedTuple):
    """Measured: what was done, and how long it took."""

    kind: str  # start, product, stream or all_reduce
    size: int  # side of square matrices, or bytes; of one device
    seconds: float  # the median of several
    operations: int = 0  # counted in the compiled program, and so are the next two
    flops: int = 0
    bytes_accessed: int = 0


class Residual(NamedTuple):
    """One sample, and what the fitted figures say of it."""

    sample: Sample
    modelled: float  # seconds

    @property
    def error(self) -> float:
        """How much longer the model takes, as a share of what was measured."""
        return self.modelled / self.sample.seconds - 1


@dataclasses.dataclass(frozen=True, repr=False)
class Calibration(Portrayed):
    """A device's sheet, fitted to measured seconds, and how well it agrees with them."""

    hardware: Hardware
    residuals: tuple[Residual, ...]
    devices: int  # that the messages were measured among

    def error(self, kind: str) -> float:
        """Return the mean absolute error of one kind of sample, as a share."""
        return float(np.mean([abs(r.error) for r in self.residuals if r.sample.kind == kind]))
