"""Two thin matrices in place of each gradient matrix."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax import lax

from pdlkit.errors import lesson
from pdlkit.models.floats import at_least_float32
from pdlkit.strategies.compression.codec import Codec, Message, Sent


@dataclasses.dataclass(frozen=True)
class PowerSGD(Codec):
    """Send two factors of low rank, found by one turn of the power method each step.

    An array of two or more dimensions is the matrix of its last axis; one of fewer is
    sent as it is. A matrix M [n, m], n the smaller side, is sent as P [n, r], which is
    M Q made orthonormal, and Q [m, r], which is M^T P and where the next step begins.
    Both are sums over devices, so they are summed on their way. Where the rank is
    larger than n, n factors are sent, and that is exact.

    Source: Vogels, Karimireddy and Jaggi 2019, "PowerSGD",
    https://arxiv.org/abs/1905.13727
    """

    rank: int = 2

    def __post_init__(self):
        if self.rank < 1:
            raise ValueError(
                lesson(
                    f"PowerSGD cannot send factors of rank {self.rank}.",
                    why="the rank is how many columns each factor has.",
                    fix="rank=1, 2 or 4.",
                )
            )

    def check(self, shapes):
        largest = max((min(_sides(x.shape)) for x in shapes if len(x.shape) > 1), default=0)
        if self.rank > largest:
            raise ValueError(
                lesson(
                    f"PowerSGD sends factors of rank {self.rank}, but no matrix of this model "
                    f"has a rank above {largest}.",
                    why="a matrix [n, m] has a rank of n or m at the most, whichever is less.",
                    fix=f"rank={largest}, which is exact, or less, which is shorter."
                    if largest
                    else "another codec: TopK, RandomK, Sign, EightBit.",
                )
            )

    def first(self, shape):
        if len(shape.shape) < 2:
            return ()
        n, m = sorted(_sides(shape.shape))
        return jax.random.normal(jax.random.key(0), (m, min(self.rank, n)), shape.dtype)

    def exchange(self, x, kept, *, axes, key):
        del key
        if x.ndim < 2:
            return Sent(lax.psum(x, axes), x, kept)
        sides = _sides(x.shape)
        tall = sides[0] > sides[1]
        matrix = x.reshape(sides).T if tall else x.reshape(sides)  # [n, m]
        wide = at_least_float32(lax.psum(matrix @ kept, axes))  # LAPACK knows no bfloat16
        p = jnp.linalg.qr(wide)[0].astype(x.dtype)  # [n, r]
        own = matrix.T @ p  # [m, r]
        q = lax.psum(own, axes)

        def whole(q):
            return (q @ p.T if tall else p @ q.T).reshape(x.shape)

        return Sent(whole(q), whole(own), q)

    def messages(self, shape, devices):
        item = shape.dtype.itemsize
        if len(shape.shape) < 2:
            return (Message("all_reduce", item * shape.size),)
        n, m = sorted(_sides(shape.shape))
        rank = min(self.rank, n)
        return Message("all_reduce", item * n * rank), Message("all_reduce", item * m * rank)


def _sides(shape) -> tuple[int, int]:
    """[..., m] as the matrix [n, m] that it is sent as."""
    return math.prod(shape[:-1]), shape[-1]
