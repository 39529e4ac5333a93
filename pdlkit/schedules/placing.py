"""From the order of each device's ops to their ticks."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from pdlkit.errors import lesson
from pdlkit.schedules.checking import check, check_orders, words
from pdlkit.schedules.table import Op, Table
from pdlkit.schedules.tasks import KINDS, Numbers, Orders, Task


def alternating(there: list[Task], back: list[Task], *, ahead: int) -> list[Task]:
    """Return some forwards, then forward and backward by turns, then the rest."""
    ahead = min(ahead, len(there))
    pairs = zip(there[ahead:], back, strict=False)
    return [*there[:ahead], *(task for pair in pairs for task in pair), *back[len(there) - ahead :]]


def in_order(name: str, placement: Sequence[int], microbatches: int, orders: Orders) -> Table:
    """Return the schedule in which devices do their tasks in order, soon as they can.

    Raises:
        ValueError: the devices wait for each other, or a task is missing, or not the device's.
    """
    check_orders(orders, placement)
    ticks = _ticks(orders, len(placement))
    chunk = _chunks(placement)
    ops = [
        Op(kind, device, tick, microbatch, chunk[virtual])
        for device, order in enumerate(orders)
        for (kind, virtual, microbatch), tick in zip(order, ticks[device], strict=False)
    ]
    ops.sort(key=lambda op: op.tick)
    check_finished([order[len(done) :] for order, done in zip(orders, ticks, strict=True)])
    table = Table(name, tuple(placement), microbatches, tuple(ops))
    check(table)
    return table


def _ticks(orders: Orders, virtual_stages: int) -> list[list[int]]:
    """Return the tick of each device's tasks, as far as they can be done."""
    tasks = [task for order in orders for task in order]
    microbatches = 1 + max((task.microbatch for task in tasks), default=0)
    numbers = Numbers(virtual_stages, microbatches)
    kind = np.array([KINDS.index(task.kind) for task in tasks], int)
    virtual, microbatch = (np.array([task[i] for task in tasks], int) for i in (1, 2))
    read, gives = numbers.read(kind, virtual, microbatch), numbers.of(kind, virtual, microbatch)
    ends = np.cumsum([len(order) for order in orders])
    begins = np.concatenate([[0], ends[:-1]])
    there = np.zeros(numbers.none + 1, bool)
    there[-1] = True

    ticks, heads = np.zeros(len(tasks), int), begins.copy()
    tick, able = 0, np.flatnonzero(heads < ends)
    while len(able):
        at = heads[able]
        now = there[read[0, at]] & there[read[1, at]]
        if not now.any():
            break
        able, at = able[now], at[now]
        there[gives[at]], ticks[at] = True, tick
        heads[able] += 1
        tick, able = tick + 1, np.flatnonzero(heads < ends)
    return [ticks[a:b].tolist() for a, b in zip(begins, heads, strict=True)]


def _chunks(placement: Sequence[int]) -> list[int]:
    """Return of each virtual stage how many its device holds before it."""
    seen = Counter()
    chunks = []
    for device in placement:
        chunks.append(seen[device])
        seen[device] += 1
    return chunks


def check_finished(left: Sequence[Sequence[Task]]) -> None:
    """Raise if a device has tasks left that it cannot begin."""
    for device, queue in enumerate(left):
        if queue:
            raise ValueError(
                lesson(
                    f"deadlock: device {device} waits for ever before the {words(queue[0])}.",
                    why="what it reads comes later in the order, of this device or another.",
                    fix="a forward before its backward, and as many ahead as the stages after it.",
                )
            )
