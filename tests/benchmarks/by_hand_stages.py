"""Layers on different devices, by hand, as the tutorials do it: for `bench_step.py`.

Both take a workload of a residual MLP and a mesh, and return a call of the second step.
"""

import jax
import jax.numpy as jnp
import optax
from by_hand import running
from jax import lax
from jax.sharding import PartitionSpec as P

MICROBATCHES = 8


def gpipe(work, mesh):
    """A `scan` over ticks that shifts activations on; autodiff goes back through it."""
    stages, ends = mesh.size, MICROBATCHES + mesh.size - 1
    specs = {"first": P(), "blocks": P("stage"), "last": P()}

    def loss(params, batch):
        x, labels = batch
        here = lax.axis_index("stage")
        x = _first(lax.pcast(params["first"], "stage", to="varying"), x)
        x = x.reshape(MICROBATCHES, -1, x.shape[1])

        def tick(arrived, time):
            entering = x[jnp.minimum(time, MICROBATCHES - 1)]
            y = _blocks(params["blocks"], jnp.where(here == 0, entering, arrived))
            return lax.ppermute(y, "stage", [(i, i + 1) for i in range(stages - 1)]), y

        _, left = lax.scan(tick, jnp.zeros_like(x[0]), jnp.arange(ends))
        whole = _last(params["last"], left[stages - 1 :].reshape(len(labels), -1), labels)
        return lax.psum(jnp.where(here == stages - 1, whole, 0), "stage")

    spread = jax.shard_map(
        jax.value_and_grad(loss), mesh=mesh, in_specs=(specs, P()), out_specs=(P(), specs)
    )
    params = jax.eval_shape(work.model.init, jax.random.key(0))
    specs = {name: jax.tree.map(lambda _, s=specs[name]: s, params[name]) for name in params}
    return running(spread, work, mesh, specs=specs, cut=P())


def two_places(work, mesh):
    """Half of the layers on each of two devices; `device_put` between two jits."""
    here, there = mesh.devices.flat
    x, labels = work.batch(0)
    params = work.model.init(jax.random.key(0))
    near, far = (
        {
            **{end: params[end]},
            "blocks": jax.tree.map(lambda x, i=i: jnp.split(x, 2)[i], params["blocks"]),
        }
        for i, end in enumerate(("first", "last"))
    )

    @jax.jit
    def front(own, x):
        run = lambda own: _blocks(own["blocks"], _first(own["first"], x))  # noqa: E731
        return jax.vjp(run, own)

    @jax.jit
    def back(state, x, labels):
        loss = lambda own, x: _last(own["last"], _blocks(own["blocks"], x), labels)  # noqa: E731
        loss, (grads, of_x) = jax.value_and_grad(loss, (0, 1))(state[0], x)
        return _updated(work, state, grads), of_x, loss

    @jax.jit
    def finish(state, pull, of_y):
        return _updated(work, state, *pull(of_y))

    def step(near, far):
        y, pull = front(near[0], jax.device_put(x, here))
        far, of_y, loss = back(far, jax.device_put(y, there), jax.device_put(labels, there))
        return finish(near, pull, jax.device_put(of_y, here)), far, loss

    near = jax.device_put((near, work.optimizer.init(near)), here)
    far = jax.device_put((far, work.optimizer.init(far)), there)
    near, far, _ = step(near, far)

    def again():
        *state, loss = step(near, far)
        return state, loss

    return again


def _updated(work, state, grads):
    change, memory = work.optimizer.update(grads, state[1], state[0])
    return optax.apply_updates(state[0], change), memory


def _first(params, x):
    return jax.nn.relu(x @ params["w"] + params["b"])


def _blocks(params, x):
    def block(x, p):
        hidden = jax.nn.relu(x @ p["up"]["w"] + p["up"]["b"])
        return x + hidden @ p["down"]["w"] + p["down"]["b"], None

    return lax.scan(block, x, params)[0]


def _last(params, x, labels):
    logits = x @ params["w"] + params["b"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
