"""The ring: each device sends to the next one only, and all links are busy."""

from jax import lax

from pdlkit.collectives.cutting import counted, merge, split
from pdlkit.collectives.hops import Hop, Hops, after, own, whole
from pdlkit.collectives.running import Axis, run, run_flat


def ring_reduce_scatter_hops(devices: int) -> Hops:
    """Return `devices` - 1 ticks; a chunk goes round, and each device adds its own.

    The chunk that ends on device d sets out from d + 1.
    """
    hops = tuple(
        Hop(tick, device, (device + 1) % devices, (device - tick - 1) % devices, reduces=True)
        for tick in range(devices - 1)
        for device in range(devices)
    )
    return Hops("ring reduce-scatter", devices, whole(devices, devices), own(devices), hops)


def ring_all_gather_hops(devices: int) -> Hops:
    """Return `devices` - 1 ticks; each device passes on the chunk it last received."""
    hops = tuple(
        Hop(tick, device, (device + 1) % devices, (device - tick) % devices)
        for tick in range(devices - 1)
        for device in range(devices)
    )
    return Hops("ring all-gather", devices, own(devices), whole(devices, devices), hops)


def ring_all_reduce_hops(devices: int) -> Hops:
    """Return 2 (`devices` - 1) ticks: a reduce-scatter, then an all-gather."""
    every = whole(devices, devices)
    summed, spread = ring_reduce_scatter_hops(devices), ring_all_gather_hops(devices)
    return Hops("ring all-reduce", devices, every, every, after(summed.hops, spread.hops))


def bidirectional_ring_all_reduce_hops(devices: int) -> Hops:
    """Return 2 (`devices` - 1) ticks: half of the array goes round each way."""
    one_way = ring_all_reduce_hops(devices).hops
    other_way = tuple(
        hop._replace(
            source=-hop.source % devices,
            target=-hop.target % devices,
            chunk=devices + hop.chunk,
        )
        for hop in one_way
    )
    every = whole(devices, 2 * devices)
    hops = one_way + other_way
    return Hops("bidirectional ring all-reduce", 2 * devices, every, every, hops)


def ring_reduce_scatter(x, axis: Axis, *, dimension: int = 0):
    """Return this device's part of the sum: [..., n, ...] -> [..., n / p, ...].

    As `lax.psum_scatter(x, axis, scatter_dimension=dimension, tiled=True)`.

    Raises:
        ValueError: the dimension does not divide among the p devices.

    Source: Thakur, Rabenseifner and Gropp 2005, "Optimization of Collective
    Communication Operations in MPICH", doi:10.1177/1094342005051521
    """
    dimension = counted(x, dimension)
    hops = ring_reduce_scatter_hops(lax.axis_size(axis))
    chunks = split(x, hops.slots, dimension)
    return merge(run(hops, chunks, axis, dimension=dimension), dimension)


def ring_all_gather(x, axis: Axis, *, dimension: int = 0):
    """Return the devices' parts behind each other: [..., n, ...] -> [..., p n, ...].

    As `lax.all_gather(x, axis, axis=dimension, tiled=True)`.

    Source: Thakur, Rabenseifner and Gropp 2005, doi:10.1177/1094342005051521
    """
    dimension = counted(x, dimension)
    hops = ring_all_gather_hops(lax.axis_size(axis))
    chunks = split(x, 1, dimension)
    return merge(run(hops, chunks, axis, dimension=dimension), dimension)


def ring_all_reduce(x, axis: Axis):
    """Return the sum over the devices, as `lax.psum`; `x` has any shape.

    Of p devices each sends 2 (p - 1) / p of the array, which none can do with less.

    Source: Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce algorithms for
    clusters of workstations", doi:10.1016/j.jpdc.2008.09.002
    """
    return run_flat(ring_all_reduce_hops(lax.axis_size(axis)), x, axis)


def bidirectional_ring_all_reduce(x, axis: Axis):
    """Return the sum over the devices, as `lax.psum`; `x` has any shape.

    A device sends as much as on the ring that goes one way, but half on each of two
    links: where a link carries both ways at once, in half the time.

    Source: Jouppi et al. 2023, "TPU v4", https://arxiv.org/abs/2304.01433, has the
    links; Austin et al. 2025, "How to Scale Your Model",
    https://jax-ml.github.io/scaling-book/sharding, the use of both ways.
    """
    return run_flat(bidirectional_ring_all_reduce_hops(lax.axis_size(axis)), x, axis)
