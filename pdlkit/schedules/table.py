"""A pipeline schedule as data: which device does what, at which tick."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pdlkit.records import Shown

FORWARD = "forward"
BACKWARD = "backward"  # the gradient of a stage's input
WEIGHT = "weight"  # the gradient of its weights, which nobody waits for
BOTH = "both"  # the two gradients as one op
KINDS = (FORWARD, BACKWARD, WEIGHT, BOTH)


class Op(NamedTuple):
    """What one device does in one tick."""

    kind: str  # one of KINDS
    device: int
    tick: int
    microbatch: int
    chunk: int = 0  # which of the device's virtual stages, in network order


class Task(NamedTuple):
    """What must be done once; an op of kind `both` does two."""

    kind: str  # FORWARD, BACKWARD or WEIGHT; BOTH in the order that a device is given
    virtual: int  # the virtual stage, counted through the whole network
    microbatch: int


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

    def virtual(self, device: int, chunk: int) -> int:
        """Return which virtual stage a chunk of a device is."""
        return [k for k, where in enumerate(self.placement) if where == device][chunk]

    def order(self, device: int) -> tuple[Op, ...]:
        """Return what a device does, first op first."""
        return tuple(sorted((op for op in self.ops if op.device == device), key=lambda op: op.tick))

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
        return tuple(max(_held(self.order(device)), default=0) for device in range(self.stages))

    @property
    def idle_ticks(self) -> tuple[int, ...]:
        """The ticks between each device's first op and its last in which it waits."""
        return tuple(_gaps(self.order(device)) for device in range(self.stages))


Orders = Sequence[Sequence[Task]]  # of each device, what it does, first task first


def needs(task: Task, virtual_stages: int) -> tuple[Task, ...]:
    """Return the tasks whose results a task reads."""
    kind, virtual, microbatch = task
    if kind == FORWARD:
        return (Task(FORWARD, virtual - 1, microbatch),) if virtual else ()
    if kind == WEIGHT:
        return (Task(BACKWARD, virtual, microbatch),)
    own = Task(FORWARD, virtual, microbatch)
    above = Task(BACKWARD, virtual + 1, microbatch)
    return (own, above) if virtual + 1 < virtual_stages else (own,)


def _held(order):
    held = 0
    for op in order:
        held += op.kind == FORWARD
        yield held
        held -= op.kind in (WEIGHT, BOTH)


def _gaps(order) -> int:
    return order[-1].tick - order[0].tick + 1 - len(order) if order else 0
