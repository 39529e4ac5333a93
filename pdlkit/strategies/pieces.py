"""A step in pieces, each run in one place: what runs them, what records them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, Sharding, SingleDeviceSharding

from pdlkit.records import Collective


class Piece(NamedTuple):
    """One jitted function of a step, as one place runs it."""

    function: Callable
    arguments: tuple  # shapes and dtypes
    place: Sharding  # one device, or the whole mesh


class Runner:
    """Runs pieces where their arguments lie, and sends what lies elsewhere."""

    def run(self, function: Callable, place: Sharding, *arguments):
        """Return what a jitted function gives; all its arguments lie in one place."""
        del place
        return function(*arguments)

    def send(self, tree, source: Sharding | None, target: Sharding):
        """Return arrays that lie in another place now; `source` is None for the host."""
        del source
        return jax.device_put(tree, target)

    def apart(self, array, devices) -> list:
        """[layers, ...] -> for each device, its own rows; nothing is sent."""
        if isinstance(array, Tracer):  # traced for its shapes alone
            return jnp.split(array, len(devices))
        rows = {piece.device: piece.data for piece in array.addressable_shards}
        return [rows[device] for device in devices]

    def together(self, rows: Sequence, sharding: NamedSharding):
        """Return the array of which each device holds its rows; nothing is sent."""
        if isinstance(rows[0], Tracer):
            return jnp.concatenate(rows)
        shape = (sum(map(len, rows)), *rows[0].shape[1:])
        return jax.make_array_from_single_device_arrays(shape, sharding, list(rows))


class Recorder(Runner):
    """Goes through a step on shapes alone; writes down what runs and what is sent."""

    def __init__(self, mesh: Mesh):
        self._axes = mesh.axis_names
        self.pieces: list[Piece] = []
        self.copies: list[Collective] = []

    def run(self, function, place, *arguments):
        self.pieces.append(Piece(function, arguments, place))
        return function.eval_shape(*arguments)

    def send(self, tree, source, target):
        if source is not None:
            self.copies += _copies(tree, source, target, self._axes)
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)

    def apart(self, array, devices):
        rows = jax.ShapeDtypeStruct((array.shape[0] // len(devices), *array.shape[1:]), array.dtype)
        return [rows] * len(devices)

    def together(self, rows, sharding):
        shape = (sum(each.shape[0] for each in rows), *rows[0].shape[1:])
        return jax.ShapeDtypeStruct(shape, rows[0].dtype, sharding=sharding)


def _copies(tree, source: Sharding, target: Sharding, axes: tuple[str, ...]) -> list[Collective]:
    """Return what it takes to have arrays in another place, one copy an array."""
    new = target.device_set - source.device_set
    group = len(source.device_set | target.device_set)
    sizes = [x.size * x.dtype.itemsize for x in jax.tree.leaves(tree)] if new else []
    return [Collective("copy", axes, group, size, size * len(new)) for size in sizes]


def on_one(device) -> SingleDeviceSharding:
    """Return the place that is one device."""
    return SingleDeviceSharding(device)
