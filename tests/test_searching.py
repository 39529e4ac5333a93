"""The search of plans: all of them, none twice, and what it says of the best."""

import math

import pytest

import pdlkit as pdl
from pdlkit.prediction.plans import Plans, divides
from pdlkit.prediction.spaces import space

A100 = pdl.hardware.a100_80g
SMALL = pdl.LLM(6, 512, 8, 8192, 1024, tied=True, name="small")
MIXED = pdl.LLM(4, 512, 8, 8192, 1024, experts=4, top_k=2, name="mixed")
SIXTEEN = pdl.cluster(A100, devices=16)


def by_hand(llm, devices: int, batch: int):
    """Return every plan of the rule that can be estimated, by trying all numbers there are."""
    numbers = range(1, devices + 1)
    plans = set()
    for data in numbers:
        for tensor in numbers:
            for pipeline in numbers:
                context = devices // (data * tensor * pipeline)
                if context * data * tensor * pipeline != devices or batch % data:
                    continue
                for expert in range(1, llm.experts + 1):
                    for micro in range(1, batch // data + 1):
                        for virtual in range(1, llm.layers + 1):
                            ways = (data, tensor, pipeline, context, expert, micro, virtual)
                            plans |= set(kinds(*ways))
    return {plan for plan in plans if plan.data % plan.expert == 0 and estimable(llm, plan, batch)}


def kinds(*ways):
    data, tensor, *_ = ways
    for recompute in ("none", "selective", "full"):
        for zero in range(4 if data > 1 else 1):
            for sequence_parallel in (False, True)[: 1 + (tensor > 1)]:
                yield pdl.Plan(
                    *ways,
                    sequence_parallel=sequence_parallel,
                    recompute=recompute,
                    zero=zero,
                    flash=False,
                )


def estimable(llm, plan, batch: int) -> bool:
    cluster = pdl.cluster(A100, devices=plan.devices)
    return all(fits[0] for fits in divides(llm, Plans.of(plan, cluster), batch).values())


@pytest.mark.parametrize(
    ("llm", "devices", "batch"), [(SMALL, 8, 12), (MIXED, 8, 8), (SMALL, 1, 4)]
)
def test_the_space_is_all_of_it_and_none_twice(llm, devices, batch):
    """The rule gives the plans that trying all numbers gives, each once."""
    plans, uneven = space(llm, pdl.cluster(A100, devices=devices), batch)
    found = [plans.plan(i) for i in range(len(plans.data))]
    assert len(found) == len(set(found))
    assert set(found) == by_hand(llm, devices, batch)
    assert uneven > 0 or devices == 1


def test_the_best_is_the_best():
    """Ranked by seconds; none of the space that fits is faster than the first."""
    found = pdl.search(SMALL, SIXTEEN, batch=32, top=5)
    plans, uneven = space(SMALL, SIXTEEN, 32)
    each = [pdl.estimate(SMALL, plans.plan(i), SIXTEEN, batch=32) for i in range(len(plans.data))]
    fitting = sorted((e for e in each if e.fits), key=lambda e: (e.seconds, e.memory))
    assert [e.plan for e in found.best] == [e.plan for e in fitting[:5]]
    assert (found.evaluated, found.fitting, found.uneven) == (len(each), len(fitting), uneven)
    assert found.plan == found.best[0].plan


def test_the_front_is_what_nobody_betters():
    """Of the front each is better than any other plan in seconds or in memory."""
    found = pdl.search(pdl.llms.megatron_7_5b, pdl.cluster(A100, devices=64), batch=128)
    front = [(e.seconds, e.memory) for e in found.pareto]
    assert front == sorted(front)
    assert [b for _, b in front] == sorted((b for _, b in front), reverse=True)
    assert all(e.fits for e in found.pareto)
    assert found.pareto[0].seconds == found.best[0].seconds


def test_clusters_are_compared():
    """Of two clusters the faster comes first, and the front shows what the cheaper saves."""
    clusters = [pdl.cluster(device, devices=64) for device in (A100, pdl.hardware.h100)]
    found = pdl.search(pdl.llms.megatron_7_5b, clusters, batch=128)
    assert found.best[0].cluster is clusters[1]
    assert {each.cluster.hardware.name for each in found.pareto} <= {
        each.hardware.name for each in clusters
    }
    alone = sum(pdl.search(pdl.llms.megatron_7_5b, c, batch=128).evaluated for c in clusters)
    assert found.evaluated == alone


def test_the_whole_space_of_gpt3_is_searched():
    """175e9 parameters on 1,024 A100: every plan, the counts stated, the best one sound."""
    found = pdl.search(pdl.llms.gpt3_175b, pdl.cluster(A100, devices=1024), batch=1536)
    assert found.evaluated + found.uneven > 300_000
    assert 0 < found.fitting < found.evaluated
    best = found.best[0]
    assert 0.4 < best.mfu < 0.65
    assert best.plan.devices == 1024
    assert 2 <= best.plan.tensor <= 8
    assert "The runner-up" in found.why
    assert "Train it by: " in found.advice
    assert "Weights, gradients and Adam's state are 3143 GB" in found.advice
    title = pdl.show(found).title
    assert title.startswith(f"{found.evaluated:,} plans, of which {found.fitting:,} fit; the fast")


def test_where_nothing_fits_it_says_what_is_missing():
    """A model that is too large leaves no plan, and the smallest need is named."""
    found = pdl.search(pdl.llms.megatron_1t, pdl.cluster(A100, devices=8), batch=8)
    assert found.best == ()
    assert found.fitting == 0 < found.evaluated
    words = r"(?s)^no plan for .*megatron_1t.* fits: the smallest needs .* GB a device, of 85.1"
    assert found.advice.startswith("no plan for <megatron_1t")
    with pytest.raises(ValueError, match=words + r".*optimizer, .*\n  try: more"):
        _ = found.plan
    assert "none" in pdl.show(found).title
    assert found.why == "There is no runner-up."


def test_a_search_of_nothing_is_refused():
    """No cluster, no batch, or a batch that no plan divides."""
    with pytest.raises(ValueError, match=r"^there is nothing to search with 0 clusters"):
        pdl.search(SMALL, [], batch=8)
    with pytest.raises(ValueError, match=r"batch=0 and top=10\."):
        pdl.search(SMALL, SIXTEEN, batch=0)
    prime = pdl.LLM(7, 512, 8, 8192, 1021)
    odd = pdl.search(prime, pdl.cluster(A100, devices=32), batch=3)
    assert odd.nearest is None
    assert "cut something unevenly" in odd.advice


def test_a_device_without_a_price_has_no_dollars():
    """Without a price the front is of seconds and bytes alone."""
    found = pdl.search(SMALL, pdl.cluster(pdl.hardware.tpu_v3, devices=8), batch=16)
    assert math.isnan(found.best[0].dollars(1e9))
    assert found.pareto[0].plan == found.best[0].plan
