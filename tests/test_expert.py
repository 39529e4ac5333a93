"""Expert parallelism: tokens travel to their experts and back, and none the worse."""

import collections
import dataclasses
import functools
import math

import jax
import numpy as np
import optax
import plain
import pytest
from jax import lax
from test_law import OPTIMIZERS, STEPS, assert_close, run

import pdlkit as pdl
from pdlkit.data import addition, batches
from pdlkit.measure.jaxpr import asked
from pdlkit.models.layers import Layers
from pdlkit.models.parts import param_shapes
from pdlkit.strategies.expert import ExpertParallel

SGD = optax.sgd(0.1)
EMBED, BLOCKS, EXPERTS, TOP_K = 8, 2, 8, 2
CASES = {  # name: strategy, mesh
    "expert 4": (ExpertParallel(), {"expert": 4}),
    "data 2 | expert 4": (pdl.DataParallel() | ExpertParallel(), {"data": 2, "expert": 4}),
    "automatic expert 4": (pdl.Automatic(ExpertParallel()), {"expert": 4}),
}


@functools.cache
def sums(*, capacity=None, experts=EXPERTS):
    """Return a workload of 32 sums a batch, small, with much weight on the balance."""
    model = pdl.models.moe(
        embed=EMBED,
        heads=2,
        hidden=8,
        blocks=BLOCKS,
        experts=experts,
        top_k=TOP_K,
        capacity=capacity,
        balance=1.0,
        padding=0,
    )
    return pdl.Workload("sums", model, SGD, batches(*addition(examples=128), size=32))


@functools.cache
def alone(optimizer="sgd"):
    """Return what one device makes of the sums in five steps: params and losses."""
    work, transform = sums(), OPTIMIZERS[optimizer][0]
    start = work.model.init(jax.random.key(0))
    return plain.train(work.model.loss, transform, start, [work.batch(k) for k in range(STEPS)])


def routed_apart(model, ways):
    """Return params, batch -> loss, notes of one device that routes each share by itself."""

    def mean(total, weight):
        return lax.psum(total, "share") / lax.psum(weight, "share")

    def loss(params, batch):
        def of_share(share):
            notes = {}
            layers = Layers(mean=mean, note=notes.__setitem__)
            return model.loss(params, share, layers), notes

        shares = jax.tree.map(lambda x: x.reshape(ways, -1, *x.shape[1:]), batch)
        losses, notes = jax.vmap(of_share, axis_name="share")(shares)
        return losses.mean(), notes

    return loss


@pytest.mark.parametrize("case", CASES)
def test_the_weights_of_one_device_where_nothing_is_dropped(case):
    """Without a capacity, five steps leave the weights and losses of one device."""
    params, losses = alone()
    here, seen = run(*CASES[case], sums(), SGD)
    assert_close(here, params, 1e-6)
    np.testing.assert_allclose([metrics.loss for metrics in seen], losses, rtol=1e-5)
    assert all((metrics.notes["dropped"] == 0).all() for metrics in seen)


@pytest.mark.parametrize("optimizer", ["clipped", "lamb", "adafactor"])
def test_optimizers_that_look_across_arrays(optimizer):
    """They see all experts, wherever each lies."""
    transform, tolerance = OPTIMIZERS[optimizer]
    here, _ = run(*CASES["expert 4"], sums(), transform)
    assert_close(here, alone(optimizer)[0], tolerance)


def test_a_capacity_is_one_of_each_devices_own_tokens():
    """With drops it is one device that routes each share by itself, as full as here.

    What each device notes, the load of its experts and what it dropped, are its own.
    """
    (strategy, axes), work = CASES["data 2 | expert 4"], sums(capacity=1.0)
    apart = jax.jit(routed_apart(work.model, 8))
    start, given = work.model.init(jax.random.key(0)), [work.batch(k) for k in range(STEPS)]
    params, losses = plain.train(lambda *given: apart(*given)[0], SGD, start, given)
    here, seen = run(strategy, axes, work, SGD)
    assert_close(here, params, 1e-6)
    np.testing.assert_allclose([metrics.loss for metrics in seen], losses, rtol=1e-5)
    _, notes = apart(start, given[0])
    assert (notes["dropped"] > 0).any()
    assert_close(dict(seen[0].notes), notes, 0)
    assert seen[0].notes["expert_load"].sum() == BLOCKS * TOP_K * given[0][0].size


@pytest.mark.parametrize("capacity", [None, 1.0])
@pytest.mark.parametrize(
    ("strategy", "axes"),
    [
        (ExpertParallel(), {"expert": 4}),
        (ExpertParallel(axis="data"), {"data": 2, "model": 2}),
        (ExpertParallel(), {"expert": 1}),
        CASES["data 2 | expert 4"],
    ],
)
def test_moves_as_it_says(strategy, axes, capacity):
    """Four all-to-alls a layer, each of k c tokens embed numbers.

    Where no capacity c is given, every expert has room for all tokens.
    """
    work, mesh = sums(capacity=capacity), pdl.mesh(**axes)
    program = strategy.build(work.model, SGD, mesh)
    state = jax.eval_shape(program.init, param_shapes(work.model))
    asks = asked(jax.make_jaxpr(program.step)(state, work.batch(0)))
    said = strategy.moves(work.model, mesh)
    assert by_kind(said) == by_kind(asks)
    axis = strategy.split()[-1].axis
    tokens = work.batch(0)[0].size // math.prod(axes[name] for name in {axis, *axes} - {"model"})
    slots = tokens * (EXPERTS if capacity is None else TOP_K * capacity)
    assert exchanged(said) == (4 * BLOCKS * slots * EMBED * 4 if axes[axis] > 1 else 0)


def test_compiled_bytes():
    """Compiled, of all slots the share (n - 1) / n is sent to other devices."""
    (strategy, axes), work = CASES["expert 4"], sums(capacity=1.0)
    report = pdl.inspect(strategy.build(work.model, SGD, pdl.mesh(**axes)), work)
    sent = [e.wire_bytes * e.times for e in report.collectives if e.kind == "all_to_all"]
    assert sum(sent) == exchanged(report.asked) * 3 / 4 > 0


def by_kind(moves):
    """Return how often a step sends each message."""
    found = collections.Counter()
    for each in moves:
        found[each.kind, each.axes, each.group, each.payload_bytes, each.wire_bytes] += each.times
    return found


def exchanged(moves):
    """Return the bytes that a step gives to all-to-alls."""
    return sum(each.payload_bytes * each.times for each in moves if each.kind == "all_to_all")


@pytest.mark.parametrize(("experts", "fix"), [(2, "expert=2, or a size of 4"), (6, "expert=3")])
def test_experts_that_do_not_divide(experts, fix):
    """Fewer experts than devices, or a number that does not divide, is said in `build`."""
    words = rf"params.* has a dimension of {experts}, which does not divide among expert=4\.\n"
    with pytest.raises(ValueError, match=words + "  why: .*\n  try: " + fix):
        ExpertParallel().build(sums(experts=experts).model, SGD, pdl.mesh(expert=4))


def test_experts_under_another_name():
    """Experts whose axis has another name are whole on every device, which is said."""
    work = sums()
    rename = lambda axes: tuple("each" if name == "expert" else name for name in axes)  # noqa: E731
    axes = jax.tree.map(rename, work.model.axes, is_leaf=lambda x: isinstance(x, tuple))
    work = dataclasses.replace(work, model=work.model._replace(axes=axes))
    words = (
        r"the gate chooses among 8 experts, but expert=4 devices hold 8 each\.\n  why: .*\n  try"
    )
    with pytest.raises(ValueError, match=words):
        run(ExpertParallel(), {"expert": 4}, work, SGD, steps=1)


def test_a_model_without_experts(digits):
    """A model that has none is refused."""
    with pytest.raises(ValueError, match=r"replaces `layers\.experts`, but this model never"):
        ExpertParallel().build(digits.model, SGD, pdl.mesh(expert=4))
