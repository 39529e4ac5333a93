"""One device's share of a step where the shares are not equal."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from pdlkit.compat import vary
from pdlkit.records import Metrics, Model
from pdlkit.strategies.accumulating import whole_weights
from pdlkit.strategies.listening import Ear, Heard, Micro, same_on_every_share
from pdlkit.strategies.meeting import meet, vary_params
from pdlkit.strategies.placement import Places


def heard_loss(model: Model, params, shares) -> Callable:
    """Return params, batch, `Micro` -> loss, `Heard`: the loss of one share.

    Args:
        model: what is trained.
        params: as the loss takes them; only shapes are read, here and of the shares.
        shares: like a batch, each array [shares, examples, ...].

    Raises:
        ValueError: the loss cannot be put together from those of the shares.
    """
    same = same_on_every_share(model.loss, params, shares, "share")

    def loss(params, batch, micro):
        ear = Ear((), same, micro)
        value = model.loss(params, batch, ear.layers({}))
        return value, Heard(ear.metrics(value), ear.weights)

    jax.eval_shape(lambda params, shares: whole_weights(loss, params, shares, ()), params, shares)
    return loss


def uneven_share(loss: Callable, rows: Sequence[int], axis: str, places: Places) -> Callable:
    """Return params, batch -> gradients, metrics: what each device does.

    A device runs the branch for its own number of examples, and no other. Nothing is
    sent inside of it, for not all are in the same one: what `layers.mean` must know of
    the others is summed before, and the gradients meet after.

    Args:
        loss: as `heard_loss` gives it.
        rows: how many examples each device takes.
        axis: the mesh axis of the devices.
        places: of the params, whole on every device.
    """
    sizes, ways, examples = sorted(set(rows)), len(rows), sum(rows)

    def weigh(size, params, batch):
        del size
        return whole_weights(loss, params, jax.tree.map(lambda x: x[None], batch), ())

    def work(size, params, batch, weights):
        part = size / examples
        micro = Micro(ways, tuple(part * ways * weight for weight in weights))

        def objective(params):
            value, heard = loss(params, batch, micro)
            return part * value, heard.metrics

        return jax.grad(objective, has_aux=True)(params)

    def share(params, padded):
        batch = jax.tree.map(lambda x: x[0], padded)  # [most, ...]
        own = vary_params(params, places.params, (axis,))
        place = lax.axis_index(axis)
        branch = jnp.array([sizes.index(size) for size in rows])[place]
        weights = lax.switch(branch, _branches(weigh, sizes, axis), own, batch)
        weights = tuple(lax.psum(weight, axis) for weight in weights)
        grads, metrics = lax.switch(branch, _branches(work, sizes, axis), own, batch, weights)
        return meet(own, grads, places), _weighed(metrics, jnp.array(rows)[place])

    return share


def _branches(function: Callable, sizes: Sequence[int], axis: str) -> list[Callable]:
    """Return for each size what runs a function on so many rows of the batch.

    Of no rows it makes zeros.
    """

    def on_rows(size, params, batch, *rest):
        return function(size, params, jax.tree.map(lambda x: x[:size], batch), *rest)

    def branch(size):
        def run(*given):
            if size:
                found = on_rows(size, *given)
            else:
                shapes = jax.eval_shape(partial(on_rows, sizes[-1]), *given)
                found = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
            return jax.tree.map(lambda x: vary(x, (axis,)), found)

        return run

    return [branch(size) for size in sizes]


def _weighed(metrics: Metrics, rows) -> Metrics:
    """Return the metrics, weighed by rows where the loss has no weight itself."""
    if metrics.device_weight is not None:
        return metrics
    return metrics._replace(device_weight=rows.astype(jnp.float32)[None])
