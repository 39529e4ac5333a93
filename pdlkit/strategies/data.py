"""Data parallelism: every device has the whole model and a share of the batch."""

import dataclasses

from pdlkit.strategies.spmd import Spmd


@dataclasses.dataclass(frozen=True)
class DataParallel(Spmd):
    """Cut the batch; sum the gradients.

    With `accumulate`, a device takes its share in so many micro-batches, one after
    another, and the sums are sent once: less memory, and the same update.

    Moves:  one all-reduce of the gradients a step.
    Keeps:  all parameters and optimizer state on every device.
    Source: Li et al. 2020, "PyTorch Distributed", https://arxiv.org/abs/2006.15704
    """

    axis: str = "data"
    accumulate: int = 1

    def cuts(self):
        return {"batch": self.axis}
