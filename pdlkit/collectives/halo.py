"""Rows from the neighbours, for what looks past the edge of a slab."""

from jax import lax

from pdlkit.collectives.cutting import counted
from pdlkit.collectives.hops import Hop, Hops, whole
from pdlkit.collectives.running import Axis, run
from pdlkit.errors import lesson


def halo_exchange_hops(devices: int, rows: int, above: int, below: int) -> Hops:
    """Return the hops between slabs of `rows` rows, a chunk being one row.

    Slots are the rows of the result, from the top: `above`, the slab's own, `below`.
    A row from further than the next slab is passed on: with each tick it comes one
    slab closer, so a halo thicker than a slab takes several.

    Raises:
        ValueError: a slab without rows, or a halo of less than none.
    """
    if rows < 1 or above < 0 or below < 0:
        raise ValueError(
            lesson(
                f"slabs of {rows} rows with {above} above and {below} below.",
                why="a slab has rows of its own, and a halo has some or none.",
                fix="1 row or more, and 0 or more above and below.",
            )
        )
    slots = above + rows + below
    hops = [
        # the same row lies `rows` slots further on in the slab before
        Hop((above - 1 - slot) // rows, device - 1, device, slot + rows, into=slot)
        for device in range(1, devices)
        for slot in range(above)
    ] + [
        Hop((slot - above - rows) // rows, device + 1, device, slot - rows, into=slot)
        for device in range(devices - 1)
        for slot in range(above + rows, slots)
    ]
    inside = tuple(hop for hop in hops if hop.tick < _slabs_behind(hop, devices))
    own = (tuple(range(above, above + rows)),) * devices
    return Hops("halo exchange", slots, own, whole(devices, slots), inside)


def halo_exchange(x, axis: Axis, above: int, below: int, *, dimension: int):
    """Return a slab between rows of its neighbours, as they lie in the whole image.

    [..., n, ...] -> [..., above + n + below, ...], with zeros past the image's first
    and last row.

    Args:
        x: one slab; all are equally thick, in the order of the devices.
        axis: the mesh axis, or axes, that the image is cut along.
        above: rows from the devices before, 0 or more.
        below: rows from the devices after, 0 or more.
        dimension: the one that counts the rows.

    Raises:
        ValueError: a slab without rows, or a halo of less than none.

    Source: Dryden et al. 2019, "Improving Strong-Scaling of CNN Training by
    Exploiting Finer-Grained Parallelism", https://arxiv.org/abs/1903.06681
    """
    dimension = counted(x, dimension)
    hops = halo_exchange_hops(lax.axis_size(axis), x.shape[dimension], above, below)
    return run(hops, x, axis, dimension=dimension)


def _slabs_behind(hop: Hop, devices: int) -> int:
    """Return how many slabs there are on the side that a hop comes from."""
    return hop.target if hop.source < hop.target else devices - 1 - hop.target
