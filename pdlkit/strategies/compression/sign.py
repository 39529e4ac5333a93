"""One bit for each number of a gradient."""

import dataclasses

import jax.numpy as jnp
from jax import lax

from pdlkit.strategies.compression.codec import Codec, Message, Sent


@dataclasses.dataclass(frozen=True)
class Sign(Codec):
    """Send the signs, eight to a byte, and the mean size of the numbers.

    Exact at no setting. Signs cannot be summed on their way, so all send to all: what
    one device sends grows with how many there are.

    Source: Karimireddy et al. 2019, "Error Feedback Fixes SignSGD",
    https://arxiv.org/abs/1901.09847
    """

    def exchange(self, x, kept, *, axes, key):
        del key
        size, scale = x.size, jnp.abs(x).mean()
        bits = jnp.packbits(x.ravel() >= 0)
        scales = lax.all_gather(scale, axes)  # [devices]
        signs = jnp.unpackbits(lax.all_gather(bits, axes), axis=1, count=size)  # [devices, size]
        total = scales @ (2 * signs.astype(x.dtype) - 1)
        return Sent(total.reshape(x.shape), jnp.where(x >= 0, scale, -scale), kept)

    def messages(self, shape, devices):
        scale, signs = shape.dtype.itemsize, -(-shape.size // 8)
        return Message("all_gather", scale), Message("all_gather", signs)
