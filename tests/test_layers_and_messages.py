"""What an estimate adds up: operations of a layer, bytes of each message, parts of the memory."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pdlkit as pdl
from pdlkit.prediction import layers, memory
from pdlkit.prediction.clusters import Cluster
from pdlkit.prediction.hardware import Hardware, Link
from pdlkit.prediction.messages import messages
from pdlkit.prediction.plans import Plans

few = settings(max_examples=10, deadline=None)
NEAR, FAR = 100e9, 10e9  # bytes in a second
FAR_LINK = Link(FAR, 1.0, 0.0)
IDEAL = Hardware(  # computes at its peak, sends at its bandwidth, and remembers at once
    name="ideal",
    flops={"bf16": 1e12},
    memory_bytes=1e12,
    bytes_per_second=1e30,
    scale_up=Link(NEAR, 1.0, 0.0),
    scale_out=FAR_LINK,
    matmul_share=1.0,
    attention_share=1.0,
    stream_share=1.0,
    operation_seconds=0.0,
)
PLAIN = pdl.LLM(4, 512, 8, 4096, 256, tied=True)
GATED = pdl.LLM(4, 512, 8, 4096, 256, ffn=1024, kv_heads=2, gated=True)
MIXED = pdl.LLM(4, 512, 8, 4096, 256, experts=4, top_k=2)
MODELS = {"plain": PLAIN, "gated": GATED, "mixed": MIXED}


def made(plan: pdl.Plan, node: int = 8) -> tuple[Plans, Cluster]:
    cluster = Cluster(IDEAL, plan.devices, node, IDEAL.scale_out)
    return Plans.of(plan, cluster), cluster


def layer_operations(llm, batch: int) -> float:
    """Return those of one layer's forward pass, by the model's own count."""
    logits = 2 * batch * llm.sequence * llm.hidden * llm.vocabulary
    return (llm.model_flops(batch) / 3 - logits) / llm.layers


@pytest.mark.parametrize("name", MODELS)
@few
@given(batch=st.integers(1, 8), tensor=st.sampled_from([1, 2, 4]))
def test_a_layer_does_the_operations_of_the_model(name, batch, tensor):
    """On an ideal device a layer takes its operations over the peak; backward twice that."""
    llm = MODELS[name]
    plan = pdl.Plan(tensor=tensor, micro_batch=batch, flash=False, recompute="full")
    layer, logits = layers.passes(llm, made(plan)[0], IDEAL)
    router = 2 * batch * llm.sequence * llm.hidden * llm.experts * (llm.experts > 1)
    shared = 1 / min(tensor, llm.kv_heads) - 1 / tensor  # heads of keys that several have
    keys = 2 * batch * llm.sequence * llm.hidden * 2 * llm.kv_width * shared
    forward = layer_operations(llm, batch) / tensor + router + keys
    assert layer.forward[0] * 1e12 == pytest.approx(forward)
    assert layer.backward[0] * 1e12 == pytest.approx(2 * forward)
    assert layer.again[0] == layer.forward[0]
    words = 2 * batch * llm.sequence * llm.hidden * llm.vocabulary / tensor
    assert logits.forward[0] * 1e12 == pytest.approx(words)
    assert logits.backward[0] * 1e12 == pytest.approx(2 * words)


@pytest.mark.parametrize("name", MODELS)
def test_fused_attention_skips_what_is_masked(name):
    """A fused kernel does half of the scores, and five products of that size going back."""
    llm = MODELS[name]
    apart, fused = (
        layers.passes(llm, made(pdl.Plan(flash=flash))[0], IDEAL)[0] for flash in (False, True)
    )
    scores = 4 * llm.sequence**2 * llm.attention_width
    assert (apart.forward - fused.forward)[0] * 1e12 == pytest.approx(scores / 2)
    assert (apart.backward - fused.backward)[0] * 1e12 == pytest.approx(
        2 * scores - 2.5 * scores / 2
    )
    selective = pdl.Plan(flash=False, recompute="selective")
    again = layers.passes(llm, made(selective)[0], IDEAL)[0].again
    assert again[0] * 1e12 == pytest.approx(scores)


def sent(llm, node: int = 64, **plan):
    """Return the messages of a plan, and the parameters of a device."""
    plans, cluster = made(pdl.Plan(**plan), node)
    parameters = memory.device_parameters(llm, plans)
    return messages(llm, plans, cluster, parameters), parameters.total[0]


def test_each_message_has_the_bytes_of_the_papers():
    """Bytes of a ring over the bandwidth: 4 (t - 1)/t bsh elements forward in a layer, and so on.

    Source: the volumes that each strategy of this course counts; Narayanan et al. 2021,
    section 3.2, https://arxiv.org/abs/2104.04473
    """
    tokens, h = 2 * 256, 512
    found, _ = sent(PLAIN, tensor=4, micro_batch=2)
    assert found.tensor[0] == pytest.approx(4 * 3 / 4 * tokens * h * 2 / NEAR)
    found, _ = sent(GATED, context=4, micro_batch=2)
    assert found.context[0] == pytest.approx(3 * 2 * tokens / 4 * GATED.kv_width * 2 / NEAR)
    found, _ = sent(MIXED, data=4, expert=4, micro_batch=2)
    assert found.expert[0] == pytest.approx(2 * 3 / 4 * tokens * h * 2 * 2 / NEAR)
    found, _ = sent(PLAIN, pipeline=4, tensor=2, micro_batch=2)
    assert found.hop[0] == pytest.approx(tokens * h * 2 / 2 / NEAR)


def test_gradients_and_weights_have_theirs():
    """Sums of gradients in float32, gathers of weights in half of that; ZeRO 3 layer by layer."""
    for zero, whole in {0: 2 * 4, 1: 4 + 2, 2: 2, 3: 0}.items():
        found, parameters = sent(PLAIN, data=8, zero=zero)
        assert found.reduce[0] == pytest.approx(7 / 8 * whole * parameters / NEAR), zero
        each = 7 / 8 * parameters / PLAIN.layers / NEAR
        assert found.gather[0] == pytest.approx(2 * each * (zero == 3)), zero
        assert found.scatter[0] == pytest.approx(4 * each * (zero >= 2)), zero
    found, parameters = sent(PLAIN, data=8, zero=3, shard=4)
    assert found.copies[0] == pytest.approx(2 * 1 / 2 * 4 * parameters / 4 / NEAR)


def test_ways_lie_from_tensor_to_pipeline():
    """In nodes of four tensor and context ways stay inside; in nodes of eight data ways, too."""
    ways = {"tensor": 2, "context": 2, "data": 2, "pipeline": 2}
    near, _ = sent(PLAIN, node=64, **ways)
    apart, _ = sent(PLAIN, node=4, **ways)
    for name in ("tensor", "context"):
        assert getattr(apart, name) == pytest.approx(getattr(near, name)), name
    for name in ("hop", "reduce"):
        assert getattr(apart, name) == pytest.approx(getattr(near, name) * NEAR / FAR), name
    whole, _ = sent(PLAIN, node=8, **ways)
    assert whole.reduce == pytest.approx(near.reduce)
    assert whole.hop == pytest.approx(apart.hop)


def test_the_parts_of_the_memory():
    """States by what ZeRO shares, logits in three copies, what is gathered, what is held."""
    plan = pdl.Plan(data=2, micro_batch=2, zero=3, recompute="full", flash=True)
    plans, _ = made(plan)
    parts = {name: each[0] for name, each in memory.parts(PLAIN, plans, 8).items()}
    count, tokens = PLAIN.parameters, 2 * 256
    assert parts["weights"] == pytest.approx(2 * count / 2)
    assert parts["gradients"] == pytest.approx(4 * count / 2)
    assert parts["optimizer"] == pytest.approx(12 * count / 2)
    assert parts["activations"] == pytest.approx(4 * 2 * tokens * 512)
    assert parts["temporaries"] == pytest.approx(tokens * 4096 * (2 + 4 + 4))
    assert parts["gathered"] == pytest.approx(2 * 2 * (count - count / 2) / 4)
    long = dataclasses.replace(PLAIN, vocabulary=64)
    again = memory.parts(long, plans, 8)["temporaries"][0]
    assert again == pytest.approx(tokens * (34 - 2) * 512)


def test_the_first_stage_or_the_last_is_fullest():
    """With few words the first stage holds most, with many the last one, for its logits."""
    plan = pdl.Plan(pipeline=4, flash=True)
    first = memory.parts(PLAIN, made(plan)[0], 64)
    wide = dataclasses.replace(PLAIN, vocabulary=10**6)
    last = memory.parts(wide, made(plan)[0], 64)
    assert first["activations"][0] == pytest.approx(4 * last["activations"][0])
    assert last["temporaries"][0] == pytest.approx(256 * 1e6 * 10)
    assert first["temporaries"][0] == 0
    assert np.isfinite(math.fsum(each[0] for each in last.values()))


def test_experts_lie_on_fewer_devices():
    """All devices together hold all states at least once, and experts meet where they are alike."""
    for zero in range(4):
        plans, _ = made(pdl.Plan(data=8, expert=4, zero=zero), node=64)
        parts = memory.parts(MIXED, plans, 8)
        held = sum(parts[name][0] for name in ("weights", "gradients", "optimizer"))
        assert 8 * held >= 18 * MIXED.parameters * 0.999, zero
    apart, _ = sent(MIXED, data=4, expert=4)
    dense = MIXED.parameters - 4 * 4 * MIXED.expert_parameters
    assert apart.reduce[0] == pytest.approx(2 * 3 / 4 * 4 * dense / NEAR)


def test_zero_two_sends_no_less_than_zero_one():
    """What is shared is not saved on the links: each stage sends what the one before sends."""
    once = {}
    for zero in range(4):
        found, _ = sent(PLAIN, data=8, zero=zero)
        layers_of = (2 * found.gather + found.scatter)[0] * PLAIN.layers
        once[zero] = found.reduce[0] + layers_of
    assert once[1] == pytest.approx(once[2])
    assert once[2] < once[3]


def test_a_group_in_two_nodes_pays_for_the_way_between():
    """One device more than a node holds, and the slow links count; the next one too."""
    cluster = Cluster(IDEAL, 12, 8, IDEAL.scale_out)
    inside, across = (float(cluster.costs(n).all_reduce(1e9)) for n in (8, 12))
    assert across > 1.3 * inside
    assert float(cluster.costs(8).send(1e9)) == pytest.approx(1e9 / NEAR)
    assert float(cluster.costs(12).send(1e9)) == pytest.approx(1e9 / FAR)


def test_all_to_all_on_a_torus():
    """A byte goes four links along each ring of 16 on the mean, and each ring has two ways."""
    pod = pdl.cluster(pdl.hardware.tpu_v5e, devices=256)
    link = pod.hardware.scale_up
    wanted = 1e9 * 255 / 256 * 4 / 2 / (link.bytes_per_second * link.share)
    assert float(pod.costs().all_to_all(1e9)) == pytest.approx(wanted, rel=1e-2)
    assert pdl.cluster(pdl.hardware.tpu_v4, devices=16).group(16).lanes == 3


WRONG_KINDS = {
    "hardware": lambda: pdl.cluster("h100", devices=8),
    "llm": lambda: pdl.estimate("llama2_7b", pdl.Plan(), made(pdl.Plan())[1], batch=1),
    "plan": lambda: pdl.estimate(PLAIN, {"data": 1}, made(pdl.Plan())[1], batch=1),
    "cluster": lambda: pdl.search(PLAIN, pdl.hardware.h100, batch=1),
    "report": lambda: pdl.predict(pdl.workloads.digits_mlp(), made(pdl.Plan())[1]),
    "table": lambda: pdl.play("1F1B"),
}


@pytest.mark.parametrize("name", WRONG_KINDS)
def test_another_kind_of_thing_is_refused(name):
    """A name where a record is wanted is told what is wanted, and shown one."""
    with pytest.raises(
        TypeError, match=rf"(?s)^{name} is .*, of the type .*\n  why: .*\n  try: pdl\."
    ):
        WRONG_KINDS[name]()


def step(llm, hardware=IDEAL, batch=64, **plan) -> pdl.Estimate:
    """Return the estimate of a plan on ideal devices, all in one node."""
    plan = pdl.Plan(**plan)
    return pdl.estimate(llm, plan, Cluster(hardware, plan.devices, 64, FAR_LINK), batch=batch)


def test_the_host_sets_the_pace_of_small_operations():
    """A layer takes what its device takes, or its operations times the host's, if that is more."""
    operations = layers.passes(PLAIN, made(pdl.Plan())[0], IDEAL)[0].operations[0]
    free = step(PLAIN, batch=4)
    busy = free.breakdown["compute"] - 4 * logits_seconds(PLAIN)
    for host in (1e-9, 1e-3):
        found = step(PLAIN, dataclasses.replace(IDEAL, host_seconds=host), batch=4)
        started = 4 * PLAIN.layers * operations * host
        assert found.breakdown["launch"] == pytest.approx(max(0.0, started - busy))
    assert free.breakdown["launch"] == 0
    # A sum inside layers is started, too: two in each pass.
    slow = dataclasses.replace(IDEAL, host_seconds=1.0)
    one, two = (step(PLAIN, slow, batch=1, tensor=ways) for ways in (1, 2))
    assert two.seconds - one.seconds == pytest.approx(PLAIN.layers * 4, rel=0.01)


def logits_seconds(llm) -> float:
    """Return the seconds of one sequence's logits on an ideal device."""
    return 3 * 2 * llm.sequence * llm.hidden * llm.vocabulary / 1e12


@pytest.mark.parametrize("recompute", ["none", "full"])
def test_a_compiler_that_splits_sums_hides_all_but_a_hop(recompute):
    """Of t hops of a sum one stays, where products take longer; without overlap all stay."""
    splits = dataclasses.replace(IDEAL, splits_sums=True, message_share=0.0)
    ways = {"tensor": 8, "recompute": recompute}
    whole = step(PLAIN, **ways).breakdown["tensor"]
    assert whole > 0
    assert step(PLAIN, splits, **ways).breakdown["tensor"] == pytest.approx(whole / 8)
    waits = step(PLAIN, splits, overlap=False, **ways).breakdown["tensor"]
    assert waits == pytest.approx(whole)
    fast = dataclasses.replace(splits, flops={"bf16": 1e18})  # then nothing hides a message
    assert step(PLAIN, fast, **ways).breakdown["tensor"] == pytest.approx(whole, rel=1e-3)


def test_side_by_side_saves_a_sum_and_a_norm():
    """Attention and MLP behind one norm: half of the sums, the same products."""
    parallel = dataclasses.replace(PLAIN, parallel=True)
    assert PLAIN.parameters - parallel.parameters == PLAIN.layers * 2 * PLAIN.hidden
    assert parallel.model_flops(1) == PLAIN.model_flops(1)
    one, two = (step(llm, tensor=4) for llm in (parallel, PLAIN))
    assert one.breakdown["tensor"] == pytest.approx(two.breakdown["tensor"] / 2)
    assert one.breakdown["compute"] == pytest.approx(two.breakdown["compute"])
    saved = two.memory_parts["activations"] - one.memory_parts["activations"]
    tokens = PLAIN.sequence  # the input of a norm, and of the MLP: two bytes a number each
    assert saved == pytest.approx(PLAIN.layers * tokens * 4 * PLAIN.hidden)


def test_uneven_stages_go_at_the_pace_of_the_fullest():
    """Six layers over four stages: as eight of them, but for logits beside a lighter stage."""
    six, eight = (dataclasses.replace(PLAIN, layers=layers) for layers in (6, 8))
    with pytest.raises(ValueError, match=r"does not divide 6 layers"):
        step(six, pipeline=4)
    found, full = step(six, pipeline=4, uneven=True), step(eight, pipeline=4)
    assert found.breakdown["bubble"] == pytest.approx(full.breakdown["bubble"])
    layer = full.breakdown["bubble"] / 3 / 2  # of three stages of two layers each
    spared = full.breakdown["compute"] - found.breakdown["compute"]
    assert spared == pytest.approx(64 * min(layer, logits_seconds(PLAIN)))
    # The fullest stage is the second: without tables, and with a micro-batch less in flight.
    layer_weights = PLAIN.attention_parameters + PLAIN.mlp_parameters
    tables = max(0, PLAIN.embedding_parameters - layer_weights)
    assert found.memory_parts["weights"] == pytest.approx(2 * (2 * layer_weights + tables))
    held = found.memory_parts["activations"] / full.memory_parts["activations"]
    assert held == pytest.approx(3 / 4)
    with pytest.raises(ValueError, match=r"does not divide 6 layers"):
        step(six, pipeline=8, uneven=True)


def test_what_an_allocator_cannot_use_goes_with_the_rest():
    """Pieces too small to use are a share of all that is allocated, not of what is reserved."""
    broken = dataclasses.replace(IDEAL, fragmentation_share=0.1, reserved_bytes=1e9)
    parts = dict(step(PLAIN, broken).memory_parts)
    lost, reserved = parts.pop("fragmentation"), parts.pop("reserved")
    assert reserved == 1e9
    assert lost == pytest.approx(0.1 * sum(parts.values()))
    assert step(PLAIN).memory_parts["fragmentation"] == 0


def test_masks_are_kept_where_there_is_dropout():
    """Of 34 bytes a token and width two are masks, which models without biases do not have."""
    bare = dataclasses.replace(PLAIN, biases=False)
    kept = [
        step(llm, flash=True, batch=1).memory_parts["activations"]
        / (PLAIN.layers * PLAIN.sequence * PLAIN.hidden)
        for llm in (PLAIN, bare)
    ]
    assert kept == [pytest.approx(34), pytest.approx(32)]


def test_the_update_reads_and_writes_each_state():
    """46 bytes a weight at the speed of the memory: gradients, states, and halves."""
    slow = dataclasses.replace(IDEAL, bytes_per_second=1e9)
    found = step(PLAIN, slow, batch=1).breakdown["optimizer"]
    norm, scale, read, clear, states, halves = 4, 4 + 4, 4, 4, 3 * (4 + 4), 2
    touched = norm + scale + read + clear + states + halves
    assert found == pytest.approx(touched * PLAIN.parameters / 1e9)
