"""Hops replayed on numbers: what every device holds after every tick."""

import dataclasses

import numpy as np

from pdlkit.collectives.cutting import split
from pdlkit.collectives.hops import Hops
from pdlkit.errors import lesson
from pdlkit.records import Shown


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Played(Shown):
    """A collective on one's own numbers; `pdl.show` draws it.

    Attributes:
        hops: what was played.
        states: [ticks + 1, devices, slots, chunk], what each device holds before the
            first tick and after each one.
        held: [ticks + 1, devices, slots], whether anything is in the slot.
        tick: how many ticks have passed, to those who look; None shows the whole.
    """

    hops: Hops
    states: np.ndarray
    held: np.ndarray
    tick: int | None = None

    def __repr__(self):
        return repr(self.hops)

    @property
    def result(self) -> np.ndarray:
        """[devices, n], what each device has in the end."""
        last = zip(self.states[-1], self.hops.end, strict=True)
        return np.stack([slots[list(end)].reshape(-1) for slots, end in last])

    @property
    def chunk_bytes(self) -> int:
        """The size of one chunk."""
        return self.states[0, 0, 0].nbytes

    def at(self, tick: int) -> "Played":
        """Return the same, to be looked at after so many ticks.

        Raises:
            ValueError: it has not so many.
        """
        if tick not in range(self.hops.ticks + 1):
            raise ValueError(
                lesson(
                    f"{self.hops!r} cannot be looked at after {tick}.",
                    why=f"it has begun after 0, and is over after {self.hops.ticks}.",
                    fix=f".at({self.hops.ticks}), its end.",
                )
            )
        return dataclasses.replace(self, tick=tick)


def play(hops: Hops, values) -> Played:
    """Return what becomes of `values`, hop by hop; NumPy plays all devices.

        pdl.show(collectives.play(collectives.ring_all_reduce_hops(4), np.eye(4)))

    Args:
        hops: the collective.
        values: [devices, n], each device's input; n divides into its chunks.

    Raises:
        ValueError: not a row a device, or rows that do not divide.
    """
    values = np.asarray(values)
    if values.ndim != 2 or len(values) != hops.devices:
        raise ValueError(
            lesson(
                f"values of shape {list(values.shape)} are not [{hops.devices}, n].",
                why=f"each of the {hops.devices} devices has a row of them.",
                fix=f"values.reshape({hops.devices}, -1), or hops for other devices.",
            )
        )
    now, held = _laid_out(hops, values)
    states, helds = [now], [held]
    for tick in hops.by_tick:
        before, now, held = now, now.copy(), held.copy()
        for hop in tick:
            there = now[hop.target, hop.slot] if hop.reduces else 0
            now[hop.target, hop.slot] = there + before[hop.source, hop.chunk]
            held[hop.target, hop.slot] = True
        states.append(now)
        helds.append(held)
    return Played(hops, np.stack(states), np.stack(helds))


def _laid_out(hops: Hops, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what is in the slots of each device at first, and in which of them."""
    chunks = split(values, len(hops.begin[0]), 1)  # [devices, chunks, chunk]
    slots = np.zeros((hops.devices, hops.slots, chunks.shape[2]), values.dtype)
    held = np.zeros(slots.shape[:2], bool)
    reached = {(hop.target, hop.slot) for hop in hops.hops}
    for device, (begin, end) in enumerate(zip(hops.begin, hops.end, strict=True)):
        slots[device, list(begin)] = chunks[device]
        # of a result, what no hop reaches is zero: the rows past the edge of an image
        zeros = [slot for slot in end if (device, slot) not in reached]
        held[device, [*begin, *zeros]] = True
    return slots, held
