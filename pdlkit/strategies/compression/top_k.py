"""The largest numbers of a gradient."""

import dataclasses

import jax.numpy as jnp
from jax import lax

from pdlkit.strategies.compression.codec import Codec, Message, Sent, check_ratio, share_of


@dataclasses.dataclass(frozen=True)
class TopK(Codec):
    """Send the numbers that are largest in size, and where they stand.

    Devices choose different places, so all send to all: what one device sends grows
    with how many there are.

    Source: Aji and Heafield 2017, "Sparse Communication for Distributed Gradient
    Descent", https://arxiv.org/abs/1704.05021
    """

    ratio: float = 0.01  # of the numbers of each array; 1 is exact

    def __post_init__(self):
        check_ratio("TopK", self.ratio)

    def exchange(self, x, kept, *, axes, key):
        del key
        flat = x.ravel()
        places = lax.top_k(jnp.abs(flat), share_of(self.ratio, flat.size))[1]

        def laid_out(places, values):
            return jnp.zeros_like(flat).at[places].add(values).reshape(x.shape)

        own = places, flat[places]
        every = (lax.all_gather(each, axes, tiled=True) for each in own)
        return Sent(laid_out(*every), laid_out(*own), kept)

    def messages(self, shape, devices):
        count = share_of(self.ratio, shape.size)
        places, values = 4 * count, shape.dtype.itemsize * count
        return Message("all_gather", places), Message("all_gather", values)
