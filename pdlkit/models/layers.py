"""The layer operations: the only places where a model meets a mesh.

A model calls these instead of writing them out; a strategy replaces some. The
defaults need no neighbour, so a model runs on one device as it stands.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from pdlkit.models.floats import at_least_float32
from pdlkit.models.routing import experts


def block(apply, axes):
    """Return `apply` (params, x -> anything), wrapped; `axes` names its params' axes."""
    del axes
    return apply


def embed(tokens, table):
    """[...] whole numbers, [vocabulary, embed] -> [..., embed]."""
    return table[tokens]


def up(x, w, b=0.0):
    """[..., embed], [embed, ...hidden] -> [..., ...hidden]: into the hidden axes."""
    y = jnp.tensordot(_rows(x, 1), w, 1)
    return y.reshape(*x.shape[:-1], *w.shape[1:]) + b


def down(x, w, b=0.0):
    """[..., ...hidden], [...hidden, embed] -> [..., embed]: out of the hidden axes."""
    hidden = w.ndim - 1
    y = jnp.tensordot(_rows(x, hidden), w, hidden)
    return y.reshape(*x.shape[:-hidden], w.shape[-1]) + b


def _rows(x, last: int):
    """[..., and the last so many axes] -> [rows, ...]: one axis for all the others.

    Weight gradients are sums over these. Over two axes, XLA on the CPU makes transposed
    copies before it multiplies.
    """
    return x.reshape(-1, *x.shape[-last:])


def attention(q, k, v, *, causal=False):
    """[batch, seq, heads, size] each -> the same: softmax(q k / sqrt(size)) v."""
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
    if causal:
        earlier = jnp.tri(q.shape[1], k.shape[1], dtype=bool)
        scores = jnp.where(earlier, scores, -jnp.inf)
    shares = jax.nn.softmax(at_least_float32(scores)).astype(v.dtype)
    return jnp.einsum("bhqk,bkhd->bqhd", shares, v)


def norm(x, scale):
    """[..., embed], [embed] -> [..., embed]: divided by its root mean square."""
    return x * lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6) * scale


def conv(x, w, b=0.0, *, padding: str | tuple = "SAME", stride=1):
    """[batch, rows, columns, in], [height, width, in, out] -> [batch, ..., out].

    "SAME" gives rows / stride, rounded up, with zeros around the image; where
    their number is odd, the last row has one more. `padding` may also be their
    numbers, ((above, below), (left, right)).
    """
    steps, kernel = (stride, stride), w.shape[:2]
    if isinstance(padding, str):
        padding = tuple(lax.padtype_to_pads(x.shape[1:3], kernel, steps, padding))
    sides = zip(x.shape[1:3], kernel, padding, strict=True)
    out = [(side + before + after - size) // stride + 1 for side, size, (before, after) in sides]
    if min(out) > 0 and (out[0] < kernel[0] or out[1] < kernel[1]):
        return _conv_by_product(x, w, padding, stride) + b
    kinds = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, w, steps, padding, dimension_numbers=kinds) + b


def _conv_by_product(x, w, margins, stride):
    """The same as one matrix product: every pixel with its neighbours, times `w`.

    XLA's fast convolution on the CPU refuses a kernel larger than the image, and going
    back what came out is the image; its slow one took 47 ms for a batch of 128 at 4x4
    pixels where this takes 3.
    """
    height, width = w.shape[:2]
    padded = jnp.pad(x, ((0, 0), *margins, (0, 0)))
    last_row, last_column = padded.shape[1] - height + 1, padded.shape[2] - width + 1
    shifted = [
        padded[:, row : row + last_row : stride, column : column + last_column : stride]
        for row in range(height)
        for column in range(width)
    ]
    neighbours = jnp.concatenate(shifted, -1)  # [batch, rows, columns, height * width * in]
    return neighbours @ w.reshape(-1, w.shape[-1])


def pool(x, size=2, *, reduce=jnp.max):
    """[batch, rows, columns, channels] -> rows and columns divided by `size`.

    A reshape and a reduction: the backward pass of `lax.reduce_window` costs a
    CNN's step on a CPU nearly three times as much.
    """
    rows, columns = x.shape[1] // size, x.shape[2] // size
    x = x[:, : rows * size, : columns * size]
    return reduce(x.reshape(len(x), rows, size, columns, size, -1), axis=(2, 4))


def flatten(x):
    """[batch, rows, columns, channels] -> [batch, rows * columns * channels]."""
    return x.reshape(len(x), -1)


def mean(total, weight):
    """Return the mean over the whole batch of what is summed up here.

    For all that is not a plain mean over examples: masked tokens, balance
    terms, batch statistics.
    """
    return total / weight


def cross_entropy(logits, labels):
    """[..., classes], [...] whole numbers -> [...]: minus the log of the true class.

    A label that is no class gives NaN, which training stops at, by name.
    """
    classes = jnp.arange(logits.shape[-1])
    hit = labels[..., None] == classes  # a comparison, not a gather: it shards
    loss = jax.nn.logsumexp(logits, -1) - jnp.where(hit, logits, 0).sum(-1)
    return jnp.where((labels >= 0) & (labels < logits.shape[-1]), loss, jnp.nan)


def positions(length):
    """Return [length], where each of these tokens stands in the whole sequence."""
    return jnp.arange(length)


def note(name, value):
    """Hand a figure out of the step, by name; heard by nobody on its own."""
    del name, value


class Layers(NamedTuple):
    """How each kind of layer is carried out."""

    block: Callable = block
    embed: Callable = embed
    up: Callable = up
    down: Callable = down
    attention: Callable = attention
    experts: Callable = experts
    norm: Callable = norm
    conv: Callable = conv
    pool: Callable = pool
    flatten: Callable = flatten
    mean: Callable = mean
    cross_entropy: Callable = cross_entropy
    positions: Callable = positions
    note: Callable = note


ALONE = Layers()  # one device, no neighbours
