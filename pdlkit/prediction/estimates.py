"""How long a step of a large transformer takes, and what limits it."""

import dataclasses
import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from pdlkit.prediction import layers, memory
from pdlkit.prediction.clusters import Cluster
from pdlkit.prediction.hardware import Hardware
from pdlkit.prediction.language_models import LLM, RECOMPUTE
from pdlkit.prediction.layers import Pass
from pdlkit.prediction.messages import Messages, messages
from pdlkit.prediction.plans import Plan, Plans, check
from pdlkit.timings import Portrayed
from pdlkit.units import write_bytes, write_seconds


@dataclasses.dataclass(frozen=True, repr=False)
class Estimate(Portrayed):
    """Modelled: one step of a training by one plan."""

    llm: LLM
    plan: Plan
    cluster: Cluster
    batch: int  # sequences
    breakdown: Mapping[str, float]  # seconds, by what the device does or waits for
    memory_parts: Mapping[str, float]  # bytes of the fullest device, by what they are

    def __repr__(self) -> str:
        held, has = write_bytes(self.memory), write_bytes(self.cluster.hardware.memory_bytes)
        return (
            f"<modelled: {write_seconds(self.seconds)} a step at {self.mfu:.0%} of the peak, "
            f"{held} of {has} a device, {self.llm.name or 'LLM'} by {self.plan}>"
        )

    @property
    def seconds(self) -> float:
        """Of one step."""
        return sum(self.breakdown.values())

    @property
    def memory(self) -> float:
        """Bytes that the fullest device holds, what is reserved included."""
        return sum(self.memory_parts.values())

    @property
    def fits(self) -> bool:
        """Whether that is no more than it has."""
        return self.memory <= self.cluster.hardware.memory_bytes

    @property
    def largest(self) -> str:
        """The largest part of the memory: what to cut where it does not fit."""
        return max(self.memory_parts, key=lambda part: self.memory_parts[part])

    @property
    def mfu(self) -> float:
        """The share of the peak that is spent on what the model asks for.

        By custom of scores in full, of which a fused kernel computes half: with long
        sequences it is more than the device does.

        Source: Chowdhery et al. 2022, appendix B, https://arxiv.org/abs/2204.02311
        """
        return self.llm.model_flops(self.batch) / self._peak

    @property
    def hfu(self) -> float:
        """The share of the peak that is spent, rematerialisation included."""
        flash = self.plan.flash
        fused = self.cluster.hardware.fused_attention if flash is None else flash
        # A fused kernel never wrote the scores that would be computed anew.
        again = "none" if fused and self.plan.recompute == "selective" else self.plan.recompute
        return self.llm.hardware_flops(self.batch, again) / self._peak

    @property
    def tokens_per_second(self) -> float:
        """Of all devices."""
        return self.batch * self.llm.sequence / self.seconds

    def days(self, tokens: float) -> float:
        """Return how many days so many tokens take."""
        return tokens / self.tokens_per_second / 86400

    def kilowatt_hours(self, tokens: float) -> float:
        """Return the energy of so many tokens, by the sheet's power; NaN without."""
        watts = self.cluster.hardware.watts * self.cluster.devices
        return self.days(tokens) * 24 * watts / 1000

    def dollars(self, tokens: float) -> float:
        """Return the cost of so many tokens, at the price of the sheet; NaN without one."""
        price = self.cluster.hardware.price
        rate = price.dollars_per_hour if price else math.nan
        return self.days(tokens) * 24 * self.cluster.devices * rate

    @property
    def _peak(self) -> float:
        return self.seconds * self.cluster.devices * self.cluster.hardware.peak("bf16")


def estimate(llm: LLM, plan: Plan, cluster: Cluster, *, batch: int) -> Estimate:
    """Return how long a step takes, and what one device holds for it.

    From the sizes of the operations and messages, and the figures of the device's
    sheet; nothing is fitted to published trainings.

    Args:
        llm: what is trained; of `pdl.llms`, or your own sizes.
        plan: how it is cut.
        cluster: on what.
        batch: sequences of one step, on all devices.

    Raises:
        ValueError: a plan that does not multiply out to the devices, or does not divide
            layers, heads, experts or batch.
    """
    check(llm, plan, cluster, batch)
    found = evaluate(llm, Plans.of(plan, cluster), cluster, batch)
    return Estimate(
        llm,
        plan,
        cluster,
        batch,
        {name: float(each[0]) for name, each in found.breakdown.items()},
        {name: float(each[0]) for name, each in found.memory.items()},
    )


class Evaluated(NamedTuple):
    """What many plans cost: [plans] of seconds and of bytes, by part."""

    breakdown: dict[str, np.ndarray]
    memory: dict[str, np.ndarray]

    @property
    def seconds(self) -> np.ndarray:
        """Of a step."""
        return np.sum(list(self.breakdown.values()), axis=0)

    @property
    def bytes(self) -> np.ndarray:
        """Of the fullest device."""
        return np.sum(list(self.memory.values()), axis=0)


def evaluate(llm: LLM, plans: Plans, cluster: Cluster, batch: int) -> Evaluated:
    """Return what plans that divide everything cost, many at once."""
    hardware = cluster.hardware
    microbatches = batch // (plans.data * plans.micro_batch)
    parameters = memory.device_parameters(llm, plans)
    held = memory.parts(llm, plans, batch)
    held["fragmentation"] = hardware.fragmentation_share * np.sum(list(held.values()), axis=0)
    held["reserved"] = np.full(len(plans.data), hardware.reserved_bytes)
    sent = messages(llm, plans, cluster, parameters)
    layer, end = layers.passes(llm, plans, hardware)
    depth = plans.depth(llm)

    hides = _Hides(plans.overlap, hardware.message_share)
    slow = 1 + hardware.spread * slowest_of(cluster.devices)
    each = _layer(plans, hardware, layer, sent, slow)
    pace = sum(each.values())
    # The steady state goes at the pace of the last stage, which has the logits to do, or,
    # where that has a layer fewer, of the fullest.
    last = np.maximum(0.0, (end.forward + end.backward) * slow - pace * plans.lighter(llm))
    spent = {part: microbatches * depth * seconds for part, seconds in each.items()}
    spent["compute"] += microbatches * last
    spent["pipeline"] = _hops(plans, microbatches) * sent.hop
    spent["bubble"] = (plans.pipeline - 1) / plans.virtual_stages * depth * pace
    backward = depth * (layer.backward + layer.again)
    spent["data"] += sent.copies + hides(sent.reduce, backward, at_least=1 / depth)
    # Gradients in float32 are read for their norm, scaled, read again and set to zero; weights
    # and two moments are read and written, and halves of the weights written.
    update = (4 + 8 + 4 + 4 + 3 * 8 + 2) * parameters.shares(plans, 1)
    spent["optimizer"] = hardware.stream_seconds(update, 4)
    return Evaluated(spent, held)


def _layer(plans: Plans, hardware: Hardware, layer: Pass, sent: Messages, slow: float):
    """Return the seconds of one micro-batch in one layer, all passes, by part."""
    hides = _Hides(plans.overlap, hardware.message_share)
    again = plans.recompute == RECOMPUTE.index("full")
    passes = 2 + again  # forward, backward, and forward again
    tensor = passes * sent.tensor
    if hardware.splits_sums:
        alone = 1 / plans.tensor  # the first or the last of its hops
        tensor = (1 + again) * hides(sent.tensor, layer.forward, at_least=alone)
        tensor = tensor + hides(sent.tensor, layer.backward, at_least=alone)
    spent = {
        "compute": (layer.forward + layer.backward + layer.again) * slow,
        "tensor": tensor,
        "context": hides(sent.context, layer.forward) * (1 + again)
        + hides(2 * sent.context, layer.backward),
        "expert": passes * sent.expert,
        "data": hides(sent.gather, layer.forward)
        + hides(sent.gather + sent.scatter, layer.backward + layer.again),
    }
    # The host starts one operation after the other, ahead of the device if it can.
    started = layer.operations + 2 * passes * (plans.tensor > 1)
    spent["launch"] = np.maximum(0.0, hardware.host_seconds * started - sum(spent.values()))
    return spent


def slowest_of(devices: int) -> float:
    """Return by how many standard deviations the slowest of so many is slower.

    Source: Blom 1958, "Statistical Estimates and Transformed Beta-Variables"
    """
    return NormalDist().inv_cdf((devices - 0.375) / (devices + 0.25)) if devices > 1 else 0.0


class _Hides(NamedTuple):
    """What messages cost that go on beside arithmetic."""

    overlap: np.ndarray  # [plans], whether they may
    message_share: float

    def __call__(self, sent, behind, at_least: Any = 0.0):
        """Return the seconds that messages add to the arithmetic beside them.

        Args:
            sent: [plans], seconds of the messages alone.
            behind: [plans], seconds of the arithmetic.
            at_least: the share of the messages that nothing can hide.
        """
        hidden = np.minimum(sent * (1 - at_least), behind)
        return np.where(self.overlap, sent - hidden * (1 - self.message_share), sent)


def _hops(plans: Plans, microbatches):
    """Return for how many messages between stages a step waits.

    Of 1F1B what `play` finds where stages divide micro-batches; interleaved, the closed
    form of Qi et al. 2023, whose steady state waits for none.
    """
    p, v = plans.pipeline, plans.virtual_stages
    plain = 2 * (p - 1) * microbatches / p + 2 * np.maximum(p - 2, 0)
    interleaved = 2 * (v * p - 1) - p + np.where(plans.overlap, 0, 2 * v * microbatches)
    return np.where(p == 1, 0, np.where(v > 1, interleaved, plain))
