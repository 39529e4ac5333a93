"""GPipe: all forwards, then all backwards."""

from pdlkit.schedules.checking import check_sizes
from pdlkit.schedules.placing import in_order
from pdlkit.schedules.table import Table
from pdlkit.schedules.tasks import BOTH, FORWARD, Task


def gpipe(stages: int, microbatches: int) -> Table:
    """Return the schedule that runs all micro-batches forward, then all back.

    Each device idles `2 (stages - 1)` ticks at most, and holds the activations of
    all micro-batches.

    Raises:
        ValueError: fewer than one stage or micro-batch.

    Source: Huang et al. 2019, "GPipe", https://arxiv.org/abs/1811.06965
    """
    check_sizes(stages=stages, microbatches=microbatches)
    there, back = range(microbatches), reversed(range(microbatches))
    steps = [(FORWARD, i) for i in there] + [(BOTH, i) for i in back]
    orders = [[Task(kind, stage, i) for kind, i in steps] for stage in range(stages)]
    return in_order("GPipe", range(stages), microbatches, orders)
