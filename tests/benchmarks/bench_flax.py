"""A step beside Flax NNX and optax under `jit`: the same model, weights and batch.

    python -m pytest tests/benchmarks/bench_flax.py -s [-k "FullySharded and mlp"]

Needs Flax. Theirs is data parallel (weights on every device, the batch cut) or FSDP (each
array cut along an axis by a `NamedSharding`); the compiler does the rest. Their step is
called through `nnx.cached_partial`, as Flax advises where steps are short. Ours and
theirs take turns; the figure is the median of ours over theirs, with a 95 % interval.
Their FSDP keeps what it gathered going forward until it has gone back; FullySharded and
ZeRO 3 forget it and gather again, which is what they save memory by.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from pairs import compare, seconds

import pdlkit as pdl

PAIRS, SECONDS = 300, 12  # at most so many pairs, and about so long
STRATEGIES = {  # ours -> whether theirs is FSDP
    "DataParallel": (pdl.DataParallel(), False),
    "Automatic": (pdl.Automatic(), False),
    "FullySharded": (pdl.FullySharded(), True),  # of models with blocks
    "ZeRO 3": (pdl.ZeRO(stage=3), True),
    "Automatic(ZeRO 3)": (pdl.Automatic(pdl.ZeRO(stage=3)), True),
}


class Mlp(nnx.Module):
    """Residual blocks between two dense layers."""

    def __init__(self, params, rngs):
        dense = lambda p: _filled(nnx.Linear(*p["w"].shape, rngs=rngs), p)  # noqa: E731
        self.first, self.last = dense(params["first"]), dense(params["last"])
        blocks = _apart(params["blocks"])
        self.ups = nnx.List([dense(each["up"]) for each in blocks])
        self.downs = nnx.List([dense(each["down"]) for each in blocks])

    def __call__(self, x):
        x = nnx.relu(self.first(x))
        for up, down in zip(self.ups, self.downs, strict=True):
            x = x + down(nnx.relu(up(x)))
        return self.last(x)


class Block(nnx.Module):
    """Attention, then two dense layers."""

    def __init__(self, params, rngs):
        given, inner = params["attention"], params["mlp"]
        embed, heads, _ = given["qkv"][:, 0].shape
        self.attention = nnx.MultiHeadAttention(
            heads, embed, use_bias=False, decode=False, rngs=rngs
        )
        own = self.attention
        for part, w in zip(
            (own.query, own.key, own.value), np.moveaxis(given["qkv"], 1, 0), strict=True
        ):
            _filled(part, {"w": w})
        _filled(own.out, {"w": given["out"]})
        self.norm, self.scale = (_norm(p["scale"], rngs) for p in (given, inner))
        self.up, self.down = _dense(inner["up"], rngs), _dense(inner["down"], rngs)

    def __call__(self, x, mask):
        x = x + self.attention(self.norm(x), mask=mask)
        return x + self.down(nnx.gelu(self.up(self.scale(x))))


class Transformer(nnx.Module):
    """Tokens in, logits out."""

    def __init__(self, params, rngs):
        table, last = params["first"]["table"], params["last"]
        self.table = nnx.Embed(*table.shape, rngs=rngs)
        self.table.embedding[...] = table
        self.blocks = nnx.List([Block(each, rngs) for each in _apart(params["blocks"])])
        self.norm, self.head = _norm(last["scale"], rngs), _dense(last["head"], rngs)

    def __call__(self, tokens):
        x, mask = self.table(tokens), nnx.make_causal_mask(tokens)
        places, embed = jnp.arange(x.shape[1])[:, None], x.shape[-1]
        angle = places * 10_000.0 ** -(jnp.arange(0, embed, 2) / embed)
        x = x + jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)
        for block in self.blocks:
            x = block(x, mask)
        return self.head(self.norm(x))


class Cnn(nnx.Module):
    """5x5 convolutions, each pooled, then dense layers."""

    def __init__(self, params, rngs):
        conv = lambda p: nnx.Conv(*p["w"].shape[2:], (5, 5), rngs=rngs)  # noqa: E731
        dense = lambda p: nnx.Linear(*p["w"].shape, rngs=rngs)  # noqa: E731
        self.convs = nnx.List([_filled(conv(p), p) for p in params["first"]])
        self.layers = nnx.List([_filled(dense(p), p) for p in params["last"]])

    def __call__(self, x):
        for conv in self.convs:
            x = nnx.max_pool(nnx.relu(conv(x)), (2, 2), strides=(2, 2))
        x = x.reshape(len(x), -1)
        for layer in self.layers[:-1]:
            x = nnx.relu(layer(x))
        return self.layers[-1](x)


THEIRS = {"mlp": Mlp, "transformer": Transformer, "cnn": Cnn}
TRIED = [
    (ours, name)
    for ours in STRATEGIES
    for name in THEIRS
    if (ours, name) != ("FullySharded", "cnn")
]


def workload(name):
    """Return the model and one batch."""
    draws = np.random.default_rng(0)
    if name == "mlp":
        model = pdl.models.mlp(256, 10, embed=256, hidden=512, blocks=2)
        x, y = draws.random((256, 256), np.float32), draws.integers(0, 10, 256)
    elif name == "transformer":
        model = pdl.models.transformer(64, embed=64, heads=4, hidden=256, blocks=2)
        x, y = draws.integers(0, 64, (2, 16, 32)).astype(np.int32)
    else:
        model = pdl.models.cnn((28, 28, 1), 10, channels=(16, 32), hidden=(128,))
        x, y = draws.random((32, 28, 28, 1), np.float32), draws.integers(0, 10, 32)
    batches = [(x, y.astype(np.int32))]
    return pdl.Workload(name, model, optax.sgd(0.05, momentum=0.9), batches)


def by_flax(work, mesh, *, sharded: bool):
    """Return a call of their second step: -> loss."""
    model = THEIRS[work.name](jax.device_get(work.model.init(jax.random.key(0))), nnx.Rngs(0))

    def place(x):
        fits = [i for i, size in enumerate(x.shape) if size % mesh.size == 0]
        cut = max(fits, key=lambda i: x.shape[i], default=None) if sharded else None
        spec = P() if cut is None else P(*[None] * cut, "data")
        return jax.device_put(x, NamedSharding(mesh, spec))

    nnx.update(model, jax.tree.map(place, nnx.state(model)))
    optimizer = nnx.Optimizer(model, work.optimizer, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, batch):
        def loss(model):
            losses = optax.softmax_cross_entropy_with_integer_labels(model(batch[0]), batch[1])
            return losses.mean()

        found, grads = nnx.value_and_grad(loss)(model)
        optimizer.update(model, grads)
        return found

    batch = jax.device_put(work.batch(0), NamedSharding(mesh, P("data")))
    step = nnx.cached_partial(step, model, optimizer)
    return lambda: step(batch)


@pytest.mark.parametrize("devices", [2, 8])
@pytest.mark.parametrize(("ours", "name"), TRIED)
def test_flax(ours, name, devices, benchmark):
    (strategy, sharded), work = STRATEGIES[ours], workload(name)
    mesh = pdl.mesh(data=devices)
    program = strategy.build(work.model, work.optimizer, mesh)
    held = [program.init(work.model.init(jax.random.key(0)))]
    step, batch = jax.jit(program.step, donate_argnums=0), program.place(work.batch(0))

    def own():
        held[0], metrics = step(held[0], batch)
        return metrics

    theirs = by_flax(work, mesh, sharded=sharded)
    for _ in range(2):
        np.testing.assert_allclose(own().loss, theirs(), rtol=1e-4)
    pairs = int(np.clip(SECONDS / (seconds(own) + seconds(theirs)), 40, PAIRS))
    ratio = compare(own, theirs, pairs=pairs)
    benchmark.extra_info.update(ratio._asdict())
    benchmark.pedantic(lambda: jax.block_until_ready(own()), rounds=5)
    print(f"\n{ours:18} {name:12} {devices} devices: {ratio}")


def _filled(layer, p):
    layer.kernel[...] = p["w"]
    if "b" in p:
        layer.bias[...] = p["b"]
    return layer


def _dense(w, rngs):
    return _filled(nnx.Linear(*w.shape, use_bias=False, rngs=rngs), {"w": w})


def _norm(scale, rngs):
    layer = nnx.RMSNorm(len(scale), epsilon=1e-6, rngs=rngs)
    layer.scale[...] = scale
    return layer


def _apart(blocks):
    """[layers, ...] -> the params of each block."""
    count = len(jax.tree.leaves(blocks)[0])
    return [jax.tree.map(lambda x, i=i: x[i], blocks) for i in range(count)]
