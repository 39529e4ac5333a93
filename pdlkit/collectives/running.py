"""Hops carried out by the devices themselves, with `lax.ppermute` only."""

from collections.abc import Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from pdlkit.collectives.cutting import counted
from pdlkit.collectives.hops import Hop, Hops
from pdlkit.compat import vary
from pdlkit.errors import lesson

Axis = str | tuple[str, ...]  # of the mesh; along several, the last one counts fastest


class _Message(NamedTuple):
    """What one `ppermute` carries: at most one sender and one receiver a device."""

    links: list[tuple[int, int]]
    reads: np.ndarray  # [devices, chunks], slots of the sender
    writes: np.ndarray  # [devices, chunks], slots of the receiver
    receives: np.ndarray  # [devices], whether anything arrives
    reduces: bool


def run(hops: Hops, chunks, axis: Axis, *, dimension: int = 0):
    """Return this device's result of a collective; only inside `shard_map`.

    To JAX the result differs between devices, even where it does not: `out_specs`
    must name the axis.

    Args:
        hops: what is sent, for as many devices as the axis has.
        chunks: this device's input, cut: [..., chunks, ...].
        axis: the mesh axis that the devices stand along, or several.
        dimension: the one that counts the chunks.

    Raises:
        ValueError: other devices, or other chunks, than the hops are for.
    """
    dimension = counted(chunks, dimension)
    axes = (axis,) if isinstance(axis, str) else tuple(axis)
    _check(hops, lax.axis_size(axes), chunks.shape[dimension])
    place = lax.axis_index(axes)

    def at(slots, table):
        return slots.at[(*[slice(None)] * dimension, _slots(_row(table, place)))]

    slots = vary(chunks, axes)
    if hops.begin[0] != tuple(range(hops.slots)):
        shape = (*chunks.shape[:dimension], hops.slots, *chunks.shape[dimension + 1 :])
        empty = jnp.zeros(shape, chunks.dtype)
        slots = at(empty, hops.begin).set(slots, unique_indices=True)
    for messages in _ticks(hops):
        leaving = [at(slots, message.reads).get() for message in messages]
        for message, left in zip(messages, leaving, strict=True):
            arrived = lax.ppermute(left, axes, message.links)
            target = at(slots, message.writes)
            if message.reduces:  # where nothing arrives, it is zeros that do
                slots = target.add(arrived, unique_indices=True)
            else:
                kept = jnp.where(_row(message.receives, place), arrived, target.get())
                slots = target.set(kept, unique_indices=True)
    return at(slots, hops.end).get()


def run_flat(hops: Hops, x, axis: Axis):
    """Return an array of the shape of `x`, cut into chunks wherever that falls.

    Zeros are put behind it where it does not divide by the chunks.
    """
    chunks = len(hops.begin[0])
    padded = jnp.pad(jnp.ravel(x), (0, -x.size % chunks)).reshape(chunks, -1)
    return run(hops, padded, axis).ravel()[: x.size].reshape(x.shape)


def permutes(hops: Hops) -> tuple[int, ...]:
    """Return how many chunks each `ppermute` of a run carries, in order."""
    return tuple(message.reads.shape[1] for tick in _ticks(hops) for message in tick)


def _row(table, place):
    """Return this device's row of a table, and look nothing up where all are alike."""
    rows = np.asarray(table)
    return rows[0] if (rows == rows[0]).all() else jnp.asarray(rows)[place]


def _slots(row):
    """Return slots as an index: a slice, where they are known and side by side."""
    known = isinstance(row, np.ndarray) and (np.diff(row) == 1).all()
    return slice(int(row[0]), int(row[-1]) + 1) if known else row


def _ticks(hops: Hops) -> Iterator[list[_Message]]:
    """Yield the messages of each tick."""
    for tick in hops.by_tick:
        letters: dict[tuple, list[Hop]] = {}  # what goes the same way goes together
        for hop in tick:
            letters.setdefault((hop.source, hop.target, hop.reduces), []).append(hop)
        yield [_message(bag, hops) for bag in _bags(letters.values())]


def _bags(letters) -> list[list[list[Hop]]]:
    """Return the letters in as few bags as one `ppermute` each can carry."""
    bags: list[list[list[Hop]]] = []
    for letter in letters:
        for bag in bags:
            if all(_go_together(letter, other) for other in bag):
                bag.append(letter)
                break
        else:
            bags.append([letter])
    return bags


def _go_together(letter: list[Hop], other: list[Hop]) -> bool:
    (one, *_), (two, *_) = letter, other
    alike = len(letter) == len(other) and one.reduces == two.reduces
    return alike and one.source != two.source and one.target != two.target


def _message(bag: list[list[Hop]], hops: Hops) -> _Message:
    first = bag[0]
    # who sends or receives nothing looks where the first does: few tables then differ
    reads = np.tile([hop.chunk for hop in first], (hops.devices, 1))
    writes = np.tile([hop.slot for hop in first], (hops.devices, 1))
    receives = np.zeros(hops.devices, bool)
    for letter in bag:
        reads[letter[0].source] = [hop.chunk for hop in letter]
        writes[letter[0].target] = [hop.slot for hop in letter]
        receives[letter[0].target] = True
    links = [(letter[0].source, letter[0].target) for letter in bag]
    return _Message(links, reads, writes, receives, first[0].reduces)


def _check(hops: Hops, devices: int, chunks: int) -> None:
    wanted = len(hops.begin[0])
    if (devices, chunks) != (hops.devices, wanted):
        raise ValueError(
            lesson(
                f"{hops!r} was run by {devices} devices, each with {chunks} chunks.",
                why=f"its table is for {hops.devices} devices with {wanted} chunks each.",
                fix=f"hops for {devices} devices, and x.reshape({wanted}, -1).",
            )
        )
