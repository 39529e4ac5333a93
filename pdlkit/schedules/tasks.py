"""What must be done once for each micro-batch and stage, and what that reads."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

FORWARD = "forward"
BACKWARD = "backward"  # the gradient of a stage's input
WEIGHT = "weight"  # the gradient of its weights, which nobody waits for
BOTH = "both"  # the two gradients as one op
KINDS = (FORWARD, BACKWARD, WEIGHT, BOTH)
SINGLE = KINDS[:3]

_READS = {  # the kind that is read, and of which stage, counted from one's own
    FORWARD: ((FORWARD, -1),),
    BACKWARD: ((FORWARD, 0), (BACKWARD, 1)),
    WEIGHT: ((BACKWARD, 0),),
    BOTH: ((FORWARD, 0), (BACKWARD, 1)),
}


class Task(NamedTuple):
    """What must be done once; an op of kind `both` does two."""

    kind: str  # FORWARD, BACKWARD or WEIGHT; BOTH in the order that a device is given
    virtual: int  # the virtual stage, counted through the whole network
    microbatch: int


Orders = Sequence[Sequence[Task]]  # of each device, what it does, first task first


def needs(task: Task, virtual_stages: int) -> tuple[Task, ...]:
    """Return the tasks whose results a task reads."""
    return tuple(
        Task(kind, task.virtual + step, task.microbatch)
        for kind, step in _READS[task.kind]
        if 0 <= task.virtual + step < virtual_stages
    )


class Numbers(NamedTuple):
    """Tasks as whole numbers: an array with a place for each, and one for none."""

    virtual_stages: int
    microbatches: int

    @property
    def none(self) -> int:
        """The number of no task, which is the last place of an array of all."""
        return len(SINGLE) * self.virtual_stages * self.microbatches

    def of(self, kind, virtual, microbatch):
        """Return the number of each task; of kind `both` that of the input gradient.

        Args:
            kind: [...], index into KINDS.
            virtual: [...].
            microbatch: [...].
        """
        kind = np.where(kind == KINDS.index(BOTH), KINDS.index(BACKWARD), kind)
        return (kind * self.virtual_stages + virtual) * self.microbatches + microbatch

    def task(self, number) -> Task:
        """Return the task that a number stands for."""
        rest, microbatch = divmod(int(number), self.microbatches)
        kind, virtual = divmod(rest, self.virtual_stages)
        return Task(KINDS[kind], virtual, microbatch)

    def read(self, kind, virtual, microbatch) -> np.ndarray:
        """Return [2, ...], the numbers of the tasks that each reads, or `none`."""
        read = np.full((2, *kind.shape), self.none)
        for code, own in enumerate(KINDS):
            for place, (other, step) in enumerate(_READS[own]):
                stage = virtual + step
                is_read = (kind == code) & (stage >= 0) & (stage < self.virtual_stages)
                number = self.of(np.full_like(kind, KINDS.index(other)), stage, microbatch)
                read[place] = np.where(is_read, number, read[place])
        return read
