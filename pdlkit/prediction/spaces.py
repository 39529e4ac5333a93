"""Every plan that there is for a model on a cluster, each once."""

import itertools
from collections.abc import Iterator

import numpy as np

from pdlkit.prediction.clusters import Cluster
from pdlkit.prediction.language_models import LLM, RECOMPUTE
from pdlkit.prediction.plans import Plans, divides

RULE = (
    "data x tensor x pipeline x context is all devices; micro-batches divide what the batch "
    "leaves a data way, virtual stages the layers of a stage, expert ways experts and data; "
    "three levels of rematerialisation, or two where attention is fused; ZeRO 0 to 3 where "
    "there is more than one data way; "
    "sequence parallel or not where there is more than one tensor way"
)


def space(
    llm: LLM, cluster: Cluster, batch: int, *, flash: bool | None = None
) -> tuple[Plans, int]:
    """Return all plans that cut everything evenly, and how many do not."""
    fused = cluster.hardware.fused_attention if flash is None else flash
    # Scores that are never written need not be computed anew: then that is no other plan.
    levels = [i for i, level in enumerate(RECOMPUTE) if not (fused and level == "selective")]
    found = list(_rows(llm, cluster.devices, batch, levels))
    rows = np.array(found, dtype=int).reshape(-1, 10)
    columns = rows.T
    names = (
        *("data", "tensor", "pipeline", "context", "expert", "micro_batch", "virtual_stages"),
        *("sequence_parallel", "recompute", "zero"),
    )
    fields = dict(zip(names, columns, strict=True))
    fields["sequence_parallel"] = fields["sequence_parallel"].astype(bool)
    count = len(rows)
    plans = Plans(
        **fields,
        shard=fields["data"],
        overlap=np.ones(count, bool),
        flash=np.full(count, fused),
        uneven=np.zeros(count, bool),
    )
    even = np.all(list(divides(llm, plans, batch).values()), axis=0)
    return plans.take(even), int(count - even.sum())


def _rows(llm: LLM, devices: int, batch: int, levels: list[int]) -> Iterator[tuple[int, ...]]:
    for data, tensor, pipeline in itertools.product(_divisors(devices), repeat=3):
        if devices % (data * tensor * pipeline):
            continue
        context = devices // (data * tensor * pipeline)
        # What cannot be divided further stands in the space once, as uneven.
        micro = _divisors(batch // data) if batch % data == 0 else [1]
        deep = pipeline > 1 and llm.layers % pipeline == 0
        virtual = _divisors(llm.layers // pipeline) if deep else [1]
        expert = [e for e in _divisors(llm.experts) if data % e == 0]
        yield from itertools.product(
            (data,),
            (tensor,),
            (pipeline,),
            (context,),
            expert,
            micro,
            virtual,
            (0, 1) if tensor > 1 else (0,),
            levels,
            range(4) if data > 1 else (0,),
        )


def _divisors(n: int) -> list[int]:
    return [k for k in range(1, n + 1) if n % k == 0]
