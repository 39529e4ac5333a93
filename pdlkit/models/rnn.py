"""Recurrent networks: one cell, run along a sequence, remembers what it has seen."""

import jax
import jax.numpy as jnp
from jax import lax

from pdlkit.models.parts import dense, dense_params, from_parts, regress
from pdlkit.records import Model, Parts

GATE_AXES = {
    "w": ("layers", "embed", "state"),
    "u": ("layers", None, "state"),
    "b": ("layers", "state"),
}


def rnn(features: int = 1, outputs: int = 1, *, hidden=32, blocks=1) -> Model:
    """Return Elman's network, [batch, seq, features] -> [batch, seq, outputs].

    h_t = tanh(W x_t + U h_{t-1} + b) in each block; x_t is the value at time t,
    or what the block before said of it.

    Args:
        features: numbers at each time.
        outputs: numbers to predict at each time, from all up to then.
        hidden: width of the state.
        blocks: how many cells, each on top of the one before.

    Source: Elman 1990, "Finding Structure in Time", doi:10.1207/s15516709cog1402_1
    """
    return _recurrent(elman, ("candidate",), (features, hidden, outputs), blocks)


def gru(features: int = 1, outputs: int = 1, *, hidden=32, blocks=1) -> Model:
    """Return a network of gated recurrent units; shapes and sizes as for `rnn`.

    Source: Cho et al. 2014, "Learning Phrase Representations using RNN
    Encoder-Decoder", https://arxiv.org/abs/1406.1078
    """
    gates = ("update", "reset", "candidate")
    return _recurrent(gated, gates, (features, hidden, outputs), blocks)


def elman(params, h, x):
    """[batch, hidden] state, [batch, embed] input -> the next state."""
    return jnp.tanh(_drive(params["candidate"], h, x))


def gated(params, h, x):
    """[batch, hidden] state, [batch, embed] input -> the next state, part of it kept."""
    kept = jax.nn.sigmoid(_drive(params["update"], h, x))
    reset = jax.nn.sigmoid(_drive(params["reset"], h, x))
    return kept * h + (1 - kept) * jnp.tanh(_drive(params["candidate"], reset * h, x))


def _recurrent(cell, gates, widths, blocks: int) -> Model:
    features, hidden, outputs = widths

    def init(key):
        first, middle, last = jax.random.split(key, 3)

        def block(key):
            return {
                gate: _gate_params(key, hidden)
                for gate, key in zip(gates, jax.random.split(key, len(gates)), strict=True)
            }

        return {
            "first": dense_params(first, features, hidden, gain=1),
            "blocks": jax.vmap(block)(jax.random.split(middle, blocks)),
            "last": dense_params(last, hidden, outputs, gain=1),
        }

    def block(params, x, layers):
        del layers

        def step(h, x):
            h = cell(params, h, x)
            return h, h

        start = jnp.zeros_like(x[:, 0])  # like x, which differs from device to device
        _, states = lax.scan(step, start, jnp.moveaxis(x, 1, 0))
        return jnp.moveaxis(states, 0, 1)

    def finish(params, x, batch, layers):
        return regress(dense(params, x, layers), batch[1], layers)

    axes = {
        "first": {"w": ("features", "embed"), "b": ("embed",)},
        "blocks": dict.fromkeys(gates, GATE_AXES),
        "last": {"w": ("state", "outputs"), "b": ("outputs",)},
    }
    first = lambda params, batch, layers: dense(params, batch[0], layers)  # noqa: E731
    return from_parts(Parts(first, block, finish), dense, init=init, axes=axes)


def _drive(gate, h, x):
    return x @ gate["w"] + h @ gate["u"] + gate["b"]


def _gate_params(key, hidden: int):
    w, u = jax.random.split(key)
    back = dense_params(u, hidden, hidden, gain=1)["w"]
    return {**dense_params(w, hidden, hidden, gain=1), "u": back}
