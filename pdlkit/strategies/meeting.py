"""How gradients come about on each device, and how they meet.

A batch axis cut over a mesh axis leaves each device a part of every gradient;
the parts are summed, and only here: `pmap` takes a mean of its own, and what is
compressed is summed by its codec.
"""

from collections.abc import Callable, Iterator

import jax
from jax import lax
from jax.sharding import PartitionSpec as P

from pdlkit.compat import vary, varying_axes
from pdlkit.records import Collective, Model
from pdlkit.strategies.accumulating import accumulated
from pdlkit.strategies.listening import Ear, Heard
from pdlkit.strategies.placement import Places, axes_of, ways_of


def whole_share(
    model: Model, replaced: dict, mesh, *, around=None, times: int = 1, settle=None
) -> Callable:
    """Return params, batch -> gradients, metrics: one device's share of a step.

    The gradients are those of the loss of the whole batch with respect to this
    device's copy of the params: summed over the devices they are the gradient.

    Args:
        model: what is trained.
        replaced: the layer operations that the strategy puts in place of the model's.
        mesh: the devices.
        around: loss -> loss, what the strategy does round params, batch -> loss.
        times: micro-batches that the share is cut into, one after another.
        settle: params, gradients -> gradients, what is done to those of each micro-batch.
    """

    def share(params, batch):
        axes = cut_over(batch, mesh)

        def loss(params, batch, micro=None):
            ear = Ear(axes, micro=micro)
            loss = model.loss(params, batch, ear.layers(replaced))
            # A loss that differs between devices is a mean over this one's share;
            # one that does not is already that of the whole batch.
            ways = ways_of(varying_axes(loss), mesh)
            return loss / ways, Heard(ear.metrics(loss), ear.weights)

        loss = loss if around is None else around(loss)
        if times > 1:
            return accumulated(loss, params, batch, axes, times=times, settle=settle)
        grads, heard = jax.grad(loss, has_aux=True)(params, batch)
        return grads, heard.metrics

    return share


def cut_over(batch, mesh) -> tuple[str, ...]:
    """Return the mesh axes that a batch is cut over; only inside `shard_map`."""
    cut = frozenset().union(*map(varying_axes, jax.tree.leaves(batch)))
    return tuple(axis for axis in mesh.axis_names if axis in cut)


def vary_params(params, specs, cuts: tuple[str, ...]):
    """Mark params as each device's own copy, so that autodiff does not sum for us."""

    def own(param, spec):
        return vary(param, tuple(axis for axis in cuts if axis not in axes_of(spec)))

    return jax.tree.map(own, params, specs)


def meet(params, grads, places: Places):
    """Sum the devices' shares of each gradient where they are still apart.

    A gradient that differs along a mesh axis on which its weight is whole is
    summed there; where the optimizer keeps only a part of it, each device gets
    the sum of its own part, if that was not done before.
    """

    def together(param, grad, whole, kept):
        apart = varying_axes(grad) - axes_of(whole)
        for dimension, axis in enumerate(kept):
            if axis in apart and grad.shape[dimension] == param.shape[dimension]:
                grad = lax.psum_scatter(grad, axis, scatter_dimension=dimension, tiled=True)
        rest = tuple(axis for axis in sorted(apart) if axis not in axes_of(kept))
        return lax.psum(grad, rest) if rest else grad

    return jax.tree.map(together, params, grads, places.params, places.kept)


def gradient_moves(
    shapes, places: Places, cuts: tuple[str, ...], mesh, *, times: int = 1
) -> tuple[Collective, ...]:
    """Return what `meet` sends, and what brings params together again.

    Args:
        shapes: of the whole params.
        places: where they and their gradients live.
        cuts: the mesh axes that the batch is cut over.
        mesh: the devices.
        times: how often gradients are scattered in one step.
    """
    leaves = zip(*map(jax.tree.leaves, (shapes, places.params, places.kept)), strict=True)
    return tuple(
        move
        for shape, whole, kept in leaves
        for move in _moves(shape, whole, kept, cuts, mesh, times)
        if move.group > 1
    )


def _moves(shape, whole: P, kept: P, cuts, mesh, times):
    apart = tuple(axis for axis in cuts if axis not in axes_of(whole))
    held = ways_of(whole, mesh)
    size = shape.size * shape.dtype.itemsize // held
    for axis in (axis for axis in kept if axis in axes_of(kept) - axes_of(whole)):
        group = mesh.shape[axis]
        yield Collective.by_ring("reduce_scatter", (axis,), group, size, times)
        size //= group
        yield Collective.by_ring("all_gather", (axis,), group, size)
    rest = tuple(axis for axis in mesh.axis_names if axis in apart and axis not in axes_of(kept))
    yield Collective.by_ring("all_reduce", rest, ways_of(rest, mesh), size, times)


def mean_moves(calls, cuts: tuple[str, ...], mesh, *, times: int) -> Iterator[Collective]:
    """Yield what `layers.mean` sends: totals each micro-batch, weights each step."""
    group = ways_of(cuts, mesh)
    for call in calls:
        if call.operation == "mean" and group > 1:
            total, weight = call.arguments
            yield Collective.by_ring("all_reduce", cuts, group, total.bytes, call.times * times)
            if hasattr(weight, "bytes"):  # a plain number is multiplied, not sent
                yield Collective.by_ring("all_reduce", cuts, group, weight.bytes, call.times)
