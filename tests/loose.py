"""What tests of loosely synchronised training share: small digits that compile fast."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import plain

import pdlkit as pdl
from pdlkit.models.layers import ALONE


@functools.cache
def digits():
    """Return a workload: 64 numbers an image, one hidden layer of 16."""
    axes = {
        "in": ("pixels", "mlp"),
        "bias": ("mlp",),
        "out": ("mlp", "digits"),
        "last": ("digits",),
    }
    batches = pdl.workloads.digits_mlp().batches
    model = pdl.Model(_init, _loss, axes)
    return pdl.Workload("small digits", model, optax.adam(5e-3), batches, _accuracy)


def _init(key):
    a, b = jax.random.split(key)
    rows, columns = jax.random.normal(a, (64, 16)) / 8, jax.random.normal(b, (16, 10)) / 4
    return {"in": rows, "bias": jnp.zeros(16), "out": columns, "last": jnp.zeros(10)}


def _logits(params, images, layers=ALONE):
    hidden = jnp.tanh(images @ params["in"] + params["bias"])
    return layers.down(hidden, params["out"], params["last"])


def _loss(params, batch, layers=ALONE):
    return jnp.mean(layers.cross_entropy(_logits(params, batch[0], layers), batch[1]))


def _accuracy(model, params, batch):
    return jnp.mean(_logits(params, batch[0]).argmax(-1) == batch[1])


def start():
    """Return the first weights."""
    return digits().model.init(jax.random.key(0))


def batches(count):
    """Return the first batches."""
    return [digits().batch(k) for k in range(count)]


def weight_bytes():
    """Return how many bytes the weights have."""
    return 4 * sum(x.size for x in jax.tree.leaves(start()))


def alone(optimizer, batches, params=None):
    """Return the weights that one device makes of some batches, in the shortest JAX."""
    begin = start() if params is None else params
    return plain.train(digits().model.loss, optimizer, begin, batches)[0]


@functools.cache
def gradient():
    """Return params, batch -> the gradient of the loss, jitted once."""
    return jax.jit(jax.grad(digits().model.loss))


def build(strategy, optimizer=None, **axes):
    """Return a strategy's program for the small digits."""
    return strategy.build(digits().model, optimizer or optax.sgd(0.1), pdl.mesh(**axes))


def run(program, batches):
    """Return the state and what each step said of itself, on the host."""
    state, seen = program.init(start()), []
    for batch in batches:
        state, metrics = program.step(state, batch)
        seen.append(jax.device_get(metrics))
    return state, seen


def shares(batch, ways):
    """Return what each of so many devices sees of a batch."""
    return list(zip(*jax.tree.map(lambda x: np.split(x, ways), batch), strict=True))


def mean(trees):
    """Return the mean of several trees."""
    return jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *trees)


def placed(program, state):
    """Return a state of host arrays where a program wants it."""
    like = jax.eval_shape(program.init, start())
    return jax.tree.map(lambda x, to: jax.device_put(x, to.sharding), state, like)
