"""A pipeline schedule as data: which device does what, at which tick."""

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np

from pdlkit.records import Shown
from pdlkit.schedules.tasks import BACKWARD, BOTH, FORWARD, KINDS, WEIGHT, Task


class Op(NamedTuple):
    """What one device does in one tick."""

    kind: str  # one of KINDS
    device: int
    tick: int
    microbatch: int
    chunk: int = 0  # which of the device's virtual stages, in network order


class Columns(NamedTuple):
    """The ops of a schedule, [ops] each: for what looks at all of them at once."""

    kind: np.ndarray  # index into KINDS, -1 for what is none
    device: np.ndarray
    tick: np.ndarray
    microbatch: np.ndarray
    chunk: np.ndarray


@dataclasses.dataclass(frozen=True, repr=False)
class Table(Shown):
    """A schedule: ops on a grid of devices and ticks, each one tick long.

    What an op gives can be used from the next tick on, on whichever device.
    """

    name: str
    placement: tuple[int, ...]  # the device of each virtual stage, in network order
    microbatches: int
    ops: tuple[Op, ...]

    def __repr__(self) -> str:
        return (
            f"<{self.name}: {self.stages} stages, {self.microbatches} micro-batches, "
            f"{self.ticks} ticks>"
        )

    @property
    def stages(self) -> int:
        """How many devices it is for."""
        return len(set(self.placement))

    @property
    def chunks(self) -> int:
        """How many virtual stages a device holds."""
        return len(self.placement) // self.stages

    @property
    def ticks(self) -> int:
        """How many ticks it takes, from the first to the last."""
        return 1 + max(op.tick for op in self.ops)

    @cached_property
    def held(self) -> tuple[tuple[int, ...], ...]:
        """The virtual stages of each device, in network order."""
        stages = [[] for _ in range(self.stages)]
        for virtual, device in enumerate(self.placement):
            stages[device].append(virtual)
        return tuple(map(tuple, stages))

    @cached_property
    def columns(self) -> Columns:
        """The ops as arrays, in their order."""
        kinds = {kind: code for code, kind in enumerate(KINDS)}
        kind, *numbers = zip(*self.ops, strict=True) if self.ops else [()] * len(Op._fields)
        return Columns(
            np.array([kinds.get(each, -1) for each in kind], int), *(np.array(n) for n in numbers)
        )

    @cached_property
    def stage_of_ops(self) -> np.ndarray:
        """[ops], the virtual stage of each."""
        return np.array(self.held)[self.columns.device, self.columns.chunk]

    def virtual(self, device: int, chunk: int) -> int:
        """Return which virtual stage a chunk of a device is."""
        return self.held[device][chunk]

    @cached_property
    def orders(self) -> tuple[tuple[Op, ...], ...]:
        """What each device does, first op first."""
        orders = [[] for _ in range(self.stages)]
        for op in sorted(self.ops, key=lambda op: op.tick):
            orders[op.device].append(op)
        return tuple(map(tuple, orders))

    def order(self, device: int) -> tuple[Op, ...]:
        """Return what a device does, first op first."""
        return self.orders[device]

    def tasks(self) -> Mapping[Task, Op]:
        """Return the op that does each task."""
        return {task: op for op in self.ops for task in self.done_by(op)}

    def done_by(self, op: Op) -> tuple[Task, ...]:
        """Return the tasks of one op."""
        kinds = (BACKWARD, WEIGHT) if op.kind == BOTH else (op.kind,)
        virtual = self.virtual(op.device, op.chunk)
        return tuple(Task(kind, virtual, op.microbatch) for kind in kinds)

    @property
    def peak_activations(self) -> tuple[int, ...]:
        """The most micro-batches that each device holds activations of at once.

        From the forward op to the last gradient that reads them. Each chunk counts:
        with `chunks` to a device, one is `1 / chunks` of the device's layers.
        """
        return tuple(max(_held(order), default=0) for order in self.orders)

    @property
    def idle_ticks(self) -> tuple[int, ...]:
        """The ticks between each device's first op and its last in which it waits."""
        return tuple(map(_gaps, self.orders))


def _held(order):
    held = 0
    for op in order:
        held += op.kind == FORWARD
        yield held
        held -= op.kind in (WEIGHT, BOTH)


def _gaps(order) -> int:
    return order[-1].tick - order[0].tick + 1 - len(order) if order else 0
