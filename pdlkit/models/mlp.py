"""A residual multilayer perceptron."""

import jax

from pdlkit.models.parts import classify, dense, dense_params, from_parts
from pdlkit.records import Model, Parts

AXES = {
    "first": {"w": ("features", "embed"), "b": ("embed",)},
    "blocks": {
        "up": {"w": ("layers", "embed", "mlp"), "b": ("layers", "mlp")},
        "down": {"w": ("layers", "mlp", "embed"), "b": ("layers", "embed")},
    },
    "last": {"w": ("embed", "outputs"), "b": ("outputs",)},
}


def mlp(
    features: int = 64, outputs: int = 10, *, embed=64, hidden=128, blocks=2, head=classify
) -> Model:
    """Return residual blocks, [batch, features] -> [batch, outputs].

    Args:
        features: numbers in one example.
        outputs: classes, or numbers to predict.
        embed: width of the residual stream.
        hidden: width inside a block.
        blocks: how many blocks.
        head: `classify` or `regress`: outputs, targets, layers -> scalar.

    Source: He et al. 2016, "Deep Residual Learning", https://arxiv.org/abs/1512.03385
    """

    def init(key):
        first, middle, last = jax.random.split(key, 3)

        def block(key):
            up, down = jax.random.split(key)
            return {
                "up": dense_params(up, embed, hidden),
                "down": dense_params(down, hidden, embed, gain=1 / blocks),
            }

        return {
            "first": dense_params(first, features, embed),
            "blocks": jax.vmap(block)(jax.random.split(middle, blocks)),
            "last": dense_params(last, embed, outputs, gain=0.5),
        }

    def finish(params, x, batch, layers):
        return head(dense(params, x, layers), batch[1], layers)

    parts = Parts(_first, _block, finish)
    return from_parts(parts, dense, init=init, axes=AXES)


def _first(params, batch, layers):
    return jax.nn.relu(dense(params, batch[0], layers))


def _block(params, x, layers):
    hidden = jax.nn.relu(layers.up(x, **params["up"]))
    return x + layers.down(hidden, **params["down"])
