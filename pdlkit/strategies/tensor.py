"""Tensor parallelism: every device has part of each layer, and the whole batch."""

import dataclasses
import math
from collections.abc import Iterator

import jax.numpy as jnp
from jax import lax

from pdlkit.compat import varying_axes
from pdlkit.errors import lesson
from pdlkit.models import layers as whole
from pdlkit.records import Collective
from pdlkit.strategies.calls import Call
from pdlkit.strategies.spmd import Spmd
from pdlkit.strategies.vocabulary import cross_entropy_of_part, rows_of_part

SEQ = 1  # the dimension of [batch, seq, ...] that is cut between blocks


@dataclasses.dataclass(frozen=True)
class TensorParallel(Spmd):
    """Cut each block's hidden axes: by columns going in, by rows coming out.

    With `vocabulary`, the embedding and the head are cut too, by tokens, and the loss
    is taken without any device holding a whole row of logits. With `sequence`, which
    includes that, what lies between the blocks' halves (norms, residual stream) is cut
    along the sequence: each all-reduce becomes a reduce-scatter and an all-gather.

    Moves:  one all-reduce of activations for each half of a block, one more going back.
    Keeps:  1/n of the `mlp` and `heads` weights (and of the `vocabulary`'s, if cut).
    Source: Shoeybi et al. 2019, "Megatron-LM", https://arxiv.org/abs/1909.08053;
            `sequence`: Korthikanti et al. 2022, https://arxiv.org/abs/2205.05198
    """

    axis: str = "model"
    vocabulary: bool = False
    sequence: bool = False

    def rules(self):
        inside = {"mlp": self.axis, "heads": self.axis}
        return inside | ({"vocabulary": self.axis} if self.vocabulary or self.sequence else {})

    def cuts(self):
        return {"seq": self.axis} if self.sequence else {}

    def layers(self, mesh):
        # `up` needs no talk: its output is cut the way `down` wants its input.
        replaced = {"down": self._down}
        if self.vocabulary or self.sequence:
            replaced |= {"embed": self._embed, "cross_entropy": self._cross_entropy}
        if self.sequence:
            replaced |= {"up": self._up, "positions": self._positions}
        return replaced

    def layer_moves(self, layout, calls):
        ways = layout.mesh.shape[self.axis]
        if ways == 1:
            return ()
        sent, along = (self._sent_in_parts if self.sequence else self._sent), (self.axis,)
        return tuple(
            Collective.by_ring(kind, along, ways, size, each.times)
            for each in calls
            for kind, size in sent(each, ways)
        )

    def _up(self, x, w, b=0.0):
        return whole.up(self._gathered(x), w, b)

    def _down(self, x, w, b=0.0):
        self._check_cut("`layers.down`", w, "mlp")
        return self._summed(whole.down(x, w)) + b

    def _embed(self, tokens, table):
        self._check_cut("`layers.embed`", table, "vocabulary")
        tokens = self._gathered(tokens) if self.sequence else tokens
        return self._summed(rows_of_part(tokens, table, self.axis))

    def _cross_entropy(self, logits, labels):
        self._check_cut("`layers.cross_entropy`", logits, "vocabulary")
        if not self.sequence:
            return cross_entropy_of_part(logits, labels, self.axis)
        losses = cross_entropy_of_part(logits, self._gathered(labels), self.axis)
        length = labels.shape[SEQ]  # each device answers for its own tokens
        return lax.dynamic_slice_in_dim(losses, lax.axis_index(self.axis) * length, length, SEQ)

    def _positions(self, length):
        return lax.axis_index(self.axis) * length + jnp.arange(length)

    def _gathered(self, x):
        return lax.all_gather(x, self.axis, axis=SEQ, tiled=True)

    def _summed(self, x):
        if not self.sequence:
            return lax.psum(x, self.axis)
        return lax.psum_scatter(x, self.axis, scatter_dimension=SEQ, tiled=True)

    def _check_cut(self, operation: str, array, name: str) -> None:
        # With `sequence` every array is marked as a device's own, and none can be told apart.
        if lax.axis_size(self.axis) > 1 and self.axis not in varying_axes(array):
            raise ValueError(
                lesson(
                    f"{operation} is given an array of shape {list(array.shape)} that "
                    f"{self.name} does not cut.",
                    why=f"what the {lax.axis_size(self.axis)} devices of `{self.axis}` make of "
                    "their parts is summed up, and of a whole it would be as many times too much.",
                    fix=f'name that dimension of the weights "{name}" in model.axes, or let the '
                    "model do this without `layers`.",
                )
            )

    def _sent(self, call: Call, _: int) -> Iterator[tuple[str, int]]:
        """Yield the kind and bytes of what one call sends, there and back."""
        match call.operation, call.arguments:
            case "up", (x, w, *_) if self.axis in w.axes - x.axes:
                yield "all_reduce", x.bytes  # going back, the gradient of what came in
            case "down", (x, w, *_):
                yield "all_reduce", _bytes_out(x, w)
            case "embed", (tokens, table) if self.vocabulary:
                yield "all_reduce", math.prod(tokens.shape) * table.shape[-1] * table.bytes_each
            case "cross_entropy", (logits, _) if self.vocabulary:
                yield from [("all_reduce", logits.bytes // logits.shape[-1])] * 3

    def _sent_in_parts(self, call: Call, ways: int) -> Iterator[tuple[str, int]]:
        """Yield the same where the sequence is cut between the blocks' halves."""
        match call.operation, call.arguments:
            case "up", (x, *_):
                yield from [("all_gather", x.bytes), ("reduce_scatter", x.bytes * ways)]
            case "down", (x, w, *_):
                size = _bytes_out(x, w)
                yield from [("reduce_scatter", size), ("all_gather", size // ways)]
            case "embed", (tokens, table):
                part = math.prod(tokens.shape) * table.shape[-1] * table.bytes_each
                yield "all_gather", tokens.bytes
                yield from [("reduce_scatter", part * ways), ("all_gather", part)]
            case "cross_entropy", (logits, labels):
                losses = logits.bytes // logits.shape[-1]
                yield "all_gather", labels.bytes
                yield from [("all_reduce", losses)] * 4  # the last one going back


def _bytes_out(x, w) -> int:
    """Return the bytes of what `down` gives, [..., embed]."""
    kept = x.shape[: len(x.shape) - len(w.shape) + 1]
    return math.prod(kept) * w.shape[-1] * x.bytes_each
