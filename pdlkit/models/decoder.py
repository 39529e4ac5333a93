"""What causal language models share: tokens in, attention, tokens out."""

import jax
import jax.numpy as jnp

from pdlkit.errors import fitting_sizes, lesson

AXES = {
    "first": {"table": ("vocabulary", "embed")},
    "attention": {
        "scale": ("layers", "embed"),
        "qkv": ("layers", "embed", None, "heads", None),
        "out": ("layers", "heads", None, "embed"),
    },
    "last": {"scale": ("embed",), "head": ("embed", "vocabulary")},
}
BATCH_AXES = (("batch", "seq"), ("batch", "seq"))


def first_params(key, vocabulary: int, embed: int):
    """Return the table that `read` looks tokens up in, [vocabulary, embed]."""
    return {"table": jax.random.normal(key, (vocabulary, embed))}


def read(params, batch, layers):
    """[batch, seq] -> [batch, seq, embed]: each token's row, and where it stands."""
    x = layers.embed(batch[0], params["table"])
    return x + sinusoids(layers.positions(x.shape[1]), x.shape[-1]).astype(x.dtype)


def sinusoids(positions, embed: int):
    """[seq] -> [seq, embed]: each position as sines and cosines of falling frequency.

    Source: Vaswani et al. 2017, "Attention Is All You Need", https://arxiv.org/abs/1706.03762
    """
    frequency = 10_000.0 ** -(jnp.arange(0, embed, 2) / embed)
    angle = positions[:, None] * frequency  # [seq, embed / 2]
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)[:, :embed]


def attention_params(key, embed: int, heads: int, *, gain: float):
    """Return one block's attention; `gain` is the variance it adds to the stream.

    Raises:
        ValueError: the embedding does not divide among the heads.
    """
    if embed % heads:
        raise ValueError(
            lesson(
                f"an embedding of {embed} does not divide among {heads} heads.",
                why="each head attends with a share of the same size.",
                fix=f"embed={fitting_sizes(embed, heads)}.",
            )
        )
    qkv, out = jax.random.split(key)
    size = embed // heads
    return {
        "scale": jnp.ones(embed),
        "qkv": jax.random.normal(qkv, (embed, 3, heads, size)) / embed**0.5,
        "out": jax.random.normal(out, (heads, size, embed)) * (gain / embed) ** 0.5,
    }


def attend(params, x, layers):
    """[batch, seq, embed] -> same: what each token takes from those up to itself."""
    qkv = layers.up(layers.norm(x, params["scale"]), params["qkv"])
    q, k, v = jnp.moveaxis(qkv, 2, 0)  # [batch, seq, heads, size] each
    return layers.down(layers.attention(q, k, v, causal=True), params["out"])


def last_params(key, vocabulary: int, embed: int):
    """Return the norm's scale [embed] and the head [embed, vocabulary]."""
    head = jax.random.normal(key, (embed, vocabulary)) / embed**0.5
    return {"scale": jnp.ones(embed), "head": head}


def logits(params, x, layers):
    """[batch, seq, embed] -> [batch, seq, vocabulary]."""
    return layers.up(layers.norm(x, params["scale"]), params["head"])


def token_loss(logits, targets, padding: int, layers):
    """Return the mean cross-entropy of all targets in the batch that are not padding."""
    counted = targets != padding
    losses = layers.cross_entropy(logits, jnp.where(counted, targets, 0))
    total = jnp.where(counted, losses, 0).sum()
    return layers.mean(total, counted.sum(dtype=losses.dtype))
