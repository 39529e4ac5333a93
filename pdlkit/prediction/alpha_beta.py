"""What a collective takes if a message costs so much, and a byte so much.

Closed forms of the algorithms that `pdl.collectives` writes out hop by hop, and
`priced`, which finds the same from the hops. Sizes may be arrays.
"""

import math
from typing import NamedTuple

import numpy as np

from pdlkit.collectives.hops import Hops
from pdlkit.errors import is_count, lesson


class Wire(NamedTuple):
    """A link by two figures."""

    alpha: float  # seconds of a message, however short
    beta: float  # seconds of a byte more

    @classmethod
    def of(cls, seconds: float, bytes_per_second: float) -> "Wire":
        """Return the link with a bandwidth in place of its inverse."""
        return cls(seconds, 1 / bytes_per_second)

    def message(self, count):
        """Return the seconds of one message of so many bytes."""
        return self.alpha + np.asarray(count) * self.beta


def priced(hops: Hops, count, wire: Wire):
    """Return the seconds of a table of hops, each tick after the one before.

    Args:
        hops: of `pdl.collectives`.
        count: bytes of the whole buffer, which all slots make up.
        wire: each link; all send at once, each one chunk after the other.
    """
    return hops.ticks * wire.alpha + hops.in_turn * np.asarray(count) / hops.slots * wire.beta


def ring_all_gather(count, devices: int, wire: Wire):
    """Return the seconds until all have all of `count` bytes.

    They are (p - 1) alpha + (p - 1)/p n beta. A reduce-scatter takes as long. No
    algorithm sends fewer bytes.

    Source: Thakur, Rabenseifner and Gropp 2005, doi:10.1177/1094342005051521
    """
    _check(devices)
    others = devices - 1
    return others * wire.alpha + others / devices * np.asarray(count) * wire.beta


def ring_all_reduce(count, devices: int, wire: Wire):
    """Return the seconds of a sum round a ring: 2 (p - 1) alpha + 2 (p - 1)/p n beta.

    Source: Patarasuk and Yuan 2009, doi:10.1016/j.jpdc.2008.09.002
    """
    return 2 * ring_all_gather(count, devices, wire)


def tree_all_reduce(count, devices: int, wire: Wire):
    """Return the seconds of a sum up a tree and back: 2 log2 p (alpha + n beta)."""
    _check(devices)
    return 2 * math.ceil(math.log2(devices)) * wire.message(count)


def halving_doubling_all_reduce(count, devices: int, wire: Wire):
    """Return the seconds of a sum by recursive halving, then doubling.

    2 log2 p alpha + 2 (p - 1)/p n beta: the ring's bytes in the tree's steps, but over
    links between any two devices.

    Source: Thakur, Rabenseifner and Gropp 2005, doi:10.1177/1094342005051521

    Raises:
        ValueError: another number of devices.
    """
    _check(devices)
    steps = math.log2(devices)
    if not steps.is_integer():
        raise ValueError(
            lesson(
                f"{devices} devices cannot be halved down to one.",
                why="in each step a device talks to one half the distance away.",
                fix=f"{2 ** int(steps)} or {2 ** math.ceil(steps)} devices, or a ring.",
            )
        )
    share = (devices - 1) / devices
    return 2 * (steps * wire.alpha + share * np.asarray(count) * wire.beta)


def all_to_all(count, devices: int, wire: Wire):
    """Return the seconds in which each sends each other a share of its `count` bytes."""
    return ring_all_gather(count, devices, wire)


def torus_all_reduce(count, lengths: tuple[int, ...], wire: Wire):
    """Return the seconds of a sum along the axes of a torus, one by one, and back.

    2 sum of (X - 1) alpha, and bytes that shrink from axis to axis: as many in all as
    round one ring, in fewer steps.
    """
    seconds, held = 0.0, np.asarray(count, float)
    for length in lengths:
        seconds = seconds + ring_all_reduce(held, length, wire)
        held = held / length
    return seconds


def hierarchical_all_reduce(count, inside: int, nodes: int, wires: tuple[Wire, Wire]):
    """Return the seconds of a sum inside nodes, then among nodes, then inside again.

    Args:
        count: bytes.
        inside: devices of a node.
        nodes: how many.
        wires: inside a node, and of each device to another node.
    """
    near, far = wires
    there_and_back = 2 * ring_all_gather(count, inside, near)
    return there_and_back + ring_all_reduce(np.asarray(count) / inside, nodes, far)


def _check(devices: int) -> None:
    if not is_count(devices):
        raise ValueError(
            lesson(
                f"{devices} is no number of devices.",
                why="devices are counted, and one is the fewest, which sends nothing.",
                fix="8, or another whole number.",
            )
        )
