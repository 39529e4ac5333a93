"""Zero-bubble schedules: weight gradients, awaited by nobody, fill the bubble."""

import math
from collections import Counter
from collections.abc import Callable, Sequence

from pdlkit.schedules.checking import check_sizes
from pdlkit.schedules.filling import EQUAL, Room, Times, filled, weights_fill
from pdlkit.schedules.placing import alternating, in_order
from pdlkit.schedules.table import Table
from pdlkit.schedules.tasks import BACKWARD, FORWARD, Task


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
    return weights_fill("ZB-V", placement, microbatches, orders, room=Room(2 * stages))


def zero_bubble_1p(
    stages: int, microbatches: int, *, times: Times = EQUAL, kept: float = 1.0
) -> Table:
    """Return the best schedule found for these times in the memory of 1F1B.

    Args:
        stages: how many devices.
        microbatches: how many.
        times: how long the ops take; only their ratios matter.
        kept: the share of a micro-batch's activations that its weight gradient reads.

    Raises:
        ValueError: fewer than one stage or micro-batch, or times that are negative.

    Source: Qi et al. 2023, "Zero Bubble Pipeline Parallelism", section 3.1,
    https://arxiv.org/abs/2401.10241
    """
    return _searched("ZB-1p", (stages, microbatches), times, Room(stages, kept))


def zero_bubble_2p(
    stages: int, microbatches: int, *, times: Times = EQUAL, kept: float = 1.0
) -> Table:
    """Return the best schedule found for these times in twice the memory of 1F1B.

    Arguments, errors and source are those of `zero_bubble_1p`.
    """
    return _searched("ZB-2p", (stages, microbatches), times, Room(2 * stages, kept))


def _handcrafted(name: str, stages: int, microbatches: int, *, ahead: Callable, limit) -> Table:
    check_sizes(stages=stages, microbatches=microbatches)
    orders = _ahead(microbatches, [ahead(stage) for stage in range(stages)])
    return weights_fill(name, range(stages), microbatches, orders, room=Room(limit))


def _searched(name: str, sizes: tuple[int, int], times: Times, room: Room) -> Table:
    """Return the schedule with the smallest bubble of a family.

    Its members differ in how many forwards a stage is ahead of the next one, and in
    how short a gap a weight gradient is still put into.
    """
    stages, microbatches = sizes
    check_sizes(stages=stages, microbatches=microbatches)
    most = int(room.limit) - 1
    ahead = {  # a stage is ahead of the next by one to three
        tuple(min(math.ceil(quarters / 4 * (stages - 1 - i)), most) for i in range(stages))
        for quarters in range(4, 13)
    }
    placement = range(stages)
    tried = (
        filled(placement, _ahead(microbatches, each), room, times, least_gap=gap)
        for each in sorted(ahead)
        for gap in (0.0, 0.5, 1.0)
    )
    orders, _ = min(tried, key=lambda orders_and_time: orders_and_time[1])
    return in_order(name, placement, microbatches, orders)


def _ahead(microbatches: int, ahead: Sequence[int]) -> list[list[Task]]:
    """Return orders in which each stage has so many forwards ahead of its backwards."""
    return [
        alternating(
            *([Task(kind, stage, i) for i in range(microbatches)] for kind in (FORWARD, BACKWARD)),
            ahead=most,
        )
        for stage, most in enumerate(ahead)
    ]


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
