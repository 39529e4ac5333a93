"""Mixed precision: computed in half the bits, kept and summed up in float32."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from pdlkit.errors import lesson
from pdlkit.models.floats import cast, is_real
from pdlkit.models.layers import ALONE, Layers
from pdlkit.models.parts import through
from pdlkit.records import Model, Parts

PRODUCTS = ("up", "down", "conv", "attention", "experts")  # layers that are mostly products
ROUNDING = 0.05  # of the way that float32 goes in five steps of SGD, measured
EXACT = ("norm", "mean", "cross_entropy")  # sums of many numbers, and small differences


def mixed_precision(model: Model, compute=jnp.bfloat16, *, scale: float = 1.0) -> Model:
    """Return the model computed in fewer bits, with its weights kept in float32.

    Where the loss begins, weights and the real numbers of a batch are rounded to
    `compute`, and so is what enters a product of matrices; norms, cross-entropies and
    means of the whole batch are taken in float32, and gradients come out in float32.
    What is left is a model, so every strategy trains it. Five steps of SGD end within
    5 % of the way that float32 goes: 1 % off for dense layers and attention, 4 % where
    max-pooling chooses between pixels that round to the same number.

    Args:
        model: with params in float32.
        compute: `jnp.bfloat16`, with the range of float32 and 8 of its 24 digits, or
            `jnp.float16`, with 11 of them, which underflows below 6e-8.
        scale: what the gradient is multiplied by from the loss on, and divided by
            in the end, so that float16 keeps what is small; 2.0**15 is usual. A step that
            overflows is skipped by `optax.apply_if_finite`.

    Raises:
        ValueError: `compute` is another type, or the scale is not positive.

    Source: Micikevicius et al. 2017, "Mixed Precision Training",
    https://arxiv.org/abs/1710.03740
    """
    _check(compute, scale)
    lower, product = partial(_lower, compute=compute, scale=scale), partial(cast, dtype=compute)

    def loss(params, batch, layers=ALONE):
        layers = _mixed(layers, product)
        if model.parts is None:
            found = model.loss(lower(params), product(batch), layers)
        else:  # the targets are not rounded
            low = lower(params)
            x = through(model.parts, low, product(batch), layers, axes=model.axes)
            found = model.parts.last(low["last"], x, batch, layers)
        return _scaled(found.astype(jnp.float32), scale)

    def predict(params, batch, layers=ALONE):
        assert model.predict is not None, "handed out only where there is one"
        found = model.predict(lower(params), product(batch), _mixed(layers, product))
        return cast(found, jnp.float32)

    return model._replace(
        loss=loss,
        predict=model.predict and predict,
        rounding=ROUNDING,
        parts=model.parts and _in_parts(model.parts, lower, product, scale),
    )


def _in_parts(parts: Parts, lower, product, scale: float) -> Parts:
    def first(params, batch, layers):
        return parts.first(lower(params), product(batch), _mixed(layers, product))

    def block(params, x, layers):
        assert parts.block is not None, "handed out only where there is one"
        return parts.block(lower(params), x, _mixed(layers, product))

    def last(params, x, batch, layers):
        found = parts.last(lower(params), x, batch, _mixed(layers, product))
        return _scaled(found.astype(jnp.float32), scale)

    return Parts(first, parts.block and block, last)


def _mixed(layers: Layers, product) -> Layers:
    """Return the layer operations, each with what it takes in its own precision."""
    exact = partial(cast, dtype=jnp.float32)
    changed = {name: _taking(getattr(layers, name), product) for name in PRODUCTS}
    changed |= {name: _taking(getattr(layers, name), exact) for name in EXACT}
    return layers._replace(**changed)


def _taking(operation, to):
    def taken(*arguments, **options):
        return operation(*to(arguments), **to(options))

    return taken


def _lower(params, *, compute, scale: float):
    """Return params rounded; their gradients come back in float32 and unscaled."""

    @jax.custom_vjp
    def rounded(param):
        return param.astype(compute)

    def forward(param):
        return rounded(param), None

    def back(_, grad):
        return (grad.astype(jnp.float32) / scale,)

    rounded.defvjp(forward, back)
    return jax.tree.map(lambda leaf: rounded(leaf) if is_real(leaf) else leaf, params)


def _scaled(loss, scale: float):
    """Return the loss as it is; what goes back from it is scaled."""

    @jax.custom_vjp
    def same(loss):
        return loss

    same.defvjp(lambda loss: (loss, None), lambda _, grad: (grad * scale,))
    return same(loss)


def _check(compute, scale: float) -> None:
    try:
        name = np.dtype(compute).name
    except TypeError:  # "bf16", say
        name = repr(compute)
    if name not in ("bfloat16", "float16"):
        raise ValueError(
            lesson(
                f"mixed precision cannot compute in {name}.",
                why="weights are kept in float32, and layers computed in 16 bits.",
                fix="jnp.bfloat16, or jnp.float16 with scale=2.0**15.",
            )
        )
    if not (np.isfinite(scale) and scale > 0):
        raise ValueError(
            lesson(
                f"a loss cannot be scaled by {scale:g}.",
                why="gradients are multiplied by it and divided by it in the end.",
                fix="a power of two, which rounds nothing: 1.0, or 2.0**15 for float16.",
            )
        )
