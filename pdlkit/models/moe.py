"""A causal transformer whose blocks choose among experts for each token."""

from functools import partial

import jax
import jax.numpy as jnp

from pdlkit.models import decoder
from pdlkit.models.parts import from_parts
from pdlkit.records import Model, Parts

AXES = {
    "first": decoder.AXES["first"],
    "blocks": {
        "attention": decoder.AXES["attention"],
        "experts": {
            "scale": ("layers", "embed"),
            "gate": ("layers", "embed", None),  # whole everywhere: each token asks every expert
            # Not `mlp`, which tensor parallelism cuts: it does not know how experts are summed.
            "up": ("layers", "expert", "embed", "expert_mlp"),
            "down": ("layers", "expert", "expert_mlp", "embed"),
        },
    },
    "last": decoder.AXES["last"],
}


def moe(  # noqa: PLR0913  figures
    vocabulary: int = 16,
    *,
    embed=64,
    heads=4,
    hidden=128,
    blocks=2,
    experts=8,
    top_k=2,
    capacity=None,
    balance=0.01,
    padding=-1,
) -> Model:
    """Return a `transformer` with experts, [batch, seq] -> [batch, seq, vocabulary].

    It notes `expert_load` [layers, expert], tokens that chose an expert, and
    `dropped` [layers], choices that found theirs full.

    Args:
        vocabulary: how many tokens there are.
        embed: width of the residual stream, a multiple of `heads`.
        heads: attention heads.
        hidden: width of each expert.
        blocks: how many blocks.
        experts: how many each block chooses among.
        top_k: how many a token goes through.
        capacity: slots of an expert, as a multiple of its even share of the
            tokens that are routed together; None: nothing is dropped.
        balance: weight of the balance loss, summed over blocks; even load gives
            `top_k` a block.
        padding: the target that is not counted in the loss.

    Source: Fedus et al. 2021, "Switch Transformers", https://arxiv.org/abs/2101.03961
    """

    def init(key):
        first, middle, last = jax.random.split(key, 3)

        def block(key):
            attention, mlps = jax.random.split(key)
            return {
                "attention": decoder.attention_params(attention, embed, heads, gain=1 / blocks),
                "experts": _expert_params(mlps, experts, embed, hidden, gain=1 / blocks),
            }

        return {
            "first": decoder.first_params(first, vocabulary, embed),
            "blocks": jax.vmap(block)(jax.random.split(middle, blocks)),
            "last": decoder.last_params(last, vocabulary, embed),
        }

    def finish(params, carried, batch, layers):
        x, uneven = carried
        loss = decoder.token_loss(decoder.logits(params, x, layers), batch[1], padding, layers)
        return loss + balance * uneven if balance > 0 else loss

    block = partial(_block, top_k=top_k, capacity=capacity, weigh=balance > 0)
    parts = Parts(_first, block, finish)
    model = from_parts(parts, _logits, init=init, axes=AXES)
    return model._replace(batch_axes=decoder.BATCH_AXES, padding=padding)


def _first(params, batch, layers):
    return decoder.read(params, batch, layers), jnp.zeros(())


def _block(params, carried, layers, *, top_k, capacity, weigh):
    x, uneven = carried
    x = x + decoder.attend(params["attention"], x, layers)
    scale, *weights = (params["experts"][name] for name in ("scale", "gate", "up", "down"))
    y, routing = layers.experts(layers.norm(x, scale), *weights, top_k=top_k, capacity=capacity)
    layers.note("expert_load", routing.load)
    layers.note("dropped", routing.dropped)
    if weigh:
        uneven = uneven + _unevenness(routing, x.shape[0] * x.shape[1], layers)
    return x + y, uneven


def _logits(params, carried, layers):
    return decoder.logits(params, carried[0], layers)


def _unevenness(routing, tokens: int, layers):
    """Return how far the load of the whole batch is from even, least where it is."""
    load = layers.mean(routing.load, float(tokens))  # [expert]
    share = layers.mean(routing.share, float(tokens))
    return len(load) * (load * share).sum()


def _expert_params(key, experts: int, embed: int, hidden: int, *, gain: float):
    gate, up, down = jax.random.split(key, 3)
    return {
        "scale": jnp.ones(embed),
        "gate": jax.random.normal(gate, (embed, experts)) / embed**0.5,
        "up": jax.random.normal(up, (experts, embed, hidden)) * (2 / embed) ** 0.5,
        "down": jax.random.normal(down, (experts, hidden, embed)) * (gain / hidden) ** 0.5,
    }
