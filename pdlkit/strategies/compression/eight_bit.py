"""One byte for each number of a gradient."""

import dataclasses

import jax.numpy as jnp
from jax import lax

from pdlkit.strategies.compression.codec import Codec, Message, Sent


@dataclasses.dataclass(frozen=True)
class EightBit(Codec):
    """Send whole numbers from -127 to 127, and one scale for each device's part.

    Each device sums one part for all, as in a ring all-reduce: the parts go there in
    bytes, and their sums come back in bytes. What the second rounding leaves out, the
    device that did it adds to its own residue. Exact at no setting: each rounding is
    off by at most half its scale, which is 1/127 of the largest number of the part.

    Source: Dettmers 2015, "8-Bit Approximations for Parallelism in Deep Learning",
    https://arxiv.org/abs/1511.04561
    """

    def exchange(self, x, kept, *, axes, key):
        del key
        devices = lax.axis_size(axes)
        parts = jnp.pad(x.ravel(), (0, -x.size % devices)).reshape(devices, -1)
        codes, scales = quantised(parts)  # [devices, part], [devices]
        heard, their_scales = (
            lax.all_to_all(each, axes, split_axis=0, concat_axis=0, tiled=True)
            for each in (codes, scales)
        )
        summed = their_scales @ heard.astype(x.dtype)  # [part], of all devices
        sum_codes, sum_scale = quantised(summed[None])
        every = lax.all_gather((sum_codes, sum_scale), axes, tiled=True)
        own = restored(codes, scales)
        lost = summed - restored(sum_codes, sum_scale)[0]
        own = own.at[lax.axis_index(axes)].add(-lost)
        total = restored(*every)
        whole = lambda parts: parts.ravel()[: x.size].reshape(x.shape)  # noqa: E731
        return Sent(whole(total), whole(own), kept)

    def messages(self, shape, devices):
        part, scale = -(-shape.size // devices), shape.dtype.itemsize
        return (
            Message("all_to_all", devices * part),
            Message("all_to_all", devices * scale),
            Message("all_gather", part),
            Message("all_gather", scale),
        )


def quantised(rows):
    """[rows, n] -> int8 [rows, n], and the scale of each row [rows]."""
    scales = jnp.abs(rows).max(axis=1) / 127
    steps = rows / jnp.where(scales > 0, scales, 1)[:, None]
    return jnp.round(steps).astype(jnp.int8), scales


def restored(codes, scales):
    """[rows, n], what int8 numbers [rows, n] and the scales of their rows [rows] say."""
    return codes.astype(scales.dtype) * scales[:, None]
