"""A share of the batch in micro-batches, one after another: gradients add up."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import jaxpr_as_fun
from jax.interpreters import partial_eval

from pdlkit.compat import sum_over, zeros_like_type
from pdlkit.errors import fitting_sizes, lesson
from pdlkit.records import Metrics
from pdlkit.strategies.listening import Micro


def accumulated(
    loss: Callable, params, batch, axes, *, times: int, settle: Callable | None
) -> tuple[object, Metrics]:
    """Return the gradients and metrics of a share, `1 / times` of it at a time.

    Args:
        loss: params, batch, `Micro` -> loss, `Heard`; the mean of the micro-batches'
            losses is the loss of the share.
        params: this device's.
        batch: this device's share, [examples, ...] each.
        axes: the mesh axes that the batch is cut over.
        times: how many micro-batches.
        settle: params, gradients -> gradients, what is done to those of each.

    Raises:
        ValueError: the share does not divide, or the loss is not linear in its means.
    """
    batches = divided(batch, times)
    micro = Micro(times, whole_weights(loss, params, batches, axes))

    def one(batch):
        grads, heard = jax.grad(loss, has_aux=True)(params, batch, micro)
        return settle(params, grads) if settle else grads, heard.metrics

    def turn(total, batch):
        grads, metrics = one(batch)
        return jax.tree.map(jnp.add, total, grads), metrics

    types = jax.make_jaxpr(lambda batch: one(batch)[0])(first_of(batches)).out_avals
    zeros = jax.tree.unflatten(jax.tree.structure(params), map(zeros_like_type, types))
    total, metrics = lax.scan(turn, zeros, batches)
    return jax.tree.map(lambda x: x / times, total), together(metrics)


def divided(batch, times: int):
    """[examples, ...] -> [times, examples / times, ...].

    Raises:
        ValueError: the examples do not divide.
    """
    size = len(jax.tree.leaves(batch)[0])
    if size % times:
        raise ValueError(
            lesson(
                f"a share of {size} examples does not divide into {times} micro-batches.",
                why="each of them takes the same number of examples.",
                fix=f"a share of {fitting_sizes(size, times)} examples, or another number.",
            )
        )
    return jax.tree.map(lambda x: x.reshape(times, -1, *x.shape[1:]), batch)


def first_of(batches):
    """[times, ...] -> [...], the first micro-batch."""
    return jax.tree.map(lambda x: x[0], batches)


def whole_weights(loss: Callable, params, batches, axes) -> tuple:
    """Return the weight of each `layers.mean` of a loss, over the whole batch.

    Only what the weights need is computed, which is hardly ever more than a mask.

    Raises:
        ValueError: the loss is not linear in its means, so that its gradient is not
            the sum of the gradients of its micro-batches.
    """
    times = len(jax.tree.leaves(batches)[0])

    def weigh(batch):
        return loss(params, batch, Micro(times))[1].weights

    asked = jax.make_jaxpr(weigh)(first_of(batches))
    if not asked.out_avals:
        return ()
    _check_linear(loss, params, first_of(batches), times, asked.out_avals)
    needed, used = partial_eval.dce_jaxpr(asked.jaxpr, [True] * len(asked.out_avals))
    weigh_only = jaxpr_as_fun(asked.replace(jaxpr=needed))
    inputs = [x for x, used in zip(jax.tree.leaves(batches), used, strict=True) if used]
    # The counter is there for weights that need nothing of the batch, such as its size.
    each = lax.map(lambda turn: weigh_only(*turn[1]), (jnp.arange(times), inputs))
    return tuple(sum_over(weights.sum(0), axes) if axes else weights.sum(0) for weights in each)


def _check_linear(loss, params, batch, times: int, weights) -> None:
    """Raise if the slope of a loss with respect to one of its means is no constant."""
    ones = tuple(jnp.ones(kind.shape, kind.dtype) for kind in weights)

    def slopes(params, batch):
        def nudged(nudges):
            return loss(params, batch, Micro(times, ones, nudges))[0]

        return jax.grad(nudged)(jnp.zeros(len(ones)))

    traced = jax.make_jaxpr(slopes)(params, batch)
    _, used = partial_eval.dce_jaxpr(traced.jaxpr, [True] * len(traced.out_avals))
    if any(used):
        raise ValueError(
            lesson(
                f"the loss is not a sum of its means, and is taken in {times} micro-batches.",
                why="a root or a product of `layers.mean`s of the whole batch is not the sum of "
                "those of its parts.",
                fix="one micro-batch, or a loss that only adds means.",
            )
        )


def together(metrics: Metrics) -> Metrics:
    """[micro-batches, 1, ...] -> the metrics of the share; notes keep a row for each.

    A micro-batch without a single counted example has no say in the loss.
    """
    losses, weights = metrics.device_loss, metrics.device_weight
    notes = {name: jnp.moveaxis(note, 0, 1) for name, note in metrics.notes.items()}
    if weights is None:
        return Metrics(losses.mean(0), notes)
    total = weights.sum(0)
    mean = (weights * losses).sum(0) / jnp.where(total > 0, total, 1)
    return Metrics(jnp.where(total > 0, mean, losses.mean(0)), notes, total)
