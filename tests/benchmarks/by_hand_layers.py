"""Layers, sequences and images cut among devices, by hand: for `bench_step.py`.

Each function takes a workload and a mesh, and returns a call of the second step.
"""

from functools import partial

import jax
import jax.numpy as jnp
import optax
from by_hand import owned, running
from jax import lax
from jax.sharding import PartitionSpec as P

TENSOR = {
    "first": P(),
    "blocks": {
        "attention": {"scale": P(), "qkv": P(None, None, None, "model"), "out": P(None, "model")},
        "mlp": {"scale": P(), "up": P(None, None, "model"), "down": P(None, "model")},
    },
    "last": P(),
}


def tensor(work, mesh):
    """Heads and hidden units cut; one `psum` where each half of a block ends."""
    loss = partial(_language, reduce=lambda x: lax.psum(x, "model"))
    spread = jax.shard_map(
        jax.value_and_grad(loss), mesh=mesh, in_specs=(TENSOR, P()), out_specs=(P(), TENSOR)
    )
    return running(spread, work, mesh, specs=_tree(TENSOR, work), cut=P())


def data_tensor(work, mesh):
    """The same on a mesh that cuts the batch as well."""
    specs = _tree(TENSOR, work)
    loss = partial(_language, reduce=lambda x: lax.psum(x, "model"), cut="data", specs=specs)
    spread = jax.shard_map(
        jax.value_and_grad(loss), mesh=mesh, in_specs=(TENSOR, P("data")), out_specs=(P(), TENSOR)
    )
    return running(spread, work, mesh, specs=specs)


def ring(work, mesh):
    """Keys and values go round; autodiff goes back through the loop."""

    def attention(q, k, v):
        n, here, size = mesh.size, lax.axis_index("seq"), q.shape[1]
        places = here * size + jnp.arange(size)

        def turn(carry, step):
            top, total, mixed, k, v = carry
            keys = (here - step) % n * size + jnp.arange(size)
            scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
            scores = jnp.where(places[:, None] >= keys, scores, -jnp.inf)
            new = jnp.maximum(top, scores.max(-1))
            weights, rest = jnp.exp(scores - new[..., None]), jnp.exp(top - new)
            total = total * rest + weights.sum(-1)
            mixed = mixed * rest[..., None] + jnp.einsum("bhqk,bkhd->bhqd", weights, v)
            k, v = lax.ppermute((k, v), "seq", [(i, (i + 1) % n) for i in range(n)])
            return (new, total, mixed, k, v), None

        zeros = jnp.zeros_like(jnp.moveaxis(q, 1, 2))
        start = (jnp.full_like(zeros[..., 0], -jnp.inf), zeros[..., 0], zeros, k, v)
        (_, total, mixed, *_), _ = lax.scan(turn, start, jnp.arange(n))
        return jnp.moveaxis(mixed / total[..., None], 1, 2)

    return _on_pieces(partial(_language, attention=attention, cut="seq", sequence=True), work, mesh)


def ulysses(work, mesh):
    """Pieces of the sequence are exchanged for heads, and back."""

    def attention(q, k, v):
        swap = partial(lax.all_to_all, axis_name="seq", tiled=True)
        q, k, v = (swap(x, split_axis=2, concat_axis=1) for x in (q, k, v))
        return swap(_attention(q, k, v), split_axis=1, concat_axis=2)

    return _on_pieces(partial(_language, attention=attention, cut="seq", sequence=True), work, mesh)


def experts(work, mesh, top_k=2):
    """Each token goes to the devices of its experts, in slots that hold all it may."""

    def through(x, p):
        tokens, count = x.reshape(-1, x.shape[-1]), p["gate"].shape[-1]
        weight, expert = lax.top_k(jax.nn.softmax(tokens @ p["gate"]), top_k)  # [token, choice]
        weight /= weight.sum(-1, keepdims=True)
        asked = jax.nn.one_hot(expert.T.reshape(-1), count, dtype=jnp.int32)
        slot = ((jnp.cumsum(asked, 0) - 1) * asked).sum(-1).reshape(top_k, -1).T
        seats = jnp.zeros((count, len(tokens), x.shape[-1])).at[expert, slot].set(tokens[:, None])
        seats = lax.all_to_all(seats, "expert", 0, 1, tiled=True)
        hidden = jax.nn.relu(jnp.einsum("esd,edf->esf", seats, p["up"]))
        answers = jnp.einsum("esf,efd->esd", hidden, p["down"])
        answers = lax.all_to_all(answers, "expert", 1, 0, tiled=True)
        return jnp.einsum("tkd,tk->td", answers[expert, slot], weight).reshape(x.shape)

    whole = {"scale": P(), "gate": P(), "up": P(None, "expert"), "down": P(None, "expert")}
    specs = {"first": P(), "blocks": {"attention": P(), "experts": whole}, "last": P()}
    full = _tree(specs, work)
    loss = partial(_language, experts=through, cut="expert", specs=full, padding=0)
    spread = jax.shard_map(
        jax.value_and_grad(loss), mesh=mesh, in_specs=(specs, P("expert")), out_specs=(P(), specs)
    )
    return running(spread, work, mesh, specs=full, cut=P("expert"))


def spatial(work, mesh):
    """Two rows from each neighbour before a convolution; all rows before the dense layer."""
    down, up = (
        [(i, i + step) for i in range(mesh.size) if 0 <= i + step < mesh.size] for step in (1, -1)
    )

    def loss(params, batch):
        x, labels = batch
        for conv in params["first"]:
            above = lax.ppermute(x[:, -2:], "rows", down)
            below = lax.ppermute(x[:, :2], "rows", up)
            x = jnp.concatenate([above, x, below], 1)
            kinds = ("NHWC", "HWIO", "NHWC")
            x = lax.conv_general_dilated(
                x, conv["w"], (1, 1), ((0, 0), (2, 2)), dimension_numbers=kinds
            )
            x = jax.nn.relu(x + conv["b"])
            batch, rows, columns, channels = x.shape
            x = x.reshape(batch, rows // 2, 2, columns // 2, 2, channels).max((2, 4))
        x = lax.all_gather(x, "rows", axis=1, tiled=True).reshape(len(x), -1)
        logits = x @ params["last"][0]["w"] + params["last"][0]["b"]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return lax.pmean(losses.mean(), "rows")

    cut = P(None, "rows"), P()
    spread = jax.shard_map(jax.value_and_grad(loss), mesh=mesh, in_specs=(P(), cut), out_specs=P())
    return running(spread, work, mesh, cut=cut)


def _on_pieces(loss, work, mesh):
    loss = partial(loss, specs=_tree(dict.fromkeys(TENSOR, P()), work))
    spread = jax.shard_map(
        jax.value_and_grad(loss), mesh=mesh, in_specs=(P(), P(None, "seq")), out_specs=P()
    )
    return running(spread, work, mesh, cut=P(None, "seq"))


def _attention(q, k, v):
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
    scores = jnp.where(jnp.tri(q.shape[1], dtype=bool), scores, -jnp.inf)
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), v)


def _language(  # noqa: PLR0913  what differs between the ways to cut it
    params,
    batch,
    *,
    attention=_attention,
    reduce=lambda x: x,
    experts=None,
    cut=(),
    specs=None,
    sequence=False,
    padding=-1,
):
    """A causal transformer of stacked blocks: the loss of the whole batch."""
    tokens, targets = batch
    params = owned(params, specs, cut) if cut else params
    x = params["first"]["table"][tokens]
    start = lax.axis_index(cut) * x.shape[1] if sequence else 0
    x = x + _sinusoids(start + jnp.arange(x.shape[1]), x.shape[-1])

    def block(x, p):
        q, k, v = jnp.einsum(
            "bse,ethd->tbshd", _norm(x, p["attention"]["scale"]), p["attention"]["qkv"]
        )
        x = x + reduce(jnp.einsum("bshd,hde->bse", attention(q, k, v), p["attention"]["out"]))
        if experts:
            return x + experts(_norm(x, p["experts"]["scale"]), p["experts"]), None
        hidden = jax.nn.gelu(_norm(x, p["mlp"]["scale"]) @ p["mlp"]["up"])
        return x + reduce(hidden @ p["mlp"]["down"]), None

    x, _ = lax.scan(block, x, params["blocks"])
    logits = _norm(x, params["last"]["scale"]) @ params["last"]["head"]
    counted = targets != padding
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(counted, targets, 0))
    total, count = jnp.where(counted, losses, 0).sum(), counted.sum()
    return lax.psum(total, cut) / lax.psum(count, cut) if cut else total / count


def _norm(x, scale):
    return x * lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6) * scale


def _sinusoids(places, embed):
    angle = places[:, None] * 10_000.0 ** -(jnp.arange(0, embed, 2) / embed)
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)


def _tree(specs, work):
    """Return the specs as a tree like the params, where one stood for a whole branch."""
    params = jax.eval_shape(work.model.init, jax.random.key(0))
    return jax.tree.map(
        lambda spec, branch: jax.tree.map(lambda _: spec, branch),
        specs,
        params,
        is_leaf=lambda x: isinstance(x, P),
    )
