"""A model from its parts: one truth for the whole and for its pieces."""

import jax
import jax.numpy as jnp
from jax import lax

from pdlkit.models.layers import ALONE
from pdlkit.records import Model, Parts


def from_parts(parts: Parts, outputs, *, init, axes) -> Model:
    """Return the model that runs `first`, every block, then `last`.

    Args:
        parts: see `Parts`.
        outputs: params["last"], x, layers -> [batch, ...], the predictions.
        init: key -> params, with the keys that `Parts` names.
        axes: like params, the names of each array's axes.
    """

    def loss(params, batch, layers=ALONE):
        x = through(parts, params, batch, layers, axes=axes)
        return parts.last(params["last"], x, batch, layers)

    def predict(params, batch, layers=ALONE):
        x = through(parts, params, batch, layers, axes=axes)
        return outputs(params["last"], x, layers)

    return Model(init, loss, axes, parts=parts, predict=predict)


def through(parts: Parts, params, batch, layers, *, axes):
    """Return what comes out of `first` and every block."""
    x = parts.first(params["first"], batch, layers)
    if parts.block is None:
        return x
    return repeat(parts.block, params["blocks"], x, axes=axes["blocks"], layers=layers)


def repeat(block, params, x, *, axes, layers):
    """Run equal blocks one after another, compiled once however many there are.

    Args:
        block: one block's params, x, layers -> x.
        params: each array with a leading `layers` axis.
        x: what enters the first block.
        axes: like params, with the leading `layers`.
        layers: the layer operations; what a block notes comes out stacked.
    """

    def apply(one, x):
        notes = {}
        return block(one, x, layers._replace(note=notes.__setitem__)), notes

    inner = jax.tree.map(lambda names: names[1:], axes, is_leaf=is_axes)
    x, notes = lax.scan(lambda x, one: layers.block(apply, inner)(one, x), x, params)
    for name, values in notes.items():
        layers.note(name, values)  # [layers, ...]
    return x


def param_shapes(model: Model):
    """Return the shapes and dtypes of a model's params; nothing is run."""
    return jax.eval_shape(model.init, jax.random.key(0))


def is_axes(node) -> bool:
    """Return whether this node of an axes tree names one array's axes."""
    return isinstance(node, tuple) and all(name is None or isinstance(name, str) for name in node)


def classify(logits, labels, layers):
    """[batch, classes], [batch] -> the mean cross-entropy of the batch."""
    return jnp.mean(layers.cross_entropy(logits, labels))


def regress(outputs, targets, layers):
    """[batch, n] twice -> the mean squared error of the batch."""
    del layers
    return jnp.mean((outputs - targets) ** 2)


def dense_params(key, inputs: int, outputs: int, gain: float = 2.0):
    """Return the weights [inputs, outputs] and bias [outputs] of a dense layer.

    `gain` is the variance that comes out for each one that goes in: 2 before a
    ReLU, which loses half of it, less where a block adds to a residual stream.

    Source: He et al. 2015, "Delving Deep into Rectifiers", https://arxiv.org/abs/1502.01852
    """
    scale = (gain / inputs) ** 0.5
    return {"w": scale * jax.random.normal(key, (inputs, outputs)), "b": jnp.zeros(outputs)}
