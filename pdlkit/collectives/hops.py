"""Who sends which chunk to whom, when: a collective as a table.

The table is all there is to know of an algorithm. `run` has the devices carry it
out, `play` replays it on numbers, and what it costs is counted here.
"""

import collections
import dataclasses
from collections.abc import Iterable
from typing import NamedTuple

from pdlkit.errors import lesson
from pdlkit.records import Shown

Slots = tuple[tuple[int, ...], ...]  # device -> slots, in the order in which they are read


class Hop(NamedTuple):
    """One chunk on its way; what leaves in a tick leaves before anything arrives."""

    tick: int
    source: int
    target: int
    chunk: int  # the slot that it is read from
    reduces: bool = False  # added to what is there, or put in its place
    into: int | None = None  # the slot of the target, where that is another

    @property
    def slot(self) -> int:
        """The slot of the target that the chunk arrives in."""
        return self.chunk if self.into is None else self.into


@dataclasses.dataclass(frozen=True, repr=False)
class Hops(Shown):
    """The hops of one collective, and where its chunks begin and end.

    Each device has as many slots, each with room for a chunk; all chunks are of one
    size. Devices, slots and ticks are counted from 0.

    Attributes:
        name: what it is called.
        slots: how many each device has.
        begin: the slots that the chunks of each device's input are laid in.
        end: the slots that each device's result is read from.
        hops: in any order.

    Raises:
        ValueError: a hop from or to what is not there, or two into one slot at once.
    """

    name: str
    slots: int
    begin: Slots
    end: Slots
    hops: tuple[Hop, ...]

    def __post_init__(self):
        if wrong := next(filter(self._is_nowhere, self.hops), None):
            raise ValueError(_nowhere(wrong, self))
        arrivals = collections.Counter((hop.tick, hop.target, hop.slot) for hop in self.hops)
        if twice := next((each for each, times in arrivals.items() if times > 1), None):
            raise ValueError(_twice(*twice))

    def __repr__(self):
        return f"<{self.name}: devices={self.devices}, ticks={self.ticks}>"

    @property
    def devices(self) -> int:
        """How many devices take part."""
        return len(self.begin)

    @property
    def ticks(self) -> int:
        """How many rounds of messages follow each other."""
        return max((hop.tick + 1 for hop in self.hops), default=0)

    @property
    def by_tick(self) -> list[list[Hop]]:
        """[ticks], the hops of each."""
        found: list[list[Hop]] = [[] for _ in range(self.ticks)]
        for hop in self.hops:
            found[hop.tick].append(hop)
        return found

    @property
    def sent(self) -> tuple[int, ...]:
        """[devices], how many chunks each one sends."""
        counted = collections.Counter(hop.source for hop in self.hops)
        return tuple(counted[device] for device in range(self.devices))

    @property
    def in_turn(self) -> int:
        """Chunks that cross a link one after the other: the most in each tick, summed."""
        return sum(
            max(collections.Counter(hop[1:3] for hop in tick).values(), default=0)
            for tick in self.by_tick
        )

    def _is_nowhere(self, hop: Hop) -> bool:
        devices, slots = range(self.devices), range(self.slots)
        links = hop.source in devices and hop.target in devices and hop.source != hop.target
        return not (links and hop.tick >= 0 and hop.chunk in slots and hop.slot in slots)


def whole(devices: int, slots: int) -> Slots:
    """Return all slots for every device, in order."""
    return (tuple(range(slots)),) * devices


def own(devices: int) -> Slots:
    """Return for each device the slot that has its number."""
    return tuple((device,) for device in range(devices))


def after(*phases: Iterable[Hop]) -> tuple[Hop, ...]:
    """Return the hops of phases that follow each other."""
    found: list[Hop] = []
    for phase in phases:
        begin = max((hop.tick + 1 for hop in found), default=0)
        found += [hop._replace(tick=begin + hop.tick) for hop in phase]
    return tuple(found)


def _nowhere(hop: Hop, hops: Hops) -> str:
    return lesson(
        f"{hop} is not between {hops.devices} devices of {hops.slots} slots each.",
        why=f"a chunk goes from one device to another, 0 to {hops.devices - 1}, out of a slot "
        f"and into one, 0 to {hops.slots - 1}, in tick 0 or later.",
        fix=f"(device + 1) % {hops.devices} for the next device of a ring.",
    )


def _twice(tick: int, device: int, slot: int) -> str:
    return lesson(
        f"two chunks arrive in slot {slot} of device {device} in tick {tick}.",
        why="all that is sent in a tick arrives at once, and a slot takes one chunk.",
        fix=f"tick={tick + 1} for one of them.",
    )
