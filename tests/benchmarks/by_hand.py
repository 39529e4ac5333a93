"""The batch cut among devices, in the shortest JAX written by hand: for `bench_step.py`.

Each function takes a workload and a mesh, runs a first step, and returns a call of the
second: -> state, loss.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

FORGET = jax.checkpoint_policies.save_anything_except_these_names("whole")


def one_device(work, mesh):
    """Plain JAX on one device."""
    return running(jax.value_and_grad(work.model.loss), work)


def shard_map(work, mesh):
    """Each device's gradients of its own copy of the weights, and their mean once."""

    def local(params, batch):
        own = lax.pcast(params, "data", to="varying")
        return lax.pmean(jax.value_and_grad(work.model.loss)(own, batch), "data")

    spread = jax.shard_map(local, mesh=mesh, in_specs=(P(), P("data")), out_specs=P())
    return running(spread, work, mesh)


def pmap(work, mesh):
    """`pmap` as the tutorials of its time write it."""

    def local(params, batch):
        loss, grads = jax.value_and_grad(work.model.loss)(params, batch)
        return loss, lax.pmean(grads, "data")

    step = jax.pmap(updating(local, work), "data", devices=list(mesh.devices.flat))
    rows = lambda x: x.reshape(mesh.size, -1, *x.shape[1:])  # noqa: E731
    params = work.model.init(jax.random.key(0))
    state = params, work.optimizer.init(params)
    state = jax.tree.map(lambda x: np.broadcast_to(x, (mesh.size, *x.shape)), state)
    batch = work.batch(0)
    state = step(state, jax.tree.map(rows, batch))[0]
    return lambda: step(state, jax.tree.map(rows, batch))


def automatic(work, mesh):
    """Plain `jit` on a batch that is cut: the compiler does the rest."""
    return running(jax.value_and_grad(work.model.loss), work, mesh)


def accumulated(work, mesh, times=4):
    """A `scan` over micro-batches of each device's own; one mean when all are done."""

    def local(params, batch):
        batches = jax.tree.map(lambda x: x.reshape(times, -1, *x.shape[1:]), batch)
        own = lax.pcast(params, "data", to="varying")

        def turn(total, batch):
            loss, grads = jax.value_and_grad(work.model.loss)(own, batch)
            return jax.tree.map(jnp.add, total, grads), loss

        total, losses = lax.scan(turn, jax.tree.map(jnp.zeros_like, own), batches)
        grads = jax.tree.map(lambda x: x / times, total)
        return lax.pmean((losses.mean(), grads), "data")

    spread = jax.shard_map(local, mesh=mesh, in_specs=(P(), P("data")), out_specs=P())
    return running(spread, work, mesh)


def uneven(work, mesh):
    """Three shares for the first device, one for each other: two branches of `cond`."""
    examples = len(work.batch(0)[0])
    few = examples // (mesh.size + 2)
    rows = (examples - few * (mesh.size - 1), *[few] * (mesh.size - 1))
    ends = np.cumsum(rows)

    def local(params, batch):
        def part(rows):
            def loss(params, batch):
                own = jax.tree.map(lambda x: x[0, :rows], batch)
                return rows / examples * work.model.loss(params, own)

            return jax.value_and_grad(loss)

        own = lax.pcast(params, "data", to="varying")
        first = lax.axis_index("data") == 0
        return lax.psum(lax.cond(first, part(rows[0]), part(few), own, batch), "data")

    def dealt(x):  # [devices, most, ...]
        return np.stack(
            [
                np.resize(x[end - n : end], (rows[0], *x.shape[1:]))
                for n, end in zip(rows, ends, strict=True)
            ]
        )

    spread = jax.shard_map(local, mesh=mesh, in_specs=(P(), P("data")), out_specs=P())
    return running(spread, work, mesh, batch=jax.tree.map(dealt, work.batch(0)))


def zero_1(work, mesh):
    """Scatter the sums of the gradients, update a part, gather the parts."""
    dims, specs = cut_specs(work, mesh)

    def local(params, batch):
        own = lax.pcast(params, "data", to="varying")
        loss, grads = jax.value_and_grad(work.model.loss)(own, batch)
        return lax.pmean(loss, "data"), jax.tree.map(scattered, grads, dims)

    def scattered(x, dim):
        if dim < 0:
            return lax.pmean(x, "data")
        return lax.psum_scatter(x / mesh.size, "data", scatter_dimension=dim, tiled=True)

    cut = placed(specs, mesh)
    spread = jax.shard_map(local, mesh=mesh, in_specs=(P(), P("data")), out_specs=(P(), specs))

    @jax.jit
    def step(state, batch):
        params, memory = state
        loss, grads = spread(params, batch)
        params = lax.with_sharding_constraint(params, cut)
        change, memory = work.optimizer.update(grads, memory, params)
        params = optax.apply_updates(params, change)
        return (lax.with_sharding_constraint(params, NamedSharding(mesh, P())), memory), loss

    params = jax.device_put(work.model.init(jax.random.key(0)), cut)
    memory = work.optimizer.init(params)
    state = jax.device_put(params, NamedSharding(mesh, P())), memory
    return second(step, state, jax.device_put(work.batch(0), NamedSharding(mesh, P("data"))))


def zero_3(work, mesh):
    """Gather every weight in a loss that forgets them, so that going back does so again."""
    dims, specs = cut_specs(work, mesh)

    def loss(parts, batch):
        return lax.pmean(work.model.loss(jax.tree.map(gathered, parts, dims), batch), "data")

    local = jax.value_and_grad(jax.checkpoint(loss, policy=FORGET))
    spread = jax.shard_map(local, mesh=mesh, in_specs=(specs, P("data")), out_specs=(P(), specs))
    return running(spread, work, mesh, specs=specs)


def fully_sharded(work, mesh):
    """The same, block by block: of an MLP with its blocks stacked."""
    dims, specs = cut_specs(work, mesh)

    def block(x, parts):
        p = jax.tree.map(lambda part, dim: gathered(part, dim - 1), parts, dims["blocks"])
        hidden = jax.nn.relu(x @ p["up"]["w"] + p["up"]["b"])
        return x + hidden @ p["down"]["w"] + p["down"]["b"], None

    def loss(parts, batch):
        first, last = (jax.tree.map(gathered, parts[k], dims[k]) for k in ("first", "last"))
        x = jax.nn.relu(batch[0] @ first["w"] + first["b"])
        x, _ = lax.scan(jax.checkpoint(block, policy=FORGET), x, parts["blocks"])
        logits = x @ last["w"] + last["b"]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch[1])
        return lax.pmean(losses.mean(), "data")

    spread = jax.shard_map(
        jax.value_and_grad(loss), mesh=mesh, in_specs=(specs, P("data")), out_specs=(P(), specs)
    )
    return running(spread, work, mesh, specs=specs)


def owned(params, specs, axis):
    """Mark whole weights as each device's own, so that they are summed once, not in a loop."""
    return jax.tree.map(
        lambda x, spec: x if axis in spec else lax.pcast(x, axis, to="varying"), params, specs
    )


def gathered(part, dim):
    if dim < 0:
        return part
    return checkpoint_name(lax.all_gather(part, "data", axis=dim, tiled=True), "whole")


def cut_specs(work, mesh):
    """Return which dimension of each array is cut (-1: none), and so its spec.

    The largest that divides, of stacked blocks none but those of one block.
    """
    params = jax.eval_shape(work.model.init, jax.random.key(0))

    def cut(path, x):
        first = int("blocks" in jax.tree_util.keystr(path))
        fits = [i for i in range(first, x.ndim) if x.shape[i] % mesh.size == 0]
        return max(fits, key=lambda i: x.shape[i], default=-1)

    dims = jax.tree_util.tree_map_with_path(cut, params)
    return dims, jax.tree.map(lambda dim: P(*[None] * dim, "data") if dim >= 0 else P(), dims)


def running(value_and_grad, work, mesh=None, *, specs=P(), cut=P("data"), batch=None):
    """Return a call of the second step, of weights that lie as `specs` say."""
    params = work.model.init(jax.random.key(0))
    batch = work.batch(0) if batch is None else batch
    if mesh is not None:
        params, batch = (
            jax.device_put(x, placed(p, mesh)) for x, p in ((params, specs), (batch, cut))
        )
    state = params, work.optimizer.init(params)
    return second(jax.jit(updating(value_and_grad, work)), state, batch)


def updating(value_and_grad, work):
    """A whole step: gradients, then the update."""

    def step(state, batch):
        params, memory = state
        loss, grads = value_and_grad(params, batch)
        change, memory = work.optimizer.update(grads, memory, params)
        return (optax.apply_updates(params, change), memory), loss

    return step


def second(step, state, batch):
    state = step(state, batch)[0]
    return lambda: step(state, batch)


def placed(specs, mesh):
    return jax.tree.map(
        lambda spec: NamedSharding(mesh, spec), specs, is_leaf=lambda x: isinstance(x, P)
    )
