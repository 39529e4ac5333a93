"""Numbers of a gradient drawn by lot."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax

from pdlkit.strategies.compression.codec import Codec, Message, Sent, check_ratio, share_of


@dataclasses.dataclass(frozen=True)
class RandomK(Codec):
    """Send numbers from places drawn anew each step, the same on every device.

    So no places are sent, and the numbers can be summed on their way.

    Source: Stich, Cordonnier and Jaggi 2018, "Sparsified SGD with Memory",
    https://arxiv.org/abs/1809.07599
    """

    ratio: float = 0.01  # of the numbers of each array; 1 is exact
    seed: int = 0

    def __post_init__(self):
        check_ratio("RandomK", self.ratio)

    def exchange(self, x, kept, *, axes, key):
        flat = x.ravel()
        drawn = jax.random.permutation(jax.random.fold_in(key, self.seed), flat.size)
        places = drawn[: share_of(self.ratio, flat.size)]

        def laid_out(values):
            return jnp.zeros_like(flat).at[places].set(values).reshape(x.shape)

        own = flat[places]
        return Sent(laid_out(lax.psum(own, axes)), laid_out(own), kept)

    def messages(self, shape, devices):
        count = share_of(self.ratio, shape.size)
        return (Message("all_reduce", shape.dtype.itemsize * count),)
