"""Weight gradients, awaited by nobody, put where a device would wait."""

import heapq
import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from pdlkit.errors import lesson
from pdlkit.schedules.checking import check_orders
from pdlkit.schedules.placing import check_finished, in_order
from pdlkit.schedules.table import Table
from pdlkit.schedules.tasks import BACKWARD, FORWARD, WEIGHT, Orders, Task, needs


class Times(NamedTuple):
    """How long the ops of one micro-batch and virtual stage take, in any one unit."""

    forward: float = 1.0
    backward: float = 1.0
    weight: float = 1.0
    transfer: float = 0.0  # from one device to another


EQUAL = Times()


class Room(NamedTuple):
    """What a device may hold."""

    limit: float  # activations of so many micro-batches
    kept: float = 1.0  # the share of them that a weight gradient still reads


def weights_fill(  # noqa: PLR0913  the times of a schedule
    name: str,
    placement: Sequence[int],
    microbatches: int,
    orders: Orders,
    *,
    room: Room,
    times: Times = EQUAL,
    least_gap: float = 0.0,
) -> Table:
    """Return the schedule in which weight gradients fill the waiting.

    Forwards and backwards go in the given order. A device that cannot do its next
    one, or has no room for its activations, does the weight gradient that has waited
    longest.

    Args:
        name: what it is called.
        placement: the device of each virtual stage, in network order.
        microbatches: how many.
        orders: of each device its forwards and backwards, first task first.
        room: what each device may hold.
        times: how long the ops take.
        least_gap: how long the wait must be for a weight gradient to begin, in
            lengths of one; where the device has no room, none is too short.

    Raises:
        ValueError: the devices wait for each other, or a task is missing, or not the device's.

    Source: Qi et al. 2023, "Zero Bubble Pipeline Parallelism", https://arxiv.org/abs/2401.10241
    """
    done, _ = filled(placement, orders, room, times, least_gap=least_gap)
    return in_order(name, placement, microbatches, done)


def filled(
    placement: Sequence[int], orders: Orders, room: Room, times: Times, *, least_gap: float
) -> tuple[Orders, float]:
    """Return the orders of `weights_fill`, and how long the busiest device is at it.

    From the start of its first op to the end of its last.
    """
    check_orders(orders, placement)
    _check_room(times, room)
    filling = _Filling(placement, orders, room, times)
    wakes = [(0.0, device) for device in range(len(orders))]
    while wakes:
        now, device = heapq.heappop(wakes)
        if filling.free[device] <= now:
            for wake in filling.next(device, now, least_gap):
                heapq.heappush(wakes, wake)
    check_finished(filling.queues)
    spans = zip(filling.first, filling.free, strict=True)
    return filling.done, max(last - first for first, last in spans if first is not None)


def _check_room(times: Times, room: Room) -> None:
    """Raise if these are no times, or no room for a micro-batch."""
    if not all(math.isfinite(each) and each >= 0 for each in times):
        raise ValueError(
            lesson(
                f"{times} cannot be.",
                why="an op and a message last some seconds, or none.",
                fix="Times(forward=1.0, backward=1.0, weight=0.5, transfer=0.1).",
            )
        )
    if room.limit < 1 or not 0 <= room.kept <= 1:
        raise ValueError(
            lesson(
                f"{room} holds no micro-batch.",
                why="kept is a share of the activations of one, and limit counts them.",
                fix="Room(limit=4, kept=1.0): a weight gradient reads all that the forward saved.",
            )
        )


class _Filling:
    """Devices that work through their queues, at one moment."""

    def __init__(self, placement: Sequence[int], orders: Orders, room: Room, times: Times):
        self.placement, self.room = placement, room
        self.transfer = times.transfer
        self.lasts = {FORWARD: times.forward, BACKWARD: times.backward, WEIGHT: times.weight}
        # Once there, the rest of its activations is free again.
        self.takes = {FORWARD: 1.0, BACKWARD: room.kept - 1, WEIGHT: -room.kept}
        self.queues = [deque(order) for order in orders]
        self.weights: list[deque[Task]] = [deque() for _ in orders]
        self.done: list[list[Task]] = [[] for _ in orders]
        self.free = [0.0] * len(orders)
        self.held = [0.0] * len(orders)
        self.first: list[float | None] = [None] * len(orders)
        self.ends: dict[Task, float] = {}

    def next(self, device: int, now: float, least_gap: float) -> list[tuple[float, int]]:
        """Begin what the device does now; return when to look at which device again."""
        queue, weights = self.queues[device], self.weights[device]
        arrives, has_room = math.inf, True
        if queue:
            arrives = self._arrives(queue[0])
            has_room = self.held[device] + self.takes[queue[0].kind] <= self.room.limit + 1e-9
            if arrives <= now and has_room:
                return self._begin(queue.popleft(), device, now)
        gap = arrives - now if has_room else math.inf
        if weights and gap >= least_gap * self.lasts[WEIGHT]:
            return self._begin(weights.popleft(), device, now)
        return [(arrives, device)] if now < arrives < math.inf else []

    def _arrives(self, task: Task) -> float:
        """Return from when on a task can be done; infinity where nobody knows yet."""
        there = 0.0
        for before in needs(task, len(self.placement)):
            sent = self.placement[before.virtual] != self.placement[task.virtual]
            there = max(there, self.ends.get(before, math.inf) + sent * self.transfer)
        return there

    def _begin(self, task: Task, device: int, now: float) -> list[tuple[float, int]]:
        end = self.ends[task] = self.free[device] = now + self.lasts[task.kind]
        self.held[device] += self.takes[task.kind]
        self.done[device].append(task)
        if self.first[device] is None:
            self.first[device] = now
        if task.kind == BACKWARD:
            self.weights[device].append(task._replace(kind=WEIGHT))
        reader = task.virtual + {FORWARD: 1, BACKWARD: -1, WEIGHT: 0}[task.kind]
        wakes = [(end, device)]
        if 0 <= reader < len(self.placement) and self.placement[reader] != device:
            wakes.append((end + self.transfer, self.placement[reader]))
        return wakes
