"""Losses of others: Flax, Equinox and a dict of arrays, by every strategy that fits."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import plain
import pytest
from flax import nnx

import pdlkit as pdl

X = np.linspace(-0.5, 1, 64, dtype=np.float32).reshape(64, 1)
BATCHES = [(X, np.sin(3 * X)), (X[::-1] / 2, np.sin(1.5 * X[::-1]))]
STRATEGIES = {
    "one": (pdl.OneDevice(), {"data": 1}),
    "data": (pdl.DataParallel(), {"data": 4}),
    "pmap": (pdl.PmapDataParallel(), {"data": 4}),
    "automatic": (pdl.Automatic(), {"data": 4}),
    "zero 1": (pdl.ZeRO(stage=1), {"data": 4}),
    "zero 3": (pdl.ZeRO(stage=3), {"data": 4}),
}


def arrays():
    """Return a loss over a dict of arrays, and the dict."""
    draw = np.random.default_rng(0)
    params = {"in": draw.normal(size=(1, 8)), "out": draw.normal(size=(8, 1)) / 3}

    def loss(params, batch):
        x, y = batch
        return jnp.mean((jnp.tanh(x @ params["in"]) @ params["out"] - y) ** 2)

    return loss, jax.tree.map(np.float32, params)


def equinox():
    """Return a loss over an Equinox module, which holds functions too, and the module."""
    mlp = eqx.nn.MLP(1, 1, 8, 1, activation=jnp.tanh, key=jax.random.key(0))
    assert any(callable(leaf) for leaf in jax.tree.leaves(mlp))

    def loss(mlp, batch):
        x, y = batch
        return jnp.mean((jax.vmap(mlp)(x) - y) ** 2)

    return loss, mlp


def flax():
    """Return a loss over the state of a Flax NNX module, and the state."""

    class Network(nnx.Module):
        def __init__(self, rngs):
            self.hidden = nnx.Linear(1, 8, rngs=rngs)
            self.out = nnx.Linear(8, 1, rngs=rngs)

        def __call__(self, x):
            return self.out(nnx.tanh(self.hidden(x)))

    graph, state = nnx.split(Network(nnx.Rngs(0)))

    def loss(state, batch):
        x, y = batch
        return jnp.mean((nnx.merge(graph, state)(x) - y) ** 2)

    return loss, state


def is_real(leaf) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("make", [arrays, equinox, flax], ids=lambda make: make.__name__)
def test_any_pytree_trains(make, strategy):
    """Every such strategy leaves the weights that one device makes of the loss by itself."""
    loss, params = make()
    real, tree = jax.tree.flatten(params)
    places = [i for i, leaf in enumerate(real) if is_real(leaf)]

    def by_itself(trained, batch):
        leaves = list(real)
        for i, leaf in zip(places, trained, strict=True):
            leaves[i] = leaf
        return loss(jax.tree.unflatten(tree, leaves), batch)

    start = [jnp.asarray(real[i]) for i in places]
    there, losses = plain.train(by_itself, optax.sgd(0.1), start, BATCHES)

    work = pdl.Workload("mine", pdl.models.from_loss(loss, params), optax.sgd(0.1), BATCHES)
    kind, axes = STRATEGIES[strategy]
    program = kind.build(work.model, work.optimizer, pdl.mesh(**axes))
    state, seen = program.init(work.model.init(jax.random.key(7))), []
    for batch in BATCHES:
        state, metrics = program.step(state, batch)
        seen.append(metrics.loss)
    np.testing.assert_allclose(seen, losses, rtol=1e-5)
    here = jax.tree.leaves(program.gather(state))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), here, list(there))
    assert not any(map(np.array_equal, here, start))


def test_what_is_no_real_number_stays():
    """Functions, whole numbers and keys reach the loss in their places, and are not trained."""
    kept = {"power": np.int32(2), "key": jax.random.key(3), "apply": jnp.tanh, "name": "mine"}

    def loss(params, batch):
        assert (params["apply"], params["name"]) == (jnp.tanh, "mine")
        noise = jax.random.normal(params["key"])
        return jnp.mean((params["apply"](params["w"] * batch[0]) + noise) ** params["power"])

    model = pdl.models.from_loss(loss, {"w": np.float32(0.5), **kept})
    params = model.init(jax.random.key(0))
    assert jax.tree.leaves(params) == [0.5]
    x = np.float32([1, 2])
    noise = jax.random.normal(jax.random.key(3))
    plain_loss = np.mean((np.tanh(0.5 * x) + noise) ** 2)
    np.testing.assert_allclose(model.loss(params, (x,)), plain_loss, rtol=1e-6)
    assert jax.grad(model.loss)(params, (x,))["w"] != 0


def test_a_loss_that_takes_layers():
    """A loss with a parameter named `layers` is given the operations of the strategy."""

    def loss(params, batch, layers):
        x, counted = batch
        return layers.mean((counted * (x - params["mean"]) ** 2).sum(), counted.sum())

    counted = (np.arange(16) < 5).astype(np.float32)
    batches = [(np.arange(16, dtype=np.float32), counted)]
    model = pdl.models.from_loss(loss, {"mean": np.zeros((), np.float32)})
    work = pdl.Workload("masked", model, optax.sgd(0.1), batches)
    program = pdl.DataParallel().build(work.model, work.optimizer, pdl.mesh(data=4))
    assert "same updates" in str(pdl.check.same_update(program, work))


def test_nothing_to_train():
    """A tree without an array of real numbers is refused, by its kind and size."""
    message = r"nothing to train in a dict of 2 leaves\.\n  why: .*\n  try: pass the arrays"
    with pytest.raises(ValueError, match=message):
        pdl.models.from_loss(lambda params, batch: 0.0, {"a": 1, "b": jnp.tanh})
