"""A step of each strategy beside the shortest JAX written by hand for the same thing.

    python -m pytest tests/benchmarks/bench_step.py -s

Ours and theirs take turns in one process, so what slows the machine slows both.
The figure is the median of ours over theirs, with a 95 % bootstrap interval.
"""

import jax
import numpy as np
import optax
import pytest
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from pairs import compare

import pdlkit as pdl

PAIRS = 400


def one_device(work, mesh):
    """Plain JAX on one device."""
    return _placed(jax.jit(_updating(jax.value_and_grad(work.model.loss), work)), work, None, None)


def shard_map(work, mesh):
    """`shard_map` of the loss of the whole batch; autodiff sums the gradients."""

    def local(params, batch):
        whole = lambda params: lax.pmean(work.model.loss(params, batch), "data")  # noqa: E731
        return jax.value_and_grad(whole)(params)

    spread = jax.shard_map(local, mesh=mesh, in_specs=(P(), P("data")), out_specs=P())
    return _placed(jax.jit(_updating(spread, work)), work, *_places(mesh))


def pmap(work, mesh):
    """`pmap` as the tutorials of its time write it."""

    def local(params, batch):
        loss, grads = jax.value_and_grad(work.model.loss)(params, batch)
        return loss, lax.pmean(grads, "data")

    step = jax.pmap(_updating(local, work), "data", devices=list(mesh.devices.flat))
    rows = lambda x: x.reshape(mesh.size, -1, *x.shape[1:])  # noqa: E731
    params = work.model.init(jax.random.key(0))
    state = params, work.optimizer.init(params)
    state = jax.tree.map(lambda x: np.broadcast_to(x, (mesh.size, *x.shape)), state)
    batch = work.batch(0)
    state = step(state, jax.tree.map(rows, batch))[0]
    return lambda: step(state, jax.tree.map(rows, batch))


def automatic(work, mesh):
    """Plain `jit` on a batch that is cut: the compiler does the rest."""
    step = jax.jit(_updating(jax.value_and_grad(work.model.loss), work))
    return _placed(step, work, *_places(mesh))


CASES = {
    "OneDevice": (pdl.OneDevice(), one_device),
    "DataParallel": (pdl.DataParallel(), shard_map),
    "PmapDataParallel": (pdl.PmapDataParallel(), pmap),
    "Automatic": (pdl.Automatic(), automatic),
}


@pytest.mark.parametrize("devices", [2, 8])
@pytest.mark.parametrize("name", ["digits_mlp", "digits_cnn"])
@pytest.mark.parametrize("case", CASES)
def test_step(case, name, devices, benchmark):
    strategy, by_hand = CASES[case]
    work, mesh = getattr(pdl.workloads, name)(), pdl.mesh(data=devices)
    program = strategy.build(work.model, work.optimizer, mesh)
    state = program.init(work.model.init(jax.random.key(0)))
    batch = program.place(work.batch(0))
    state, _ = program.step(state, batch)
    ratio = compare(lambda: program.step(state, batch), by_hand(work, mesh), pairs=PAIRS)
    benchmark.extra_info.update(ratio._asdict())
    benchmark.pedantic(
        lambda: jax.block_until_ready(program.step(state, batch)), rounds=20, warmup_rounds=2
    )
    print(f"\n{case:18} {name:12} {devices} devices: {ratio}")


def _updating(value_and_grad, work):
    """A whole step: gradients, then the update."""

    def step(state, batch):
        params, memory = state
        loss, grads = value_and_grad(params, batch)
        change, memory = work.optimizer.update(grads, memory, params)
        return (optax.apply_updates(params, change), memory), loss

    return step


def _placed(step, work, whole, cut):
    params = work.model.init(jax.random.key(0))
    state = jax.device_put((params, work.optimizer.init(params)), whole)
    batch = jax.device_put(work.batch(0), cut)
    state = step(state, batch)[0]
    return lambda: step(state, batch)


def _places(mesh):
    return NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
