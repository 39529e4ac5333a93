"""What a device is, in figures: how it computes, remembers and talks."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from pdlkit.errors import check_kind, lesson, nearest
from pdlkit.prediction.hardware.bounds import check_figure
from pdlkit.units import write_bytes, write_flops


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


_SHARES_AND_TIMES = (
    *("matmul_share", "attention_share", "stream_share", "message_share"),
    *("fragmentation_share", "spread"),
    *("operation_seconds", "host_seconds", "reserved_bytes"),
)


@dataclasses.dataclass(frozen=True, repr=False)
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
    fragmentation_share: float = 0.0  # of what is allocated, in pieces too small to be used
    reserved_bytes: float = 0.0  # of the memory, for drivers and buffers of collectives
    spread: float = 0.0  # standard deviation of the speed among devices of the kind, as a share
    watts: float = math.nan
    price: Price | None = None
    sources: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if not isinstance(self.flops, Mapping) or not self.flops:
            raise ValueError(
                lesson(
                    f"{self.name} has flops={self.flops!r}.",
                    why="how fast a device computes depends on the number format.",
                    fix='flops={"bf16": 312e12}, operations in a second by format.',
                )
            )
        for way in ("scale_up", "scale_out"):
            check_kind(way, getattr(self, way), Link, "hardware.Link(bytes_per_second=300e9)")
        for figure, value in self._figures():
            check_figure(self.name, figure, value)

    def __repr__(self) -> str:
        trained_in = (dtype for dtype in ("bf16", "fp16", "fp32") if dtype in self.flops)
        dtype = next(trained_in, next(iter(self.flops)))
        return (
            f"<{self.name}: {write_flops(self.flops[dtype])}/s in {dtype}, "
            f"{write_bytes(self.memory_bytes)} at {write_bytes(self.bytes_per_second)}/s>"
        )

    def _figures(self):
        """Yield each figure that has bounds, by its name."""
        for name in ("memory_bytes", "bytes_per_second", "node", "wraps_at"):
            yield name, getattr(self, name)
        for dtype, value in self.flops.items():
            yield f"flops of {dtype}", value
        for name in _SHARES_AND_TIMES:
            yield name, getattr(self, name)
        for i, length in enumerate(self.torus):
            yield f"torus[{i}]", length
        for way in ("scale_up", "scale_out"):
            for name, value in getattr(self, way)._asdict().items():
                yield f"{way} {name}", value

    @classmethod
    def read(cls, figures: Mapping[str, Any], *, where: str) -> "Hardware":
        """Return the device of a sheet's figures.

        Raises:
            ValueError: a figure is missing, unknown, or not a number above 0.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        needed = [n for n, f in fields.items() if f.default is f.default_factory]
        _check_known(figures, fields, f"{where} says")
        _check_there(figures, needed, where)
        records = {"scale_up": Link, "scale_out": Link, "price": Price}
        made = {name: figure for name, figure in figures.items() if name != "torus"}
        for name, record in records.items():
            if name in made:
                made[name] = _record(record, made[name], f"{where}, {name}")
        return cls(**made, torus=tuple(figures.get("torus", ())))

    def peak(self, dtype: str) -> float:
        """Return the operations in a second of a number format.

        Raises:
            ValueError: the sheet has no figure for it.
        """
        halves = {"bf16": ("bf16", "fp16", "fp32"), "fp16": ("fp16", "bf16", "fp32")}
        found = halves.get(dtype, (dtype,))  # what a device lacks it computes in float32
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


def _check_known(figures, known, says: str) -> None:
    """Raise if a figure is none of those known."""
    for name in figures:
        if name not in known:
            raise ValueError(
                lesson(
                    f"{says} `{name}`, which is no figure of a device.",
                    why="a misspelt figure would be left at its usual value.",
                    fix=f"{nearest(name, known)}.",
                )
            )


def _check_there(figures, needed, where: str) -> None:
    """Raise if a figure that is needed is missing."""
    for name in needed:
        if name not in figures:
            raise ValueError(
                lesson(
                    f"{where} does not say `{name}`.",
                    why="no prediction can do without it, and it has no usual value.",
                    fix=f"{name} = ..., as `hardware.load` shows.",
                )
            )


def _record(kind, given, where: str):
    """Return a link or a price from its table in a sheet."""
    if not isinstance(given, dict):
        raise ValueError(
            lesson(
                f"{where} is {given!r}.",
                why="it has several figures, each by its name.",
                fix=f"{{ {kind._fields[0]} = ... }}, with what else `help(hardware."
                f"{kind.__name__})` names.",
            )
        )
    _check_known(given, kind._fields, f"{where}, says")
    _check_there(given, [n for n in kind._fields if n not in kind._field_defaults], where)
    return kind(**given)
