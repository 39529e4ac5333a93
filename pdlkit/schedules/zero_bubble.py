"""Zero-bubble schedules: weight gradients, awaited by nobody, fill the bubble."""

from collections import Counter
from collections.abc import Callable

from pdlkit.schedules.checking import check_sizes
from pdlkit.schedules.placing import alternating, weights_fill
from pdlkit.schedules.table import BACKWARD, FORWARD, Table, Task


def zero_bubble_h1(stages: int, microbatches: int) -> Table:
    """Return the schedule with 1F1B's memory and a third of its bubble.

    Where forward, backward and weight gradient take equally long: `stages - 1`
    idle ticks at most, and the activations of `stages` micro-batches at most.

    Raises:
        ValueError: fewer than one stage or micro-batch.

    Source: Qi et al. 2023, "Zero Bubble Pipeline Parallelism", https://arxiv.org/abs/2401.10241
    """
    ahead = lambda stage: stages - 1 - stage  # noqa: E731
    return _handcrafted("ZB-H1", stages, microbatches, ahead=ahead, limit=stages)


def zero_bubble_h2(stages: int, microbatches: int) -> Table:
    """Return the schedule without a bubble, for nearly twice 1F1B's memory.

    Where the three take equally long, and there are `2 stages - 1` micro-batches or
    more: no device waits between its first op and its last. The activations of
    `2 stages - 1` micro-batches at most.

    Raises:
        ValueError: fewer than one stage or micro-batch.

    Source: Qi et al. 2023, "Zero Bubble Pipeline Parallelism", https://arxiv.org/abs/2401.10241
    """
    ahead = lambda stage: 2 * (stages - 1 - stage)  # noqa: E731
    return _handcrafted("ZB-H2", stages, microbatches, ahead=ahead, limit=2 * stages - 1)


def zero_bubble_v(stages: int, microbatches: int) -> Table:
    """Return the schedule without a bubble in 1F1B's memory, for twice the messages.

    A device holds two chunks, one on the way down the devices and one on the way up,
    so that the last virtual stage is on the first device. Where the three take
    equally long, and there are `2 stages` micro-batches or more: no device waits.
    `2 stages` chunks of activations at most, each half of a device's layers.

    Raises:
        ValueError: fewer than one stage or micro-batch.

    Source: Qi et al. 2024, "Pipeline Parallelism with Controllable Memory",
    https://arxiv.org/abs/2405.15362
    """
    check_sizes(stages=stages, microbatches=microbatches)
    placement = [*range(stages), *reversed(range(stages))]
    orders = [_v_order(device, stages, microbatches) for device in range(stages)]
    return weights_fill("ZB-V", placement, microbatches, orders, limit=2 * stages)


def _handcrafted(name: str, stages: int, microbatches: int, *, ahead: Callable, limit) -> Table:
    check_sizes(stages=stages, microbatches=microbatches)

    def order(stage: int) -> list[Task]:
        there, back = (
            [Task(kind, stage, i) for i in range(microbatches)] for kind in (FORWARD, BACKWARD)
        )
        return alternating(there, back, ahead=ahead(stage))

    orders = [order(stage) for stage in range(stages)]
    return weights_fill(name, range(stages), microbatches, orders, limit=limit)


def _v_order(device: int, stages: int, microbatches: int) -> list[Task]:
    """Return the forwards and backwards of one device, down and up the V."""
    down, up = device, 2 * stages - 1 - device
    f_down, f_up, b_down, b_up = (
        (kind, virtual) for kind in (FORWARD, BACKWARD) for virtual in (down, up)
    )
    pattern = [
        *[f_down] * (2 * (stages - device) - 1),
        *[f_up, f_down] * device,
        *[f_up, b_up] * (stages - device),
        # Once full; what is left over of it at the end has no micro-batch.
        *[f_down, b_down, f_up, b_up] * (microbatches + stages),
    ]
    seen, order = Counter(), []
    for kind, virtual in pattern:
        if seen[kind, virtual] < microbatches:
            order.append(Task(kind, virtual, seen[kind, virtual]))
        seen[kind, virtual] += 1
    return order
