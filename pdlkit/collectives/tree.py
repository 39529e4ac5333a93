"""The binomial tree: every tick, twice as many devices have met."""

from jax import lax

from pdlkit.collectives.hops import Hop, Hops, after, whole
from pdlkit.collectives.running import Axis, run_flat
from pdlkit.errors import lesson


def tree_all_reduce_hops(devices: int) -> Hops:
    """Return 2 log2 `devices` ticks, rounded up: sum up to device 0, and down again."""
    down = _from_the_root(devices)
    last = max((hop.tick for hop in down), default=0)
    up = tuple(
        hop._replace(tick=last - hop.tick, source=hop.target, target=hop.source, reduces=True)
        for hop in reversed(down)
    )
    every = whole(devices, 1)
    return Hops("tree all-reduce", 1, every, every, after(up, down))


def tree_broadcast_hops(devices: int, *, root: int = 0) -> Hops:
    """Return log2 `devices` ticks, rounded up; who has the array sends it on.

    Raises:
        ValueError: there is no such root.
    """
    if root not in range(devices):
        raise ValueError(
            lesson(
                f"root={root} is none of {devices} devices.",
                why="the root is the device that has the array, counted from 0.",
                fix=f"0 to {devices - 1}.",
            )
        )
    hops = tuple(
        hop._replace(source=(root + hop.source) % devices, target=(root + hop.target) % devices)
        for hop in _from_the_root(devices)
    )
    every = whole(devices, 1)
    return Hops(f"tree broadcast from device {root}", 1, every, every, hops)


def tree_all_reduce(x, axis: Axis):
    """Return the sum over the devices, as `lax.psum`; `x` has any shape.

    The whole array crosses 2 log2 p links one after the other, rounded up: few ticks,
    for short arrays.

    Source: Thakur, Rabenseifner and Gropp 2005, doi:10.1177/1094342005051521
    """
    return run_flat(tree_all_reduce_hops(lax.axis_size(axis)), x, axis)


def tree_broadcast(x, axis: Axis, *, root: int = 0):
    """Return on every device what `root` has; `x` has any shape.

    Raises:
        ValueError: there is no such device.

    Source: Thakur, Rabenseifner and Gropp 2005, doi:10.1177/1094342005051521
    """
    return run_flat(tree_broadcast_hops(lax.axis_size(axis), root=root), x, axis)


def _from_the_root(devices: int) -> tuple[Hop, ...]:
    """Return how one chunk spreads from device 0, to the furthest device first."""
    reaches = [2**tick for tick in reversed(range((devices - 1).bit_length()))]
    return tuple(
        Hop(tick, source, source + reach, chunk=0)
        for tick, reach in enumerate(reaches)
        for source in range(0, devices - reach, 2 * reach)
    )
