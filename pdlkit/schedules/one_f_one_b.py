"""1F1B and interleaved 1F1B: a backward as soon as there is one to do."""

from pdlkit.errors import fitting_sizes, lesson
from pdlkit.schedules.checking import check_sizes
from pdlkit.schedules.placing import alternating, in_order
from pdlkit.schedules.table import Table
from pdlkit.schedules.tasks import BOTH, FORWARD, Task

_KINDS = (FORWARD, BOTH)


def one_f_one_b(stages: int, microbatches: int) -> Table:
    """Return the schedule that alternates, once full: one forward, one backward.

    Idle as long as GPipe, but device i holds the activations of no more than
    `stages - i` micro-batches.

    Raises:
        ValueError: fewer than one stage or micro-batch.

    Source: Harlap et al. 2018, "PipeDream", https://arxiv.org/abs/1806.03377; Narayanan et
    al. 2021, "Memory-Efficient Pipeline-Parallel DNN Training",
    https://arxiv.org/abs/2006.09503
    """
    check_sizes(stages=stages, microbatches=microbatches)

    def order(stage: int) -> list[Task]:
        there, back = ([Task(kind, stage, i) for i in range(microbatches)] for kind in _KINDS)
        return alternating(there, back, ahead=stages - 1 - stage)

    return in_order("1F1B", range(stages), microbatches, [order(i) for i in range(stages)])


def interleaved(stages: int, microbatches: int, *, chunks: int = 2) -> Table:
    """Return 1F1B with several virtual stages to a device, and a smaller bubble.

    Virtual stage k is on device `k % stages`. With `chunks` of them to a device the
    bubble is as many times smaller, and as many times as much is sent.

    Raises:
        ValueError: the stages do not divide the micro-batches, or a size below one.

    Source: Narayanan et al. 2021, "Efficient Large-Scale Language Model Training on GPU
    Clusters Using Megatron-LM", https://arxiv.org/abs/2104.04473
    """
    check_sizes(stages=stages, microbatches=microbatches, chunks=chunks)
    if microbatches % stages:
        raise ValueError(
            lesson(
                f"{microbatches} micro-batches are no multiple of {stages} stages.",
                why="interleaved 1F1B sends micro-batches round the devices in groups of as many.",
                fix=f"{fitting_sizes(microbatches, stages)} micro-batches, or one_f_one_b.",
            )
        )
    groups = range(0, microbatches, stages)

    def order(device: int) -> list[Task]:
        there, back = (
            [
                Task(kind, chunk * stages + device, first + i)
                for first in groups
                for chunk in passes
                for i in range(stages)
            ]
            for kind, passes in zip(_KINDS, (range(chunks), range(chunks)[::-1]), strict=True)
        )
        apart = 1 if chunks == 1 else 2  # a device on, the first backward comes this much sooner
        ahead = apart * (stages - 1 - device) + (chunks - 1) * stages
        return alternating(there, back, ahead=ahead)

    placement = [*range(stages)] * chunks
    return in_order("interleaved 1F1B", placement, microbatches, [*map(order, range(stages))])
