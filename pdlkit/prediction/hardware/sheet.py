"""What a device is, in figures: how it computes, remembers and talks."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from pdlkit.errors import lesson, nearest


class Link(NamedTuple):
    """How fast a device sends to its neighbours."""

    bytes_per_second: float  # one way; of a torus, of one link
    share: float = 0.8  # of them in use, with messages as long as one likes
    seconds: float = 1e-6  # a hop takes at least
    base_seconds: float = 0.0  # before the first hop
    quick_seconds: float = math.inf  # a hop by the protocol for short messages, where there is one
    quick_share: float = 1.0  # of the bytes per second in use that it has


ETHERNET = Link(12.5e9, 0.8, 10e-6)  # 100 Gbit/s for each device


class Price(NamedTuple):
    """What an hour costs, as somebody asked for it on a day."""

    dollars_per_hour: float
    when: str
    who: str


@dataclasses.dataclass(frozen=True)
class Hardware:
    """One device, and how it is linked to its like."""

    name: str
    flops: Mapping[str, float]  # dtype -> multiplications and additions in a second, at most
    memory_bytes: float
    bytes_per_second: float  # of its memory
    scale_up: Link  # inside a node or a slice
    scale_out: Link = ETHERNET  # between them, for each device
    node: int = 8  # devices that `scale_up` links, where there is no torus
    torus: tuple[int, ...] = ()  # the largest slice, axis by axis
    wraps_at: int = 1  # an axis of a multiple of so many is a ring, a shorter one a line
    matmul_share: float = 0.8  # of the operations in a second that large products reach
    attention_share: float = 0.5  # and fused attention
    fused_attention: bool = True  # whether scores stay inside a kernel where a plan does not say
    stream_share: float = 0.8  # of the bytes in a second that an element-wise operation reaches
    operation_seconds: float = 5e-6  # the shortest operation
    host_seconds: float = 0.0  # in which the host starts one; none where a step is compiled whole
    splits_sums: bool = False  # into hops that go on beside the products of tensor parallel layers
    message_share: float = 0.15  # of the arithmetic units, that messages take while they go on
    reserved_bytes: float = 0.0  # of the memory, for drivers and buffers of collectives
    spread: float = 0.0  # standard deviation of the speed among devices of the kind, as a share
    watts: float = math.nan
    price: Price | None = None
    sources: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        positive = ("memory_bytes", "bytes_per_second", "matmul_share", "stream_share", "node")
        figures = {name: getattr(self, name) for name in positive}
        figures |= {f"flops of {dtype}": value for dtype, value in self.flops.items()}
        for way in ("scale_up", "scale_out"):
            figures[f"{way} bytes_per_second"] = getattr(self, way).bytes_per_second
        for figure, value in figures.items():
            if not (isinstance(value, int | float) and 0 < value < math.inf):
                raise ValueError(
                    lesson(
                        f"{self.name} has {figure}={value}.",
                        why="a device computes, remembers and sends something in a second.",
                        fix="a number above 0, in operations, bytes or seconds: 312e12, not 312.",
                    )
                )

    @classmethod
    def read(cls, figures: Mapping[str, Any], *, where: str) -> "Hardware":
        """Return the device of a sheet's figures.

        Raises:
            ValueError: a figure is missing, unknown, or not a number above 0.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        needed = [n for n, f in fields.items() if f.default is f.default_factory]
        for name in figures:
            if name not in fields:
                raise ValueError(
                    lesson(
                        f"{where} says `{name}`, which is no figure of a device.",
                        why="a misspelt figure would be left at its usual value.",
                        fix=f"{nearest(name, fields)}.",
                    )
                )
        for name in needed:
            if name not in figures:
                raise ValueError(
                    lesson(
                        f"{where} does not say `{name}`.",
                        why="no prediction can do without it, and it has no usual value.",
                        fix=f"{name} = ..., as `hardware.load` shows.",
                    )
                )
        records = {"scale_up": Link, "scale_out": Link, "price": Price, "torus": lambda *n: n}
        made = dict(figures)
        for name, record in records.items():
            if name in made:
                given = made[name]
                made[name] = record(**given) if isinstance(given, dict) else record(*given)
        return cls(**made)

    def peak(self, dtype: str) -> float:
        """Return the operations in a second of a number format.

        Raises:
            ValueError: the sheet has no figure for it.
        """
        found = {"bf16": ("bf16", "fp16"), "fp16": ("fp16", "bf16")}.get(dtype, (dtype,))
        for each in found:
            if each in self.flops:
                return self.flops[each]
        raise ValueError(
            lesson(
                f"{self.name} has no figure for {dtype}.",
                why=f"its sheet knows {', '.join(self.flops)}.",
                fix=f"{nearest(dtype, self.flops)}, or a sheet that says it.",
            )
        )

    def matmul_seconds(self, m, n, k, *, batch=1, dtype: str = "bf16"):
        """Return how long products of [m, k] by [k, n] take; any may be an array.

        The operations at the share of the peak that large products reach; then the
        result is written, and something passes before the first and after the last.
        Never faster than the operands can be read.

        Args:
            m: rows of the result.
            n: its columns.
            k: what is summed over.
            batch: how many at once.
            dtype: of the operands; the result has two bytes a number.
        """
        operations = 2.0 * batch * m * n * k / (self.peak(dtype) * self.matmul_share)
        written = 2.0 * batch * m * n / self.stream
        read = 2.0 * batch * (m * k + k * n) / self.stream
        return self.operation_seconds + np.maximum(operations, read) + written

    def stream_seconds(self, count, operations=1):
        """Return how long element-wise operations take that read and write so many bytes."""
        return operations * self.operation_seconds + count / self.stream

    @property
    def stream(self) -> float:
        """The bytes in a second that an element-wise operation reads and writes."""
        return self.bytes_per_second * self.stream_share
