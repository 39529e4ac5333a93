"""Every device to every other, or each to one further along."""

import jax.numpy as jnp
from jax import lax

from pdlkit.collectives.cutting import counted, merge, split
from pdlkit.collectives.hops import Hop, Hops, whole
from pdlkit.collectives.running import Axis, run, run_flat


def all_to_all_hops(devices: int) -> Hops:
    """Return `devices` - 1 ticks; in each, every device sends to one further along.

    The first slots hold what goes to each device, the others what came from each.
    """
    hops = tuple(
        Hop((target - device) % devices - 1, device, target, chunk=target, into=devices + device)
        for device in range(devices)
        for target in range(devices)
        if target != device
    )
    # what a device has for itself stays where it is
    end = tuple(
        tuple(source if source == device else devices + source for source in range(devices))
        for device in range(devices)
    )
    return Hops("all-to-all", 2 * devices, whole(devices, devices), end, hops)


def ring_shift_hops(devices: int, *, by: int = 1) -> Hops:
    """Return one tick in which device d sends to d + `by`, round the ring."""
    hops = tuple(
        Hop(0, device, (device + by) % devices, chunk=0)
        for device in range(devices)
        if by % devices
    )
    every = whole(devices, 1)
    return Hops(f"ring shift by {by}", 1, every, every, hops)


def all_to_all(x, axis: Axis, split_axis: int, concat_axis: int):
    """Return part d of every device's array on device d, in the devices' order.

    As `lax.all_to_all(x, axis, split_axis, concat_axis, tiled=True)`: one dimension
    is cut in p, and another grows p times.

    Raises:
        ValueError: the dimension does not divide among the p devices.

    Source: Thakur, Rabenseifner and Gropp 2005, "Optimization of Collective
    Communication Operations in MPICH", doi:10.1177/1094342005051521
    """
    cut, joined = counted(x, split_axis), counted(x, concat_axis)
    hops = all_to_all_hops(lax.axis_size(axis))
    parts = run(hops, split(x, hops.devices, cut), axis, dimension=cut)
    return merge(jnp.moveaxis(parts, cut, joined), joined)


def ring_shift(x, axis: Axis, by: int = 1):
    """Return what the device `by` places before this one has, round the ring.

    As `lax.ppermute` of d to d + `by`, modulo the devices. Ring attention passes its
    keys and values on like this.

    Source: Liu, Zaharia and Abbeel 2023, "Ring Attention with Blockwise
    Transformers", https://arxiv.org/abs/2310.01889
    """
    return run_flat(ring_shift_hops(lax.axis_size(axis), by=by), x, axis)
