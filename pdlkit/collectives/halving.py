"""Recursive halving and doubling: pairs that swap, twice as far apart each time."""

from jax import lax

from pdlkit.collectives.hops import Hop, Hops, after, whole
from pdlkit.collectives.running import Axis, run_flat
from pdlkit.errors import lesson


def halving_doubling_all_reduce_hops(devices: int) -> Hops:
    """Return 2 log2 `devices` ticks: halve what is summed, then double what is known.

    Raises:
        ValueError: the devices are no power of two.
    """
    ticks = devices.bit_length() - 1
    if devices != 2**ticks:
        raise ValueError(
            lesson(
                f"{devices} devices cannot halve and double: they are no power of two.",
                why="in each tick every device has a partner, and a group falls into two halves.",
                fix=f"{2**ticks} or {2 ** (ticks + 1)} devices, or ring_all_reduce.",
            )
        )
    reaches = [2**tick for tick in range(ticks)]
    halving = tuple(
        Hop(tick, device, device ^ reach, chunk, reduces=True)
        for tick, reach in enumerate(reversed(reaches))
        for device in range(devices)
        for chunk in _group(device ^ reach, reach)
    )
    doubling = tuple(
        Hop(tick, device, device ^ reach, chunk)
        for tick, reach in enumerate(reaches)
        for device in range(devices)
        for chunk in _group(device, reach)
    )
    every = whole(devices, devices)
    name = "halving-doubling all-reduce"
    return Hops(name, devices, every, every, after(halving, doubling))


def halving_doubling_all_reduce(x, axis: Axis):
    """Return the sum over the devices, as `lax.psum`; `x` has any shape.

    As few bytes as the ring, 2 (p - 1) / p of the array, in as few ticks as the tree.

    Raises:
        ValueError: the p devices are no power of two.

    Source: Rabenseifner 2004, "Optimization of Collective Reduction Operations",
    doi:10.1007/978-3-540-24685-5_1
    """
    return run_flat(halving_doubling_all_reduce_hops(lax.axis_size(axis)), x, axis)


def _group(device: int, size: int) -> range:
    """Return the devices of the group of `size` that a device is in; chunks likewise."""
    first = device // size * size
    return range(first, first + size)
