"""Spatial parallelism: every device has some rows of every image."""

import dataclasses
import math
from collections.abc import Iterator

import jax.numpy as jnp
from jax import lax

from pdlkit.collectives.halo import halo_exchange, halo_exchange_hops
from pdlkit.collectives.running import permutes
from pdlkit.errors import lesson
from pdlkit.models import layers as whole
from pdlkit.records import Collective
from pdlkit.strategies.calls import Call
from pdlkit.strategies.spmd import Spmd

ROWS, COLUMNS = 1, 2  # the dimensions of [batch, rows, columns, channels]


@dataclasses.dataclass(frozen=True)
class SpatialParallel(Spmd):
    """Cut images into slabs of rows; fetch what lies past a slab's edge.

    Where an image is flattened, its rows are gathered, and what follows is computed
    on whole images by every device of the axis.

    Moves:  the rows round each slab a convolution, and their gradients going back;
            an all-gather of rows a flattening, and a reduce-scatter going back;
            one all-reduce of the gradients of the weights.
    Keeps:  all weights, and 1/n of the rows of every image on each of n devices.
    Source: Dryden et al. 2019, "Improving Strong-Scaling of CNN Training by Exploiting
            Finer-Grained Parallelism", https://arxiv.org/abs/1903.06681
    """

    axis: str = "rows"
    by_permutes = True

    def cuts(self):
        return {"rows": self.axis}

    def layers(self, mesh):
        if mesh.shape[self.axis] == 1:  # whole images: no edge to look past
            return {}
        return {"conv": self._conv, "pool": self._pool, "flatten": self._flatten}

    def layer_moves(self, layout, calls):
        ways = layout.mesh.shape[self.axis]
        if ways == 1:
            return ()
        first = next((call for call in calls if call.operation == "conv"), None)
        sent = [each for call in calls for each in _sent(call, ways, call is first)]
        return tuple(
            Collective.by_ring(kind, (self.axis,), ways, size, times) for kind, size, times in sent
        )

    def _conv(self, x, w, b=0.0, *, padding="SAME", stride=1):
        self._check_divides(f"a stride of {stride}", x.shape[ROWS], stride)
        (above, below), columns = _margins(x, w, padding=padding, stride=stride)
        x = halo_exchange(x, self.axis, above, below, dimension=ROWS)
        return whole.conv(x, w, b, padding=((0, 0), columns), stride=stride)

    def _pool(self, x, size=2, *, reduce=jnp.max):
        self._check_divides(f"pooling {size} rows into one", x.shape[ROWS], size)
        return whole.pool(x, size, reduce=reduce)

    def _flatten(self, x):
        return whole.flatten(lax.all_gather(x, self.axis, axis=ROWS, tiled=True))

    def _check_divides(self, what: str, rows: int, step: int) -> None:
        if rows % step == 0:
            return
        ways = lax.axis_size(self.axis)
        fewer = next(n for n in range(ways - 1, 0, -1) if n == 1 or rows * ways % (n * step) == 0)
        raise ValueError(
            lesson(
                f"{what} meets slabs of {rows}: {rows * ways} rows on {self.axis}={ways}.",
                why=f"slabs stay of one size, so each is a multiple of {step} rows.",
                fix=f"{self.axis}={fewer}{' or fewer' * (fewer > 1)}, or images at least "
                f"{step // math.gcd(rows, step)} times as high.",
            )
        )


def _margins(x, w, b=0.0, *, padding="SAME", stride=1):
    """Return how far a convolution looks past a slab: rows above, below; columns.

    A slab is a multiple of `stride`: what "SAME" puts round it, it puts round the image.
    """
    del b
    height = w.shape[0]
    if isinstance(padding, str):
        sides = x.shape[ROWS : COLUMNS + 1]
        padding = lax.padtype_to_pads(sides, w.shape[:2], (stride, stride), padding)
    (above, below), _ = padding
    wanted = max(height - stride, 0)
    if above + below != wanted:
        raise ValueError(
            lesson(
                f"a convolution puts {above + below} rows round an image, where a kernel of "
                f"{height} rows in strides of {stride} wants {wanted}.",
                why="SpatialParallel keeps slabs of one size, so an image loses and gains no row.",
                fix='padding="SAME".',
            )
        )
    return padding


def _sent(call: Call, ways: int, on_images: bool) -> Iterator[tuple[str, int, int]]:
    """Yield kind, bytes and times of what a call sends; images want no gradient."""
    if call.operation == "conv":
        there = _halo_bytes(call, ways)
        for size in there if on_images else 2 * there:
            yield "permute", size, call.times
    if call.operation == "flatten":
        (x,) = call.arguments
        yield "all_gather", x.bytes, call.times
        yield "reduce_scatter", x.bytes * ways, call.times


def _halo_bytes(call: Call, ways: int) -> list[int]:
    """Return the bytes of each message of one exchange."""
    x = call.arguments[0]
    (above, below), _ = _margins(*call.arguments, **call.options)
    hops = halo_exchange_hops(ways, x.shape[ROWS], above, below)
    return [x.bytes // x.shape[ROWS] * rows for rows in permutes(hops)]
