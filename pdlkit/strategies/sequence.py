"""Sequence parallelism: every device has a piece of each sequence."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec as P

from pdlkit.errors import lesson
from pdlkit.models import layers as whole
from pdlkit.models.parts import is_axes
from pdlkit.records import Collective
from pdlkit.strategies.placement import ways_of
from pdlkit.strategies.ring import pieces_of, ring_attention
from pdlkit.strategies.spmd import Spmd


@dataclasses.dataclass(frozen=True)
class RingAttention(Spmd):
    """Cut each sequence; send keys and values round a ring, so that all are seen.

    With `zigzag` a device takes one piece from each end of the sequence: under a
    causal mask all then have the same to do, where in plain order the first device
    waits for the last.

    Moves:  keys and values n - 1 times going forward; again going back, and n times
            their gradients; one all-reduce of the gradients of the weights.
    Keeps:  all weights; 1/n of the activations, and two pieces of keys and values.
    Source: Liu, Zaharia and Abbeel 2023, "Ring Attention", https://arxiv.org/abs/2310.01889;
            `zigzag`: Dubey et al. 2024, "Llama 3", 3.3.2, https://arxiv.org/abs/2407.21783
    """

    axis: str = "seq"
    zigzag: bool = False
    by_permutes = True

    def cuts(self):
        return {"seq": self.axis}

    def layers(self, mesh):
        return {"attention": self._attention, "positions": self._positions}

    def around(self, loss, layout):
        axes, devices = layout.model.batch_axes, layout.mesh.shape[self.axis]
        if not self.zigzag or devices == 1:
            return loss

        def on_zigzag(params, batch, micro=None):
            return loss(params, jax.tree.map(deal, axes, batch, is_leaf=is_axes), micro)

        def deal(names, array):
            if "seq" not in names:
                return array
            return _dealt(array, names.index("seq"), self.axis, devices)

        return on_zigzag

    def layer_moves(self, layout, calls):
        ways = layout.mesh.shape[self.axis]
        found = (call for call in calls if call.operation == "attention" and ways > 1)
        attention = tuple(move for call in found for move in self._round(call, ways))
        if not self.zigzag or ways == 1:
            return attention
        halves = [size // 2 for size in self._sequences(layout)]
        moved = 1 if ways == 2 else 2  # of two devices the first halves stay where they are
        dealt = (Collective("permute", (self.axis,), ways, size, size, moved) for size in halves)
        return (*attention, *dealt)

    def _sequences(self, layout):
        """Yield the bytes of each array of sequences that one device is given."""
        model, mesh = layout.model, layout.mesh
        axes = jax.tree.leaves(model.batch_axes, is_leaf=is_axes)
        specs = jax.tree.leaves(layout.batch, is_leaf=lambda node: isinstance(node, P))
        for array, names, spec in zip(jax.tree.leaves(model.example), axes, specs, strict=True):
            if "seq" in names:
                size = array.size * array.dtype.itemsize
                yield size // ways_of(spec, mesh) // layout.micro_batches

    def _round(self, call, ways: int):
        """Yield what one attention sends, there and back."""
        _, k, v = call.arguments
        for x, times in ((k, 2 * (ways - 1)), (v, 2 * (ways - 1))):
            yield Collective("permute", (self.axis,), ways, x.bytes, x.bytes, call.times * times)
            grads = 4 * x.bytes // x.bytes_each  # in float32, whatever the keys are in
            yield Collective("permute", (self.axis,), ways, grads, grads, call.times * ways)

    def _attention(self, q, k, v, *, causal=False):
        heads_first = (jnp.swapaxes(x, 1, 2) for x in (q, k, v))
        out: Any = ring_attention(*heads_first, self.axis, causal, self._zigzags())
        return jnp.swapaxes(out, 1, 2)

    def _positions(self, length):
        pieces = pieces_of(lax.axis_index(self.axis), lax.axis_size(self.axis), self._zigzags())
        piece = length // len(pieces)
        return jnp.concatenate([each * piece + jnp.arange(piece) for each in pieces])

    def _zigzags(self) -> bool:
        return self.zigzag and lax.axis_size(self.axis) > 1  # one device holds all, in order


@dataclasses.dataclass(frozen=True)
class Ulysses(Spmd):
    """Cut each sequence; for attention, exchange pieces of it for heads.

    Moves:  four all-to-alls for each attention going forward, four going back; one
            all-reduce of the gradients of the weights.
    Keeps:  all weights; 1/n of the activations.
    Source: Jacobs et al. 2023, "DeepSpeed Ulysses", https://arxiv.org/abs/2309.14509
    """

    axis: str = "seq"

    def cuts(self):
        return {"seq": self.axis}

    def layers(self, mesh):
        return {"attention": self._attention, "positions": self._positions}

    def layer_moves(self, layout, calls):
        ways = layout.mesh.shape[self.axis]
        found = (call for call in calls if call.operation == "attention" and ways > 1)
        sizes = ((call.arguments[0].bytes, 8 * call.times) for call in found)
        return tuple(self._exchange(size, ways, times) for size, times in sizes)

    def _exchange(self, size: int, ways: int, times: int) -> Collective:
        return Collective.by_ring("all_to_all", (self.axis,), ways, size, times)

    def _attention(self, q, k, v, *, causal=False):
        ways = lax.axis_size(self.axis)
        if q.shape[2] % ways:
            raise ValueError(
                lesson(
                    f"{q.shape[2]} heads do not divide among {self.axis}={ways}.",
                    why="for attention each device takes some of the heads, of all tokens.",
                    fix=f"a multiple of {ways} heads, or RingAttention, which leaves heads whole.",
                )
            )
        out = whole.attention(*(self._swapped(x, 2, 1) for x in (q, k, v)), causal=causal)
        return self._swapped(out, 1, 2)

    def _positions(self, length):
        return lax.axis_index(self.axis) * length + jnp.arange(length)

    def _swapped(self, x, cut: int, joined: int):
        return lax.all_to_all(x, self.axis, cut, joined, tiled=True)


def _dealt(array, dimension: int, axis: str, devices: int):
    """Return the two pieces of 2n that a device holds by zigzag, of pieces in order."""
    if array.shape[dimension] % 2:
        raise ValueError(
            lesson(
                f"{array.shape[dimension]} tokens on each device do not make two pieces.",
                why="by zigzag a device takes one piece from each end of the sequence.",
                fix=f"sequences of a multiple of {2 * devices} tokens, or zigzag=False.",
            )
        )
    homes = [min(piece, 2 * devices - 1 - piece) for piece in range(2 * devices)]
    halves = jnp.split(array, 2, dimension)
    even, odd = (
        lax.ppermute(half, axis, [(d, homes[2 * d + i]) for d in range(devices)])
        for i, half in enumerate(halves)
    )
    # Even pieces come from first halves; device d takes piece d first.
    first = lax.axis_index(axis) % 2 == 0
    both = jnp.where(first, even, odd), jnp.where(first, odd, even)
    return jnp.concatenate(both, dimension)
