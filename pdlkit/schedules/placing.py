"""From the order of each device's ops to their ticks."""

from collections import deque
from collections.abc import Callable, Sequence

from pdlkit.errors import lesson
from pdlkit.schedules.checking import check, check_orders, words
from pdlkit.schedules.table import BACKWARD, BOTH, FORWARD, WEIGHT, Op, Orders, Table, Task, needs


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
    queues = [deque(order) for order in orders]

    def choose(device: int, ready: Callable) -> Task | None:
        queue = queues[device]
        return queue.popleft() if queue and ready(queue[0]) else None

    return _finished(_table(name, placement, microbatches, choose), queues)


def weights_fill(
    name: str, placement: Sequence[int], microbatches: int, orders: Orders, *, limit: int
) -> Table:
    """Return the schedule in which weight gradients fill the ticks of waiting.

    Forwards and backwards go in the given order. A device that cannot do its next
    one, or would hold the activations of more than `limit` micro-batches, does the
    weight gradient that has waited longest.

    Raises:
        ValueError: the devices wait for each other, or a task is missing, or not the device's.

    Source: Qi et al. 2023, "Zero Bubble Pipeline Parallelism", https://arxiv.org/abs/2401.10241
    """
    check_orders(orders, placement)
    queues = [deque(order) for order in orders]
    waiting: list[deque[Task]] = [deque() for _ in orders]
    held = [0] * len(queues)

    def choose(device: int, ready: Callable) -> Task | None:
        queue, weights = queues[device], waiting[device]
        if queue and ready(queue[0]) and (queue[0].kind != FORWARD or held[device] < limit):
            task = queue.popleft()
            if task.kind == BACKWARD:
                weights.append(task._replace(kind=WEIGHT))
        elif weights:
            task = weights.popleft()
        else:
            return None
        held[device] += (task.kind == FORWARD) - (task.kind == WEIGHT)
        return task

    return _finished(_table(name, placement, microbatches, choose), queues)


def _table(name, placement, microbatches, choose: Callable) -> Table:
    """Return the table of what `choose` takes, tick by tick, until it takes nothing."""
    placement = tuple(placement)
    chunk = [placement[:k].count(device) for k, device in enumerate(placement)]
    done: set[Task] = set()
    ops: list[Op] = []

    def ready(task: Task) -> bool:
        tasks = needs(task._replace(kind=BACKWARD) if task.kind == BOTH else task, len(placement))
        return done.issuperset(tasks)

    tick = 0
    while taken := [(d, task) for d in sorted(set(placement)) if (task := choose(d, ready))]:
        for device, (kind, virtual, microbatch) in taken:
            ops.append(Op(kind, device, tick, microbatch, chunk[virtual]))
            done.add(Task(BACKWARD if kind == BOTH else kind, virtual, microbatch))
        tick += 1
    return Table(name, placement, microbatches, tuple(ops))


def _finished(table: Table, queues: list[deque[Task]]) -> Table:
    for device, queue in enumerate(queues):
        if queue:
            raise ValueError(
                lesson(
                    f"deadlock: device {device} waits for ever before the {words(queue[0])}.",
                    why="what it reads comes later in the order, of this device or another.",
                    fix="a forward before its backward, and as many ahead as the stages after it.",
                )
            )
    check(table)
    return table
