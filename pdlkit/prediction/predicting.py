"""What a program that was counted here would take on devices that are not here."""

import dataclasses
import math

from pdlkit.errors import check_kind, lesson
from pdlkit.prediction.clusters import Cluster
from pdlkit.records import Collective, Event, Report
from pdlkit.timings import Portrayed
from pdlkit.units import write_seconds


@dataclasses.dataclass(frozen=True, repr=False)
class Prediction(Portrayed):
    """Modelled: one step of a program on a cluster, from what was counted of it."""

    report: Report
    cluster: Cluster
    compute_seconds: float
    messages: tuple[tuple[Collective, float], ...]  # with the seconds of all its times
    dtype: str  # of its products

    def __repr__(self) -> str:
        parts = (self.seconds, self.compute_seconds, self.communication_seconds)
        whole, compute, messages = map(write_seconds, parts)
        return f"<modelled: {whole} a step, {compute} of them compute and {messages} messages>"

    @property
    def communication_seconds(self) -> float:
        """Of all messages, one after the other."""
        return sum(seconds for _, seconds in self.messages)

    @property
    def seconds(self) -> float:
        """Of a step in which nothing is done at the same time."""
        return self.compute_seconds + self.communication_seconds

    @property
    def fastest(self) -> float:
        """Of a step in which messages and arithmetic hide each other as well as can be."""
        return max(self.compute_seconds, self.communication_seconds)

    @property
    def fits(self) -> bool:
        """Whether what one device holds fits into its memory."""
        hardware = self.cluster.hardware
        return self.report.memory.total + hardware.reserved_bytes <= hardware.memory_bytes

    @property
    def events(self) -> tuple[Event, ...]:
        """What a device does, one after the other; the program's own order is not known."""
        events, now = [Event(0, 0.0, self.compute_seconds, "compute")], self.compute_seconds
        for message, seconds in self.messages:
            label = " ".join(message.axes)
            events.append(Event(0, now, now + seconds, message.kind, label))
            now += seconds
        return tuple(events)


def predict(report: Report, cluster: Cluster, *, dtype: str | None = None) -> Prediction:
    """Return how long a step of a program would take on a cluster.

    What the host needs to start its programs, so much for each of its compiled operations, its
    arithmetic at the share of the peak that large products reach, and what it reads and
    writes at the speed of the memory; and its messages, each as its kind and group
    cost there. Another device's compiler may fuse more, or less.

    Args:
        report: of `pdl.inspect`, for a mesh of as many devices.
        cluster: of `pdl.cluster`.
        dtype: in which products are computed; None: as JAX does by default, bf16 on a
            TPU and tf32 on a GPU that has it.

    Raises:
        ValueError: the mesh has another number of devices, or the sheet no such dtype.
    """
    check_kind("report", report, Report, "pdl.inspect(program, work)")
    check_kind("cluster", cluster, Cluster, "pdl.cluster(pdl.hardware.h100, devices=8)")
    devices = math.prod(report.mesh.values())
    if devices != cluster.devices:
        sizes = ", ".join(f"{name}={size}" for name, size in report.mesh.items())
        raise ValueError(
            lesson(
                f"the program was counted on {sizes}, {devices} devices, but the cluster has "
                f"{cluster.devices}.",
                why="what a device computes and sends depends on how many there are.",
                fix=f"pdl.inspect(program, work, mesh=...) of {cluster.devices} devices, or a "
                f"cluster of {devices}.",
            )
        )
    hardware = cluster.hardware
    dtype = dtype or _default(cluster)
    arithmetic = report.flops / (hardware.peak(dtype) * hardware.matmul_share)
    memory = hardware.stream_seconds(report.bytes_accessed, report.operations)
    compute = report.programs * hardware.host_seconds + arithmetic + memory
    sent = tuple((each, _seconds(each, report, cluster)) for each in report.collectives)
    return Prediction(report, cluster, compute, sent, dtype)


def _default(cluster: Cluster) -> str:
    flops = cluster.hardware.flops
    wanted = ("bf16", "fp16") if cluster.hardware.torus else ("tf32", "fp32", "bf16", "fp16")
    return next((each for each in wanted if each in flops), next(iter(flops)))


def _seconds(message: Collective, report: Report, cluster: Cluster) -> float:
    """Return the seconds of all times of a message."""
    axes = list(report.mesh)
    last = max((axes.index(axis) for axis in message.axes if axis in axes), default=len(axes) - 1)
    stride = math.prod(list(report.mesh.values())[last + 1 :])
    cost = cluster.costs(message.group, stride)
    whole = message.payload_bytes * (message.group if message.kind == "all_gather" else 1)
    kinds = {
        "all_reduce": cost.all_reduce,
        "all_gather": cost.all_gather,
        "reduce_scatter": cost.reduce_scatter,
        "all_to_all": cost.all_to_all,
    }
    return message.times * float(kinds.get(message.kind, cost.send)(whole))
