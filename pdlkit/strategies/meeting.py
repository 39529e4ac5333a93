"""How gradients come about on each device, and how they meet. Only here.

A batch axis cut over a mesh axis leaves each device a part of every gradient;
the parts are summed. Nothing else in the package sums gradients.
"""

import math
from collections.abc import Callable

import jax
from jax import lax
from jax.sharding import PartitionSpec as P

from pdlkit.compat import vary, varying_axes
from pdlkit.records import Collective, Model, ring_wire_bytes
from pdlkit.strategies.listening import Ear


def whole_share(model: Model, replaced: dict, mesh) -> Callable:
    """Return params, batch -> gradients, metrics: one device's share of a step.

    The gradients are those of the loss of the whole batch with respect to this
    device's copy of the params: summed over the devices they are the gradient.
    """

    def share(params, batch):
        cut = frozenset().union(*map(varying_axes, jax.tree.leaves(batch)))

        def objective(params):
            ear = Ear(tuple(axis for axis in mesh.axis_names if axis in cut))
            loss = model.loss(params, batch, ear.layers(replaced))
            # A loss that differs between devices is a mean over this one's share;
            # one that does not is already that of the whole batch.
            ways = math.prod(mesh.shape[axis] for axis in varying_axes(loss))
            return loss / ways, ear.metrics(loss)

        return jax.grad(objective, has_aux=True)(params)

    return share


def vary_params(params, specs, cuts: tuple[str, ...]):
    """Mark params as each device's own copy, so that autodiff does not sum for us."""
    return jax.tree.map(lambda param, spec: vary(param, _unsummed(spec, cuts)), params, specs)


def meet(grads, specs, cuts: tuple[str, ...]):
    """Sum the devices' shares of each gradient where they are still apart."""

    def together(grad, spec):
        axes = _unsummed(spec, cuts)
        return lax.psum(grad, axes) if axes else grad

    return jax.tree.map(together, grads, specs)


def gradient_moves(shapes, specs, cuts: tuple[str, ...], mesh) -> tuple[Collective, ...]:
    """Return what `meet` sends: one all-reduce for each array of the params."""

    def move(shape, spec):
        axes = _unsummed(spec, cuts)
        group = math.prod(mesh.shape[axis] for axis in axes)
        cut = math.prod(mesh.shape[axis] for axis in spec if axis is not None)
        size = shape.size * shape.dtype.itemsize // cut
        wire = ring_wire_bytes("all_reduce", group, size)
        return Collective("all_reduce", axes, group, size, wire)

    pairs = zip(jax.tree.leaves(shapes), jax.tree.leaves(specs), strict=True)
    return tuple(each for each in (move(*pair) for pair in pairs) if each.group > 1)


def _unsummed(spec: P, cuts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the cut axes along which an array is whole on every device."""
    return tuple(axis for axis in cuts if axis not in spec)
