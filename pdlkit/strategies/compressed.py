"""Gradients that are sent in fewer bytes, and what was left out sent later."""

import dataclasses
import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from optax import tree_utils as trees

from pdlkit.compat import varying_axes
from pdlkit.errors import lesson
from pdlkit.models.parts import param_shapes
from pdlkit.records import Collective, Model, Program
from pdlkit.strategies.compression import Codec, Sent, TopK
from pdlkit.strategies.data import DataParallel
from pdlkit.strategies.everywhere import each_device
from pdlkit.strategies.layout import Layout, Remembered, assemble, lay_out
from pdlkit.strategies.placement import axes_of, param_specs, ways_of
from pdlkit.strategies.rows import in_rows
from pdlkit.strategies.spmd import Spmd, check_inner

_TOP_K = TopK()


class Unsent(NamedTuple):
    """What devices keep from step to step beside the weights."""

    residue: Any  # like the params, [devices, ...]: what each has not sent yet
    codec: Any  # what the codec keeps of each array, [mesh.size, ...]


@dataclasses.dataclass(frozen=True)
class Compressed:
    """Sum gradients in fewer bytes, by a codec; what it leaves out is sent later.

    Each device adds to its gradient what it has not sent yet (error feedback), sends
    what the codec makes of it, and keeps the rest. Each step notes the `residue`: what
    this device has not sent, as the root mean square over the weights. How far a codec
    is off, and whether there is a setting at which it is exact, the codec says.

    Moves:  what the inner strategy moves, but each gradient in the codec's messages.
    Keeps:  what the inner strategy keeps, and one gradient more on every device.
    Source: Karimireddy et al. 2019, "Error Feedback Fixes SignSGD",
            https://arxiv.org/abs/1901.09847
    """

    inner: Spmd = DataParallel()
    how: Codec = _TOP_K

    def __or__(self, other: Spmd) -> "Compressed":
        return dataclasses.replace(self, inner=self.inner | other)

    def __ror__(self, other: Spmd) -> "Compressed":
        return dataclasses.replace(self, inner=other | self.inner)

    def moves(self, model: Model, mesh: Mesh) -> tuple[Collective, ...]:
        """What one step must send, as data: the line `Moves` of the docstring."""
        check_inner("Compressed", self.inner)
        layout = lay_out(self.inner, model, None, mesh)
        return (*self._gradient_moves(layout), *self.inner.other_moves(layout))

    def build(self, model: Model, optimizer, mesh: Mesh) -> Program:
        """Return the program on this mesh.

        Raises:
            ValueError: model, strategy and mesh do not fit, the codec cannot send such
                arrays, or the inner strategy does not keep gradients whole.
        """
        check_inner("Compressed", self.inner)
        layout = lay_out(self.inner, model, optimizer, mesh)
        self._check(layout)
        groups, places = _groups(layout), layout.places
        memory = Unsent(_specs_of_rows(layout, groups), P(mesh.axis_names))
        apart = layout._replace(places=places._replace(kept=memory.residue))
        on_each_device = each_device(self.inner, apart, _leave_apart)
        meet_on_all = jax.shard_map(
            partial(self._meet, groups=groups),
            mesh=mesh,
            in_specs=(P(), memory.residue, memory),
            out_specs=(places.params, memory, P(mesh.axis_names)),
            check_vma=False,  # it does not see that what all have gathered is the same
        )

        def gradients(state, batch):
            shares, metrics = on_each_device(state.params, batch)
            grads, unsent, left = meet_on_all(state.step, shares, state.memory)
            return grads, metrics._replace(notes={**metrics.notes, "residue": left}), unsent

        def on(mesh, optimizer):
            return self.build(model, optimizer, mesh)

        return assemble(layout, gradients, on=on, memory=self._remembered(layout, groups, memory))

    def _meet(self, step, shares, unsent: Unsent, groups):
        """Return the summed gradients, what is unsent, and how much: on one device."""
        key = jax.random.fold_in(jax.random.key(0), step)
        shares, unsent = jax.tree.map(lambda rows: rows[0], (shares, unsent))
        wanted = trees.tree_add(shares, unsent.residue)
        leaves, tree = jax.tree.flatten(wanted)
        arrays = enumerate(zip(leaves, unsent.codec, groups, strict=True))
        sent = [
            self.how.exchange(x, kept, axes=axes, key=jax.random.fold_in(key, number))
            if axes
            else Sent(x, x, kept)
            for number, (x, kept, axes) in arrays
        ]
        totals, own, kept = zip(*sent, strict=True)
        residue = trees.tree_sub(wanted, tree.unflatten(own))
        left = trees.tree_norm(residue) / math.sqrt(trees.tree_size(residue))
        rows = jax.tree.map(lambda x: x[None], Unsent(residue, kept))
        return tree.unflatten(totals), rows, left[None]

    def _remembered(self, layout: Layout, groups, specs: Unsent) -> Remembered:
        mesh = layout.mesh
        arrays = list(zip(_local_shapes(layout), groups, strict=True))

        def spread(unsent: Unsent):
            leaves, tree = jax.tree.flatten(in_rows(unsent.residue, layout.order, layout.model))
            ways = [ways_of(axes, mesh) for axes in groups]
            # Together the devices still have to send the same.
            residue = [_rows(x / n, n) for x, n in zip(leaves, ways, strict=True)]
            kept = tuple(self.how.first(shape) if axes else () for shape, axes in arrays)
            rows = jax.tree.map(lambda x: _rows(x, mesh.size), kept)
            return Unsent(tree.unflatten(residue), rows)

        def whole(unsent: Unsent):
            residue = jax.tree.map(lambda rows: rows.sum(0), unsent.residue)
            return Unsent(in_rows(residue, layout.order, layout.model, back=True), ())

        def first(params):
            return spread(Unsent(trees.tree_zeros_like(params), ()))

        return Remembered(first, specs, whole, spread)

    def _gradient_moves(self, layout: Layout):
        mesh = layout.mesh
        specs = jax.tree.leaves(layout.places.params)
        arrays = zip(_local_shapes(layout), _groups(layout), specs, strict=True)
        for shape, axes, spec in arrays:
            group = ways_of(axes, mesh)
            for kind, size in self.how.messages(shape, group) if axes else ():
                yield Collective.by_ring(kind, axes, group, size)
            yield from self._together(shape, spec, mesh)

    def _together(self, shape, spec, mesh: Mesh):
        """Yield what is summed as it is: gradients apart along axes that cut no batch."""
        for axis in self.inner.apart:
            if axis not in axes_of(spec) and (group := mesh.shape[axis]) > 1:
                size = shape.size * shape.dtype.itemsize
                yield Collective.by_ring("all_reduce", (axis,), group, size)

    def _check(self, layout: Layout) -> None:
        self.how.check(_local_shapes(layout))
        by_rules = param_specs(layout.model, self.inner.rules(), layout.mesh)
        if jax.tree.leaves(by_rules) != jax.tree.leaves(layout.places.kept):
            raise ValueError(
                lesson(
                    f"Compressed cannot send the gradients of {self.inner.name}.",
                    why="that sums each part of a gradient where it is kept, not whole.",
                    fix="Compressed(DataParallel(), ...), or another strategy that keeps them "
                    "whole.",
                )
            )


def _groups(layout: Layout) -> list[tuple[str, ...]]:
    """Return the mesh axes that the gradient of each array is summed over."""
    cut = [axis for axis in layout.cut_axes if layout.mesh.shape[axis] > 1]
    specs = jax.tree.leaves(layout.places.params)
    return [tuple(axis for axis in cut if axis not in axes_of(spec)) for spec in specs]


def _rows(x, count: int):
    """[...] -> [count, ...]."""
    return jnp.broadcast_to(x, (count, *x.shape))


def _specs_of_rows(layout: Layout, groups):
    """Return like the params: the place of an array that has a row for each device."""
    specs, tree = jax.tree.flatten(layout.places.params)
    return tree.unflatten(P(axes or None, *spec) for spec, axes in zip(specs, groups, strict=True))


def _local_shapes(layout: Layout) -> list[jax.ShapeDtypeStruct]:
    """Return the shape that each array has on one device."""
    shapes, specs = param_shapes(layout.model), layout.places.params
    return [
        jax.ShapeDtypeStruct(NamedSharding(layout.mesh, spec).shard_shape(x.shape), x.dtype)
        for x, spec in zip(*map(jax.tree.leaves, (shapes, specs)), strict=True)
    ]


def _leave_apart(_, grads, places):
    """[...] -> [1, ...]: summed over devices, but where the codec will do it."""

    def one(grad, whole, row):
        together = varying_axes(grad) - axes_of(whole) - axes_of(row)
        return (lax.psum(grad, tuple(sorted(together))) if together else grad)[None]

    return jax.tree.map(one, grads, places.params, places.kept)
