"""How a training is spread, in figures; many plans at once are arrays of them."""

import dataclasses
from typing import NamedTuple

import numpy as np

from pdlkit.errors import check_kind, is_count, lesson, nearest
from pdlkit.prediction.clusters import Cluster
from pdlkit.prediction.language_models import LLM, RECOMPUTE


@dataclasses.dataclass(frozen=True)
class Plan:
    """Ways to cut a training, each a number of devices, and what goes with them.

    Devices are counted tensor first, then context, data and pipeline: the ways that
    talk most lie nearest. Experts lie along the data ways.

    Args:
        data: ways of the batch.
        tensor: ways of each layer.
        pipeline: stages.
        context: ways of the sequence, for ring attention.
        expert: ways of the experts, among the data ways.
        micro_batch: sequences of one data way that go through the layers together.
        virtual_stages: chunks of each stage: interleaved 1F1B.
        sequence_parallel: what tensor parallelism does not cut, cut by tokens.
        recompute: "none", "selective" (the attention's scores) or "full" (each layer).
        zero: what the data ways share: 1 the optimizer's state, 2 gradients too, at each
            micro-batch, 3 weights too.
        shard: among how many data ways they share it; None: all.
        overlap: messages with arithmetic, where there is something to overlap.
        flash: scores in a fused kernel; None: as users of the device have it.
        uneven: chunks of stages may differ by a layer, the first and the last having
            fewer.

    Raises:
        ValueError: something that is no count of ways, or is not known.
    """

    data: int = 1
    tensor: int = 1
    pipeline: int = 1
    context: int = 1
    expert: int = 1
    micro_batch: int = 1
    virtual_stages: int = 1
    sequence_parallel: bool = False
    recompute: str = "none"
    zero: int = 0
    shard: int | None = None
    overlap: bool = True
    flash: bool | None = None
    uneven: bool = False

    def __post_init__(self):
        counted = [f.name for f in dataclasses.fields(self)][:7]
        for name in counted:
            count = getattr(self, name)
            if not is_count(count):
                raise ValueError(
                    lesson(
                        f"{name}={count!r} is no number of ways, stages or sequences.",
                        why="devices, stages and sequences are counted, and one is the fewest.",
                        fix=f"{name}=1, which means that nothing is cut that way.",
                    )
                )
        if self.recompute not in RECOMPUTE:
            raise ValueError(
                lesson(
                    f"recompute={self.recompute!r} is not known.",
                    why="activations are kept, computed anew around the scores, or all anew.",
                    fix=f"{nearest(str(self.recompute), RECOMPUTE)}.",
                )
            )
        shard = self.data if self.shard is None else self.shard
        whole = is_count(shard) and hasattr(self.zero, "__index__")
        if not whole or self.zero not in range(4) or self.data % shard:
            raise ValueError(
                lesson(
                    f"zero={self.zero!r} with shard={self.shard!r} of {self.data} data ways cannot "
                    "be.",
                    why="there are stages 0 to 3, and equal groups of data ways share a copy.",
                    fix="zero=3, shard=None: all data ways share one copy.",
                )
            )

    @property
    def devices(self) -> int:
        """How many it is for."""
        return self.data * self.tensor * self.pipeline * self.context

    def __str__(self) -> str:
        """Return what differs from one device: data 8, tensor 4, full rematerialisation."""
        ways = ("data", "tensor", "pipeline", "context", "expert", "micro_batch", "virtual_stages")
        words = [f"{n.replace('_', ' ')} {v}" for n in ways if (v := getattr(self, n)) > 1]
        if self.uneven:
            words.append("uneven stages")
        if self.sequence_parallel:
            words.append("sequence parallel")
        if self.recompute != "none":
            words.append(f"{self.recompute} rematerialisation")
        if self.zero:
            words.append(f"ZeRO {self.zero}" + (f" of {self.shard}" if self.shard else ""))
        return ", ".join(words) or "one device"


class Plans(NamedTuple):
    """Many plans: the fields of `Plan`, each an array of [plans]."""

    data: np.ndarray
    tensor: np.ndarray
    pipeline: np.ndarray
    context: np.ndarray
    expert: np.ndarray
    micro_batch: np.ndarray
    virtual_stages: np.ndarray
    sequence_parallel: np.ndarray
    recompute: np.ndarray  # index into RECOMPUTE
    zero: np.ndarray
    shard: np.ndarray
    overlap: np.ndarray
    flash: np.ndarray
    uneven: np.ndarray

    @classmethod
    def of(cls, plan: Plan, cluster: Cluster) -> "Plans":
        """Return a plan as arrays of one."""
        values = dataclasses.asdict(plan)
        values["recompute"] = RECOMPUTE.index(plan.recompute)
        values["shard"] = plan.shard or plan.data
        if plan.flash is None:
            values["flash"] = cluster.hardware.fused_attention
        return cls(**{name: np.array([value]) for name, value in values.items()})

    def plan(self, i: int) -> Plan:
        """Return one of them."""
        values = {name: each[i].item() for name, each in zip(self._fields, self, strict=True)}
        values["recompute"] = RECOMPUTE[values["recompute"]]
        values["shard"] = None if values["shard"] == values["data"] else values["shard"]
        return Plan(**values)

    def depth(self, llm: LLM) -> np.ndarray:
        """Return [plans] of the layers of the fullest stage."""
        return self.virtual_stages * -(-llm.layers // (self.pipeline * self.virtual_stages))

    def lighter(self, llm: LLM) -> np.ndarray:
        """Return [plans], whether the first and last stage have a layer fewer."""
        return llm.layers % (self.pipeline * self.virtual_stages) > 0

    def take(self, chosen) -> "Plans":
        """Return some of them."""
        return Plans(*(each[chosen] for each in self))


def divides(llm: LLM, plans: Plans, batch: int) -> dict[str, np.ndarray]:
    """Return which plans cut a model and its batch evenly: [plans], by what is cut.

    What is cut names the ways in braces, as a format string does.
    """
    stages = plans.pipeline * plans.virtual_stages
    each = plans.data * plans.micro_batch
    return {
        f"{llm.layers} layers over pipeline {{pipeline}} x virtual stages {{virtual_stages}}": (
            llm.layers % stages == 0
        )
        | (plans.uneven & (llm.layers > stages)),
        f"{llm.heads} heads, {llm.kv_heads} of keys, over tensor {{tensor}}": (
            llm.heads % plans.tensor == 0
        )
        & (np.maximum(plans.tensor, llm.kv_heads) % np.minimum(plans.tensor, llm.kv_heads) == 0),
        f"a width of {llm.ffn} over tensor {{tensor}}": llm.ffn % plans.tensor == 0,
        f"sequences of {llm.sequence} over context {{context}} x tensor {{tensor}}": llm.sequence
        % (plans.context * np.where(plans.sequence_parallel, plans.tensor, 1))
        == 0,
        f"{llm.experts} experts over expert {{expert}}": llm.experts % plans.expert == 0,
        "data {data} over expert {expert}": plans.data % plans.expert == 0,
        f"a batch of {batch} over data {{data}} x micro-batch {{micro_batch}}": batch % each == 0,
        "micro-batches over pipeline {pipeline}, as interleaving needs": (plans.virtual_stages == 1)
        | ((batch // each) % plans.pipeline == 0),
        "virtual stages {virtual_stages}, which need a pipeline": (plans.virtual_stages == 1)
        | (plans.pipeline > 1),
    }


def check(llm: LLM, plan: Plan, cluster: Cluster, batch: int) -> None:
    """Raise if a plan is for other devices, or cuts something unevenly.

    Raises:
        ValueError: the first thing that does not divide, with both numbers.
    """
    check_kind("llm", llm, LLM, "pdl.llms.llama2_7b")
    check_kind("plan", plan, Plan, "pdl.Plan(data=8)")
    check_kind("cluster", cluster, Cluster, "pdl.cluster(pdl.hardware.h100, devices=8)")
    if plan.devices != cluster.devices:
        ways = f"{plan.data} x {plan.tensor} x {plan.pipeline} x {plan.context}"
        raise ValueError(
            lesson(
                f"data x tensor x pipeline x context is {ways} = {plan.devices}, but there are "
                f"{cluster.devices} devices.",
                why="each device has one place in each of these ways.",
                fix=f"ways whose product is {cluster.devices}, or a cluster of {plan.devices}.",
            )
        )
    if not is_count(batch):
        raise ValueError(
            lesson(
                f"batch={batch!r} is no number of sequences.",
                why="a step learns from whole sequences.",
                fix=f"batch={plan.data * plan.micro_batch}, one micro-batch for each data way.",
            )
        )
    for what, fits in divides(llm, Plans.of(plan, cluster), batch).items():
        if not fits[0]:
            raise ValueError(
                lesson(
                    f"{plan} does not divide {what.format(**dataclasses.asdict(plan))}.",
                    why="each device has an equal share of what is cut.",
                    fix="ways that divide it; pdl.search tries all that do"
                    + (
                        ", and uneven=True allows a layer more or less." * ("layers" in what) or "."
                    ),
                )
            )
