"""A model from its parts: one truth for the whole and for its pieces."""

import jax
import jax.numpy as jnp
from jax import lax

from pdlkit.errors import lesson
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
    """Return the shapes and dtypes of a model's params; nothing is run.

    Raises:
        TypeError: one of them holds no real numbers, so it has no gradient.
    """
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    for path, shape in jax.tree_util.tree_leaves_with_path(shapes):
        if not jnp.issubdtype(shape.dtype, jnp.inexact):
            raise TypeError(
                lesson(
                    f"params{jax.tree_util.keystr(path)} holds {shape.dtype} numbers.",
                    why="training takes the gradient by every array of the params.",
                    fix="whole numbers in the batch or in the loss itself; pdl.from_loss leaves "
                    "them out of the params by itself.",
                )
            )
    return shapes


def is_axes(node) -> bool:
    """Return whether this node of an axes tree names one array's axes."""
    return isinstance(node, tuple) and all(name is None or isinstance(name, str) for name in node)


def classify(logits, labels, layers):
    """[batch, classes], [batch] -> the mean cross-entropy of the batch.

    Raises:
        ValueError: labels of another shape, which would be compared with all examples.
    """
    if jnp.shape(labels) != logits.shape[:-1]:
        raise ValueError(
            lesson(
                f"labels of shape {list(jnp.shape(labels))} do not go with outputs of shape "
                f"{list(logits.shape)}.",
                why="a label is one whole number for each example: the place of its class.",
                fix="y.argmax(-1) of one-hot rows, or y[:, 0] of a single column.",
            )
        )
    return jnp.mean(layers.cross_entropy(logits, labels))


def regress(outputs, targets, layers):
    """[batch, n] twice -> the mean squared error of the batch.

    Raises:
        ValueError: targets of another shape, which would be compared with all examples.
    """
    del layers
    if jnp.shape(targets) != outputs.shape:
        raise ValueError(
            lesson(
                f"targets of shape {list(jnp.shape(targets))} do not go with outputs of shape "
                f"{list(outputs.shape)}.",
                why="each output comes near to a target of its own; NumPy's broadcasting would "
                "pair every example with every other.",
                fix="y[:, None], if one number is asked of each example.",
            )
        )
    return jnp.mean((outputs - targets) ** 2)


def dense(params, x, layers):
    """[..., inputs] -> [..., outputs]: one dense layer that no strategy replaces."""
    del layers
    return x @ params["w"] + params["b"]


def dense_params(key, inputs: int, outputs: int, gain: float = 2.0):
    """Return the weights [inputs, outputs] and bias [outputs] of a dense layer.

    `gain` is the variance that comes out for each one that goes in: 2 before a
    ReLU, which loses half of it, less where a block adds to a residual stream.

    Source: He et al. 2015, "Delving Deep into Rectifiers", https://arxiv.org/abs/1502.01852
    """
    scale = (gain / inputs) ** 0.5
    return {"w": scale * jax.random.normal(key, (inputs, outputs)), "b": jnp.zeros(outputs)}
