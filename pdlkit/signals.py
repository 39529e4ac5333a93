"""What a callback of training may answer: the channel of a board's controls."""

from typing import NamedTuple


class Stop(NamedTuple):
    """End the training after this step; what was learned is kept."""


class Pause(NamedTuple):
    """Hold still, and ask the callback again a moment later."""


class Set(NamedTuple):
    """Go on with another learning rate, or on another number of devices.

    The first axis of the mesh grows or shrinks; weights and optimizer go along.
    """

    learning_rate: float | None = None
    devices: int | None = None


class Slow(NamedTuple):
    """Give one device, by its place in the mesh, extra work before each step.

    The work is real and changes no weight; `seconds` is what it takes alone on this
    machine. `Slow(device, 0)` takes it away again, and so does a change of the mesh.
    """

    device: int
    seconds: float


class Drop(NamedTuple):
    """Go on without one device, by its place in the mesh, with the same weights.

    The first axis of the mesh shrinks to what the devices that are left can fill
    and the batch can be cut into.
    """

    device: int


Signal = Stop | Pause | Set | Slow | Drop
