"""Autoencoders: what was seen, through a narrow place, and back."""

import jax
import jax.numpy as jnp

from pdlkit.models.parts import dense_params, from_parts
from pdlkit.records import Model, Parts

PAIR_AXES = {
    "up": {"w": ("features", "mlp"), "b": ("mlp",)},
    "down": {"w": ("mlp", "outputs"), "b": ("outputs",)},
}


def autoencoder(features: int = 64, code: int = 8, *, hidden=64) -> Model:
    """Return two dense layers to a code and two back, [batch, features] -> the same.

    A batch is (x,). The loss is the mean squared error of what comes back.

    Source: Hinton and Salakhutdinov 2006, "Reducing the Dimensionality of Data
    with Neural Networks", doi:10.1126/science.1127647
    """

    def init(key):
        there, back = jax.random.split(key)
        return {
            "first": pair_params(there, features, hidden, code),
            "last": pair_params(back, code, hidden, features),
        }

    def encode(params, batch, layers):
        return pair(params, batch[0], layers)

    def finish(params, code, batch, layers):
        return jnp.mean((pair(params, code, layers) - batch[0]) ** 2)

    axes = {"first": PAIR_AXES, "last": PAIR_AXES}
    return from_parts(Parts(encode, None, finish), pair, init=init, axes=axes)


def variational_autoencoder(features: int = 64, code: int = 8, *, hidden=64) -> Model:
    """Return an autoencoder whose code is drawn, [batch, features] -> same, in 0..1.

    A batch is (x, noise): [batch, features] in 0..1 and [batch, code], normal
    numbers by which the code is drawn. The loss is minus the evidence lower
    bound, in nats an example: what it takes to tell x given the code, and the code.

    Source: Kingma and Welling 2013, "Auto-Encoding Variational Bayes",
    https://arxiv.org/abs/1312.6114
    """

    def init(key):
        there, back = jax.random.split(key)
        return {
            "first": pair_params(there, features, hidden, 2 * code),
            "last": pair_params(back, code, hidden, features),
        }

    def draw(params, batch, layers):
        mean, log_variance = jnp.split(pair(params, batch[0], layers), 2, -1)
        drawn = mean + jnp.exp(log_variance / 2) * batch[1]
        nats = 0.5 * (mean**2 + jnp.exp(log_variance) - 1 - log_variance).sum(-1)
        return drawn, nats  # [batch, code], [batch]: how far the code is from plain noise

    def finish(params, drawn, batch, layers):
        code, nats = drawn
        return jnp.mean(binary_cross_entropy(pair(params, code, layers), batch[0]).sum(-1) + nats)

    def outputs(params, drawn, layers):
        return jax.nn.sigmoid(pair(params, drawn[0], layers))

    axes = {"first": PAIR_AXES, "last": PAIR_AXES}
    return from_parts(Parts(draw, None, finish), outputs, init=init, axes=axes)


def pair_params(key, inputs: int, hidden: int, outputs: int):
    """Return the params of two dense layers."""
    up, down = jax.random.split(key)
    return {
        "up": dense_params(up, inputs, hidden),
        "down": dense_params(down, hidden, outputs, gain=1),
    }


def pair(params, x, layers, *, activation=jax.nn.relu):
    """[batch, inputs] -> [batch, outputs]: two dense layers."""
    return layers.down(activation(layers.up(x, **params["up"])), **params["down"])


def binary_cross_entropy(logits, share):
    """[...] twice -> [...]: minus the log probability of what is 1 with this share."""
    return jax.nn.softplus(logits) - share * logits
