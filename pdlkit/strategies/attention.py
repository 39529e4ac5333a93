"""Attention to one piece of the keys after another, going forward and back."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from pdlkit.models.floats import at_least_float32


class Seen(NamedTuple):
    """A softmax over the keys that were seen so far."""

    top: Any  # [batch, heads, query], the largest score
    total: Any  # [batch, heads, query], the sum of exponentials, `top` taken off each score
    mixed: Any  # [batch, heads, query, size], the values weighted by these exponentials


class Given(NamedTuple):
    """What going back starts from, for the queries of one piece."""

    log_total: Any  # [batch, heads, query], the log of the sum of exponentials
    slope: Any  # [batch, heads, query, size], the gradient of the output
    along: Any  # [batch, heads, query], output times its gradient


def see(seen: Seen, q, k, v, allowed) -> Seen:
    """Return the softmax with one more piece of keys and values.

    Args:
        seen: of the pieces before; every query must see a key of the first.
        q: the queries, [batch, heads, query, size].
        k: the keys of this piece, [batch, heads, key, size].
        v: their values, likewise.
        allowed: length -> [query, key], whether a query may see a key.

    Source: Milakov and Gimelshein 2018, "Online normalizer calculation for
    softmax", https://arxiv.org/abs/1805.02867
    """
    scores = _scores(q, k, allowed)
    top = jnp.maximum(seen.top, scores.max(-1))
    weights, rest = jnp.exp(scores - top[..., None]), jnp.exp(seen.top - top)
    return Seen(
        top,
        seen.total * rest + weights.sum(-1),
        seen.mixed * rest[..., None] + weights.astype(v.dtype) @ v,
    )


def go_back(given: Given, q, k, v, allowed):
    """Return the gradients of `q`, `k` and `v` from one piece of keys alone.

    The weights are made again from the log of their sum, not kept.

    Source: Dao et al. 2022, "FlashAttention", https://arxiv.org/abs/2205.14135
    """
    weights = jnp.exp(_scores(q, k, allowed) - given.log_total[..., None])
    of_weights = at_least_float32(given.slope @ jnp.swapaxes(v, -1, -2))
    of_scores = weights * (of_weights - given.along[..., None]) / q.shape[-1] ** 0.5
    of_scores, weights = of_scores.astype(q.dtype), weights.astype(v.dtype)
    back = jnp.swapaxes(of_scores, -1, -2)
    return of_scores @ k, back @ q, jnp.swapaxes(weights, -1, -2) @ given.slope


def _scores(q, k, allowed):
    scores = at_least_float32(q @ jnp.swapaxes(k, -1, -2)) / q.shape[-1] ** 0.5
    return jnp.where(allowed(q.shape[-2]), scores, -jnp.inf)
