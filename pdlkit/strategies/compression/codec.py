"""How one array is summed over devices in fewer bytes than it has."""

import abc
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from pdlkit.errors import lesson


class Sent(NamedTuple):
    """What became of an array that was sent."""

    total: Any  # like the array: the sum of what all devices sent, the same on each
    own: Any  # like the array: what this device sent
    kept: Any  # what the codec keeps of it for the next step


class Message(NamedTuple):
    """One collective that an array is sent by."""

    kind: str  # a `Collective.kind`
    payload_bytes: int  # that go in on one device


class Codec(abc.ABC):
    """A way to send an array; what it leaves out, the device keeps for the next step."""

    @abc.abstractmethod
    def exchange(self, x, kept, *, axes: tuple[str, ...], key) -> Sent:
        """Sum an array over devices; only inside `shard_map`.

        The totals are the sums of the devices' `own`, to rounding: nothing is lost
        that the residue `x - own` does not hold.

        Args:
            x: this device's, any shape.
            kept: what `first` gave, or the last step.
            axes: the mesh axes to sum over.
            key: of this step and array, the same on every device.
        """

    @abc.abstractmethod
    def messages(self, shape, devices: int) -> tuple[Message, ...]:
        """Return what one device sends of an array.

        Args:
            shape: its shape and dtype, on one device.
            devices: how many it is summed over.
        """

    def first(self, shape):
        """Return what is kept of an array of this shape before the first step."""
        del shape
        return ()

    def check(self, shapes: Sequence) -> None:
        """Raise ValueError if arrays of these shapes cannot be sent so."""
        del shapes


def share_of(ratio: float, size: int) -> int:
    """Return how many of `size` numbers a ratio of them is, at least one."""
    return max(1, math.ceil(ratio * size)) if size else 0


def check_ratio(who: str, ratio: float) -> None:
    """Raise ValueError if a ratio is not one of numbers to send."""
    if not 0 < ratio <= 1:
        raise ValueError(
            lesson(
                f"{who} cannot send {ratio:g} of the numbers.",
                why="it sends a share of them: more than none, and at the most all.",
                fix="ratio=0.01, one in a hundred.",
            )
        )
