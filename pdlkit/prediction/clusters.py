"""Many devices, and how a group of them is linked."""

import dataclasses
import math
from numbers import Real
from typing import NamedTuple

import numpy as np

from pdlkit.errors import check_kind, is_count, lesson
from pdlkit.prediction.hardware import Hardware, Link


class Group(NamedTuple):
    """Devices that take part in one collective, as its cost sees them."""

    size: int
    inside: int  # of them in one node or slice, next to each other
    lanes: float  # links that each sends on at once inside
    hops: int  # from the first to the last of those inside, if all lanes are used
    crossing: float = 1.0  # links that a byte to any of them takes in turn, lanes counted

    @property
    def nodes(self) -> int:
        """How many nodes or slices it lies in."""
        return -(-self.size // self.inside)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Devices of one kind in nodes, or in slices of a torus.

    Devices are counted through a node before the next begins; `group` says where
    those of a mesh axis lie.
    """

    hardware: Hardware
    devices: int
    node: int  # devices that the fast links connect: a server, a rack or a slice
    scale_out: Link
    shape: tuple[int, ...] = ()  # of a slice, axis by axis; the last is counted through first

    def __repr__(self) -> str:
        nodes = -(-self.devices // self.node)
        of = f" in {nodes} of {self.node}" if nodes > 1 else ""
        return f"<{self.devices} {self.hardware.name}{of}>"

    def costs(self, size: int | None = None, stride: int = 1) -> "Costs":
        """Return what the collectives of a group cost; by default of all devices."""
        return Costs(self, self.group(size or self.devices, stride))

    def group(self, size: int, stride: int = 1) -> Group:
        """Return the group of every `stride`-th device, `size` of them.

        Args:
            size: how many take part.
            stride: how far apart they are counted: the product of the faster mesh axes.
        """
        inside = max(1, min(size, self.node // stride))
        if not self.shape:
            return Group(size, inside, 1.0, inside - 1)
        rings = all(length % self.hardware.wraps_at == 0 for length in self.shape)
        lanes, hops, left, step, crossing = 0.0, 0, inside, stride, 0.0
        for length in reversed(self.shape):
            if step >= length:
                step //= length
                continue
            along = min(left, length // step)
            if along > 1:
                # Of a flat torus each axis closes by itself, of a solid one all or none.
                closes = rings or (len(self.shape) < 3 and length % self.hardware.wraps_at == 0)
                ring = along * step == length and closes
                # Between two of a group lie others, whose messages share the links.
                own = (2.0 if ring and length > 2 else 1.0) / step
                lanes += own
                crossing = max(crossing, along / 4 / own)
                hops += along // 2 if ring else along - 1
            left, step = left // along, 1
            if left <= 1:
                break
        return Group(size, inside, max(lanes, 1e-9), hops, max(crossing, 1 / max(lanes, 1e-9)))


def cluster(
    hardware: Hardware,
    *,
    devices: int,
    node: int | None = None,
    scale_out: float | None = None,
) -> Cluster:
    """Return a cluster of devices of one kind.

    Args:
        hardware: a sheet of `pdl.hardware`.
        devices: how many.
        node: how many the fast links connect; 8 or what the sheet says, of a torus the
            largest slice.
        scale_out: bytes in a second that each device can send to another node, one way,
            where it is not what the sheet says.

    Raises:
        ValueError: a number that is not above 0, or a slice that its torus has not.
    """
    check_kind("hardware", hardware, Hardware, "pdl.hardware.h100")
    largest = math.prod(hardware.torus) if hardware.torus else hardware.node
    for name, count in (("devices", devices), ("node", 1 if node is None else node)):
        if not is_count(count):
            raise ValueError(
                lesson(
                    f"{name}={count!r} is no number of devices.",
                    why="devices are counted, and one is the fewest.",
                    fix=f"{name}=8, or another whole number.",
                )
            )
    node = min(devices, largest if node is None else node)
    link = hardware.scale_out
    if scale_out is not None:
        link = link._replace(bytes_per_second=scale_out, share=1.0)
        if not isinstance(scale_out, Real) or not 0 < scale_out < math.inf:
            raise ValueError(
                lesson(
                    f"scale_out={scale_out!r} is no bandwidth.",
                    why="each device sends some bytes in a second to other nodes.",
                    fix="25e9, a network of 200 Gbit/s for each device.",
                )
            )
    shape = _slice(hardware, node) if hardware.torus else ()
    return Cluster(hardware, devices, node, link, shape)


def _slice(hardware: Hardware, devices: int) -> tuple[int, ...]:
    """Return the slice of so many devices: all rings if it can, and most cubic."""
    fitting = [
        shape
        for shape in _shapes(devices, len(hardware.torus))
        if all(a <= b for a, b in zip(shape, sorted(hardware.torus), strict=True))
    ]
    if not fitting:
        raise ValueError(
            lesson(
                f"{hardware.name} has no slice of {devices} devices.",
                why=f"a slice is a block of a torus of {' x '.join(map(str, hardware.torus))}.",
                fix="node=256, or another product of lengths that fit into it.",
            )
        )
    ringed = lambda shape: all(length % hardware.wraps_at == 0 for length in shape)  # noqa: E731
    return max(fitting, key=lambda shape: (ringed(shape), shape[0] - shape[-1]))


def _shapes(devices: int, axes: int):
    if axes == 1:
        yield (devices,)
        return
    for length in range(1, devices + 1):
        if devices % length == 0:
            for rest in _shapes(devices // length, axes - 1):
                if rest[0] >= length:  # each shape once, in order
                    yield (length, *rest)


class Costs(NamedTuple):
    """How long one device is at each collective of a group; arrays give arrays."""

    cluster: Cluster
    group: Group

    def all_reduce(self, count):
        """Return the seconds of a sum of `count` bytes, which all have in the end."""
        return self._scattered(count, passes=2)

    def all_gather(self, count):
        """Return the seconds until all have `count` bytes, of which each had a share."""
        return self._scattered(count, passes=1)

    def reduce_scatter(self, count):
        """Return the seconds of a sum of `count` bytes, of which each gets a share."""
        return self._scattered(count, passes=1)

    def all_to_all(self, count):
        """Return the seconds in which each sends every other its share of `count` bytes."""
        size, inside, _, hops, crossing = self.group
        if size == 1:
            return np.zeros(np.shape(count))
        near = count * (inside - 1) / size * crossing
        far = count * (size - inside) / size
        return self._seconds(near, hops, far=far, far_hops=self.group.nodes - 1)

    def send(self, count):
        """Return the seconds of a message to the next of the group, all of which send.

        Where the group lies in several nodes, those between them set the pace.
        """
        if self.group.size == 1:
            return np.zeros(np.shape(count))
        if self.group.nodes == 1:
            return self._seconds(count / min(1.0, self.group.lanes), 1, far=0.0, far_hops=0)
        return self._seconds(0.0, 0, far=count, far_hops=1)

    def _scattered(self, count, passes: int):
        """Return the seconds of an all-gather or its mirror image, or of both.

        Inside a node round a ring, or on a torus along all axes at once; between nodes
        what each device has of the whole goes round a ring of its like, or up and down a
        tree, whichever is sooner.
        """
        size, inside, lanes, hops, _ = self.group
        if size == 1:
            return np.zeros(np.shape(count))
        nodes = self.group.nodes
        near = passes * count * (inside - 1) / inside / lanes
        # NCCL's rings pass through all devices, so that a node sends the whole way round.
        others = nodes - 1 if self.cluster.shape else nodes - 1 / inside
        far = passes * count * others / nodes / inside if nodes > 1 else 0.0
        round_all = hops if self.cluster.shape else size - nodes
        ring = self._seconds(near, passes * round_all, far=far, far_hops=passes * (nodes - 1))
        if nodes == 1 or passes == 1:
            return ring
        steps = passes * math.ceil(math.log2(nodes))
        tree = self._seconds(near, passes * hops, far=far / 0.92, far_hops=steps)
        return np.minimum(ring, tree)

    def _seconds(self, near, hops: int, *, far, far_hops: int):
        """Return the seconds of bytes on the links inside and between nodes.

        By the protocol for long messages or the one for short ones. What goes round
        inside nodes and between them goes on at the same time, in pieces.
        """
        up, out = self.cluster.hardware.scale_up, self.cluster.scale_out
        long, short = (
            base
            + hops * a
            + far_hops * b
            + np.maximum(
                near / (up.bytes_per_second * up.share * up_share),
                far / (out.bytes_per_second * out.share * out_share),
            )
            for base, a, b, up_share, out_share in (
                (up.base_seconds, up.seconds, out.seconds, 1.0, 1.0),
                (up.base_seconds, up.quick_seconds if hops else 0.0,
                 out.quick_seconds if far_hops else 0.0, up.quick_share, out.quick_share),
            )
        )  # fmt: skip
        return np.minimum(long, short)
