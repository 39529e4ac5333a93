"""A model from somebody else's loss: Flax, Equinox, or a dict of arrays."""

import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp

from pdlkit.errors import lesson
from pdlkit.models.floats import is_real
from pdlkit.models.layers import ALONE
from pdlkit.records import Model


def from_loss(loss: Callable, params) -> Model:
    """Return a model that minimises `loss` over a pytree, beginning at `params`.

    Its arrays of real numbers are trained. All else in the tree (functions, whole
    numbers, keys) stays as it is and the loss finds it in its place; in what
    training gives back there is None instead. Its arrays have no named axes, so
    it trains under every strategy that cuts the batch or keeps whole arrays cut.

    Args:
        loss: params, batch -> scalar; or params, batch, layers, by that name,
            where it calls layer operations such as `layers.mean`.
        params: an Equinox module, the state of a Flax NNX one, a dict, ...

    Raises:
        ValueError: there is no array of real numbers in `params`.
    """
    trained = jax.tree.map(lambda leaf: leaf if is_real(leaf) else None, params)
    kept = jax.device_get(jax.tree.map(lambda leaf: None if is_real(leaf) else leaf, params))
    if not jax.tree.leaves(trained):
        raise ValueError(
            lesson(
                f"there is nothing to train in a {type(params).__name__} of "
                f"{len(jax.tree.leaves(params))} leaves.",
                why="training moves arrays of real numbers, and none of these is one.",
                fix="pass the arrays: an Equinox module, nnx.state(model), a dict of arrays.",
            )
        )
    start = jax.device_get(trained)  # on the host: devices may come and go
    hears = "layers" in inspect.signature(loss).parameters

    def init(key):
        del key  # the params are given
        return jax.tree.map(jnp.asarray, start)

    def whole_loss(params, batch, layers=ALONE):
        whole = jax.tree.map(_either, params, kept, is_leaf=_is_none)
        return loss(whole, batch, layers=layers) if hears else loss(whole, batch)

    return Model(init, whole_loss, axes=None)


def _either(one, other):
    return other if one is None else one


def _is_none(node) -> bool:
    return node is None
