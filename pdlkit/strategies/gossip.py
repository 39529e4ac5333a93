"""Gossip: each device averages its weights with those of its neighbours only."""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np
from jax import lax

from pdlkit.errors import lesson
from pdlkit.models.parts import param_shapes
from pdlkit.records import Collective
from pdlkit.strategies.copies import Copies
from pdlkit.strategies.placement import check_axes

Sends = tuple[tuple[int, ...], ...]  # one permutation a message: to whom each device sends


def ring(devices: int) -> Sends:
    """Return the messages to the next device and to the one before."""
    return _moved(np.arange(devices), (0,))


def torus(devices: int) -> Sends:
    """Return the messages to the four neighbours on a grid, as square as it can be."""
    rows = max(n for n in range(1, devices + 1) if devices % n == 0 and n * n <= devices)
    return _moved(np.arange(devices).reshape(rows, -1), (0, 1))


def complete(devices: int) -> Sends:
    """Return the messages to all others."""
    return tuple(
        tuple((device + k) % devices for device in range(devices)) for k in range(1, devices)
    )


def _moved(grid, dimensions) -> Sends:
    """Return one step each way along dimensions of a grid that closes on itself."""
    moved = [np.roll(grid, k, axis) for axis in dimensions for k in (-1, 1)]
    found = dict.fromkeys(tuple(each.ravel().tolist()) for each in moved)
    # Between two devices both ways are one, and along a single one there is none.
    return tuple(targets for targets in found if targets != tuple(range(grid.size)))


def mixing(sends: Sends, devices: int):
    """[devices, devices], the share of each one's weights in what each goes on with.

    The mean of permutations, not sending among them, so rows and columns sum to 1.
    The second largest size of its eigenvalues is by how much a round of gossip at
    least shrinks how far the copies are apart.
    """
    matrix = np.eye(devices)
    for targets in sends:
        matrix[list(targets), np.arange(devices)] += 1
    return matrix / (1 + len(sends))


@dataclasses.dataclass(frozen=True)
class Gossip(Copies):
    """Train apart; after each step, go on from the mean with one's neighbours.

    First the step and then the mean, so that with all others as neighbours, and SGD,
    it leaves the weights of one device.

    Moves:  one permute of the weights to each neighbour a step: two on the ring.
    Keeps:  all parameters and optimizer state on every device, its own.
    Source: Lian et al. 2017, "D-PSGD", https://arxiv.org/abs/1705.09056
    """

    neighbours: Callable[[int], Sends] = ring  # of the number of devices
    axis: str = "data"

    def sends(self, devices: int) -> Sends:
        """Return what is sent among so many devices.

        Raises:
            ValueError: two would send to one, or to a device that is not there.
        """
        found = self.neighbours(devices)
        for targets in found:
            if sorted(targets) != list(range(devices)):
                raise ValueError(
                    lesson(
                        f"the neighbours of {devices} devices are said to be {list(targets)}.",
                        why="in one message each device, 0 to "
                        f"{devices - 1}, sends once and receives once.",
                        fix="pdl.gossip.ring, .torus or .complete, or permutations of your own.",
                    )
                )
        return found

    def settle(self, state):
        devices = lax.axis_size(self.axis)
        sends = self.sends(devices)

        def mean(x):
            heard = [lax.ppermute(x, self.axis, list(enumerate(to))) for to in sends]
            return sum(heard, x) / (1 + len(sends))

        return state._replace(params=jax.tree.map(mean, state.params))

    def moves(self, model, mesh):
        check_axes(type(self).__name__, [self.axis], mesh)
        devices = mesh.shape[self.axis]

        def permute(shape):
            size = shape.size * shape.dtype.itemsize
            return Collective.by_ring("permute", (self.axis,), devices, size)

        messages = len(self.sends(devices))
        return tuple(permute(x) for x in jax.tree.leaves(param_shapes(model)) * messages)

    def build(self, model, optimizer, mesh):
        program = super().build(model, optimizer, mesh)
        self.sends(mesh.shape[self.axis])
        return program
