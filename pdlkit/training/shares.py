"""How fast each device is, measured: what uneven shares are made from."""

import dataclasses

import jax
from jax.sharding import Mesh

from pdlkit.strategies import OneDevice
from pdlkit.training.places import alone_on
from pdlkit.training.stopwatch import WARM_UP, check_steps, time_steps


def device_seconds(work, mesh: Mesh, *, steps: int = 20) -> tuple[float, ...]:
    """Return the seconds that each device takes for the same work, in mesh order.

    Measured: the median step of one device alone, on an equal share of the batch, while
    the others wait. `balanced_shares` makes shares of it.

    Args:
        work: the workload.
        mesh: the devices.
        steps: timed, of each.

    Raises:
        ValueError: no step is to be timed.
    """
    check_steps(steps)
    size = max(1, len(jax.tree.leaves(work.batch(0))[0]) // mesh.size)
    shares = [jax.tree.map(lambda x: x[:size], work.batch(k)) for k in range(WARM_UP)]
    share = dataclasses.replace(work, batches=shares)
    return tuple(_median(share, device, steps) for device in mesh.devices.flat)


def _median(work, device, steps: int) -> float:
    program = OneDevice().build(work.model, work.optimizer, alone_on(device))
    return time_steps(program, work, steps=steps).median
