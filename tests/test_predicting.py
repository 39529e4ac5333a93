"""What a counted program would take elsewhere; what a message costs by two figures."""

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pdlkit as pdl
from pdlkit.prediction import alpha_beta
from pdlkit.prediction.alpha_beta import Wire

few = settings(max_examples=10, deadline=None)
WIRE = Wire.of(2e-6, 1e9)
FORMS = {  # the hops that `pdl.collectives` writes out, and their closed form
    "ring_all_reduce": (pdl.collectives.ring_all_reduce_hops, alpha_beta.ring_all_reduce),
    "ring_all_gather": (pdl.collectives.ring_all_gather_hops, alpha_beta.ring_all_gather),
    "ring_reduce_scatter": (pdl.collectives.ring_reduce_scatter_hops, alpha_beta.ring_all_gather),
    "tree_all_reduce": (pdl.collectives.tree_all_reduce_hops, alpha_beta.tree_all_reduce),
    "halving_doubling_all_reduce": (
        pdl.collectives.halving_doubling_all_reduce_hops,
        alpha_beta.halving_doubling_all_reduce,
    ),
}


@pytest.mark.parametrize("name", FORMS)
@few
@given(power=st.integers(0, 4), count=st.integers(1, 10**9))
def test_closed_forms_are_what_the_hops_take(name, power, count):
    """Alpha for each tick and beta for each byte of its hops is what the formula says."""
    hops, form = FORMS[name]
    devices = 2**power
    priced = alpha_beta.priced(hops(devices), count, WIRE) if devices > 1 else 0.0
    assert form(count, devices, WIRE) == pytest.approx(priced)


def test_trees_for_short_and_rings_for_long():
    """A tree is sooner with few bytes, a ring with many, and halving is never behind either."""
    short, long = (
        [form(count, 64, WIRE) for form in (alpha_beta.ring_all_reduce, alpha_beta.tree_all_reduce)]
        for count in (10, 10**9)
    )
    assert short[1] < short[0]
    assert long[0] < long[1]
    for count in (10, 10**9):
        both = min(
            alpha_beta.ring_all_reduce(count, 64, WIRE), alpha_beta.tree_all_reduce(count, 64, WIRE)
        )
        assert alpha_beta.halving_doubling_all_reduce(count, 64, WIRE) <= both


def test_a_torus_sends_a_rings_bytes_in_fewer_steps():
    """16 x 16 devices: as many bytes as round a ring of 256, in 30 steps and back."""
    bytes_only, steps_only = Wire(0, 1), Wire(1, 0)
    whole = alpha_beta.ring_all_reduce(1.0, 256, bytes_only)
    assert alpha_beta.torus_all_reduce(1.0, (16, 16), bytes_only) == pytest.approx(whole)
    assert alpha_beta.torus_all_reduce(1.0, (16, 16), steps_only) == 60
    assert alpha_beta.torus_all_reduce(1.0, (256,), steps_only) == 510


def test_two_levels_send_less_between_nodes():
    """Among 4 nodes of 8 only an eighth of the bytes leaves a node."""
    apart = alpha_beta.hierarchical_all_reduce(8.0, 8, 4, (Wire(0, 0), Wire(0, 1)))
    assert apart == pytest.approx(2 * 3 / 4)
    inside = alpha_beta.hierarchical_all_reduce(8.0, 8, 1, (Wire(0, 1), Wire(0, 1)))
    assert inside == pytest.approx(2 * 7)


def test_half_a_device_is_refused():
    """Devices are counted; halving wants a power of two."""
    with pytest.raises(ValueError, match=r"^2.5 is no number of devices"):
        alpha_beta.ring_all_reduce(1, 2.5, WIRE)
    with pytest.raises(ValueError, match=r"^6 devices cannot be halved.*\n.*\n  try: 4 or 8"):
        alpha_beta.halving_doubling_all_reduce(1, 6, WIRE)


@pytest.fixture(scope="module")
def report():
    work = pdl.workloads.digits_mlp()
    program = pdl.DataParallel().build(work.model, work.optimizer, pdl.mesh(data=8))
    return pdl.inspect(program, work)


def test_a_program_is_predicted_from_what_was_counted(report):
    """Arithmetic at the device's speed, each message as its kind costs there."""
    made = pdl.cluster(pdl.hardware.h100, devices=8)
    found = pdl.predict(report, made)
    touched = report.bytes_accessed / made.hardware.stream
    arithmetic = report.flops / (made.hardware.peak("tf32") * made.hardware.matmul_share)
    started = made.hardware.host_seconds + report.operations * made.hardware.operation_seconds
    assert found.dtype == "tf32"
    assert found.compute_seconds == pytest.approx(started + arithmetic + touched)
    by_hand = sum(
        each.times * made.costs(8).all_reduce(each.payload_bytes) for each in report.collectives
    )
    assert {each.kind for each in report.collectives} == {"all_reduce"}
    assert found.communication_seconds == pytest.approx(by_hand)
    assert found.seconds == pytest.approx(found.compute_seconds + by_hand)
    assert found.fastest < found.seconds
    assert found.events[-1].end == pytest.approx(found.seconds)
    assert found.fits


def test_axes_say_where_a_message_goes(report):
    """A message along the slow axis leaves its node; one along the fast axis does not."""
    mesh = {"data": 4, "model": 8}
    made = pdl.cluster(pdl.hardware.a100_80g, devices=32)
    seconds = {}
    for axis, group in mesh.items():
        message = pdl.Collective.by_ring("all_reduce", (axis,), group, 10**8)
        one = dataclasses.replace(report, mesh=mesh, collectives=(message,))
        seconds[axis] = pdl.predict(one, made).communication_seconds
    assert seconds["data"] == pytest.approx(float(made.costs(4, 8).all_reduce(10**8)))
    assert seconds["model"] == pytest.approx(float(made.costs(8, 1).all_reduce(10**8)))
    assert seconds["data"] > 3 * seconds["model"]


def test_each_kind_costs_its_own(report):
    """A gather counts the shards of all, a permute one message, and times multiply."""
    made = pdl.cluster(pdl.hardware.a100_80g, devices=8)
    cost = made.costs(8)
    for kind, wanted in {
        "all_gather": cost.all_gather(8e6),
        "reduce_scatter": cost.reduce_scatter(1e6),
        "all_to_all": cost.all_to_all(1e6),
        "permute": cost.send(1e6),
        "copy": cost.send(1e6),
    }.items():
        message = pdl.Collective(kind, ("data",), 8, 10**6, 0, times=3)
        one = dataclasses.replace(report, collectives=(message,))
        found = pdl.predict(one, made).communication_seconds
        assert found == pytest.approx(3 * float(wanted)), kind


def test_a_tpu_multiplies_in_bfloat16(report):
    """By default products are computed as JAX does there; another dtype can be said."""
    tpu = pdl.cluster(pdl.hardware.tpu_v5e, devices=8)
    assert pdl.predict(report, tpu).dtype == "bf16"
    gpu = pdl.cluster(pdl.hardware.v100, devices=8)
    assert pdl.predict(report, gpu).dtype == "fp32"
    with pytest.raises(ValueError, match=r"has no figure for fp8"):
        pdl.predict(report, gpu, dtype="fp8")


def test_another_number_of_devices_is_refused(report):
    """What was counted on 8 devices is not predicted for 64, and the way out is named."""
    words = r"^the program was counted on data=8, 8 devices, but the cluster has 64\."
    with pytest.raises(ValueError, match=words):
        pdl.predict(report, pdl.cluster(pdl.hardware.h100, devices=64))


def test_a_prediction_is_drawn(report):
    """Its picture says what the step takes, what limits it, and that it is modelled."""
    picture = pdl.show(pdl.predict(report, pdl.cluster(pdl.hardware.h100, devices=8)))
    assert picture.word == "modelled"
    assert "on 8 H100 SXM 80 GB" in picture.title
    assert "all_reduce" in picture.text
    assert not math.isnan(pdl.predict(report, pdl.cluster(pdl.hardware.h100, devices=8)).seconds)
