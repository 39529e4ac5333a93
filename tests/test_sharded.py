"""Sharded data parallelism keeps 1/n, sends what the ZeRO paper says, and no more."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from counting import counted, inspected, wire

import pdlkit as pdl

MOMENTS = optax.adam(1e-3)


@pytest.fixture(scope="module")
def work():
    """An MLP every array of which divides among eight devices, but for nothing."""
    data = pdl.workloads.digits_mlp().batches
    model = pdl.models.mlp(64, 16, embed=64, hidden=128, blocks=4)
    return pdl.Workload("even", model, MOMENTS, data)


def size(tree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def weights(work) -> int:
    return size(work.model.init(jax.random.key(0)))


def held(tree) -> int:
    """Return the bytes that the first device really holds of some arrays."""
    return sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("ways", [2, 8])
def test_stages_1_and_2_send_what_data_parallelism_sends(work, stage, ways):
    """A reduce-scatter of gradients and an all-gather of weights: 2 (n - 1) / n of them."""
    report, said = inspected(pdl.ZeRO(stage=stage), {"data": ways}, work, MOMENTS)
    assert wire(report.asked) == wire(said) == 2 * (ways - 1) * weights(work) // ways
    assert report.wire_bytes == wire(said)
    assert {each.kind for each in report.collectives} == {"reduce_scatter", "all_gather"}


@pytest.mark.parametrize("strategy", [pdl.ZeRO(stage=3), pdl.FullySharded()], ids=["zero", "fully"])
def test_stage_3_gathers_weights_twice(work, strategy):
    """Of each weight that going back needs, two gathers and a scatter: 3 (n - 1) / n of it.

    Going back needs no bias, and not the first layer's weights, for nobody asks for the
    gradient of the images: of these, 2 (n - 1) / n. Block by block, the last layer stays
    as well.
    """
    report, said = inspected(strategy, {"data": 8}, work, MOMENTS)
    params = work.model.init(jax.random.key(0))
    once = [params["first"], *(params["blocks"][half]["b"] for half in ("up", "down"))]
    once.append(params["last"] if isinstance(strategy, pdl.FullySharded) else params["last"]["b"])
    expected = 7 * (3 * weights(work) - size(once)) // 8
    assert wire(report.asked) == wire(said) == expected
    assert counted(report.asked) == counted(said)
    # XLA on the CPU makes one of two gathers of the same array where nothing is in between.
    assert report.wire_bytes <= expected


def test_blocks_are_gathered_again_in_the_compiled_program(work):
    """Block by block the compiler keeps both gathers: the weights are forgotten in between."""
    report, _ = inspected(pdl.FullySharded(), {"data": 8}, work, MOMENTS)
    blocks = work.model.init(jax.random.key(0))["blocks"]
    matrices = size([blocks[half]["w"] for half in ("up", "down")])
    gathered = sum(
        each.wire_bytes * each.times for each in report.collectives if each.kind == "all_gather"
    )
    assert gathered >= 2 * 7 * matrices // 8


def test_the_compiler_gathers_weights_too_and_not_the_batch():
    """Told where activations are, it sends 4 (n - 1) / n of the weights, and no activation.

    It sums gradients by an all-reduce, which is twice a reduce-scatter.
    """
    work = pdl.workloads.transformer()
    program = pdl.Automatic(pdl.ZeRO(stage=3)).build(work.model, optax.sgd(0.1), pdl.mesh(data=8))
    report = pdl.inspect(program, work)
    assert {each.kind for each in report.collectives} == {"all_gather", "all_reduce"}
    once = 7 * weights(work) // 8
    assert 3 * once < report.wire_bytes <= 4 * once


def test_what_each_stage_keeps(work):
    """Adam's two moments are 1/n from stage 1 on, the weights themselves at stage 3."""
    mesh, whole = pdl.mesh(data=8), weights(work)
    kept = {}
    for stage in (1, 2, 3):
        program = pdl.ZeRO(stage=stage).build(work.model, MOMENTS, mesh)
        state = program.init(work.model.init(jax.random.key(0)))
        kept[stage] = held(state.params), held(state.optimizer) - 4  # its count of steps
        report = pdl.inspect(program, work)
        batch = size(work.batch(0)) // 8
        assert report.memory.arguments == held(state) + batch
    assert kept == {
        1: (whole, 2 * whole // 8),
        2: (whole, 2 * whole // 8),
        3: (whole // 8, 2 * whole // 8),
    }


def test_gradients_of_micro_batches(work):
    """Accumulating, stage 1 scatters gradients once, stage 2 those of each micro-batch."""
    sent = {
        stage: inspected(pdl.ZeRO(stage=stage, accumulate=4), {"data": 8}, work, MOMENTS)[0]
        for stage in (1, 2)
    }
    part = 7 * weights(work) // 8
    assert wire(sent[1].asked) == 2 * part
    assert wire(sent[2].asked) == (4 + 1) * part
    assert sent[2].memory.temporaries < sent[1].memory.temporaries


def test_a_block_at_a_time():
    """Fully sharded, no device has more than one block whole; with `remat` it keeps less still."""
    rng = np.random.default_rng(0)
    data = rng.random((4096, 64), np.float32), rng.integers(0, 16, 4096, np.int32)
    model = pdl.models.mlp(64, 16, embed=128, hidden=512, blocks=8)
    few, many = (
        pdl.Workload("wide", model, optax.sgd(0.1), pdl.batches(*data, size=size))
        for size in (128, 2048)
    )

    def temporaries(strategy, work):
        return inspected(strategy, {"data": 8}, work, optax.sgd(0.1))[0].memory.temporaries

    tree, block = (temporaries(each, few) for each in (pdl.ZeRO(stage=3), pdl.FullySharded()))
    assert tree > weights(few) > 2 * block
    kept, remade = (temporaries(pdl.FullySharded(remat=r), many) for r in (False, True))
    assert remade < kept / 2


def test_what_does_not_divide_stays_whole(digits):
    """A bias of ten classes cannot be cut by eight: kept whole, its gradient all-reduced."""
    program = pdl.ZeRO(stage=3).build(digits.model, MOMENTS, pdl.mesh(data=8))
    state = program.init(digits.model.init(jax.random.key(0)))
    assert held(state.params["last"]["b"]) == 40
    assert held(state.params["last"]["w"]) == 64 * 10 * 4 // 8
    _, said = inspected(pdl.ZeRO(stage=3), {"data": 8}, digits, MOMENTS)
    assert ("all_reduce", ("data",), 40) in counted(said)


def test_arrays_without_names(digits):
    """Where a model does not name its axes, each array is cut along its largest dimension."""
    model = digits.model._replace(axes=None, parts=None)
    work = pdl.Workload("unnamed", model, MOMENTS, digits.batches)
    program = pdl.ZeRO(stage=3).build(work.model, MOMENTS, pdl.mesh(data=8))
    pdl.check.same_update(program, work)
    state = program.init(model.init(jax.random.key(0)))
    assert state.params["blocks"]["up"]["w"].addressable_shards[0].data.shape == (2, 64, 128 // 8)


def test_inside_a_node_and_across(work):
    """Hierarchical: scattered inside a node, all-reduced across, gathered inside."""
    strategy = pdl.ZeRO() | pdl.DataParallel(axis="node")
    report, said = inspected(strategy, {"node": 2, "data": 4}, work, MOMENTS)
    whole = weights(work)
    along = {axes: 0 for axes in (("data",), ("node",))}
    for each in report.asked:
        along[each.axes] += each.wire_bytes * each.times
    assert along == {("data",): 2 * 3 * whole // 4, ("node",): whole // 4}
    assert counted(report.asked) == counted(said)


def test_there_is_no_stage_4():
    """A stage that there is not is refused when it is named."""
    with pytest.raises(ValueError, match=r"no stage 4 of ZeRO\.\n  why: stage 1 cuts .*\n  try: "):
        pdl.ZeRO(stage=4)


def test_a_model_without_blocks_is_not_gathered_by_blocks():
    """A CNN has no repeated blocks, so it is told to take ZeRO, which gathers the whole tree."""
    work = pdl.workloads.digits_cnn()
    with pytest.raises(ValueError, match=r"FullySharded replaces `layers.block`, but this model"):
        pdl.FullySharded().build(work.model, MOMENTS, pdl.mesh(data=8))


def test_accumulation_is_exact_where_examples_weigh_differently(digits):
    """Masked examples are counted over all micro-batches of all devices before any is divided."""

    def masked(params, batch, layers):
        held = (batch[1] % 3 != 0).astype(jnp.float32)
        losses = layers.cross_entropy(digits.model.predict(params, batch, layers), batch[1])
        return layers.mean((held * losses).sum(), held.sum())

    work = pdl.Workload("masked", digits.model._replace(loss=masked), MOMENTS, digits.batches)
    for strategy in (pdl.DataParallel(accumulate=4), pdl.ZeRO(stage=2, accumulate=2)):
        program = strategy.build(work.model, work.optimizer, pdl.mesh(data=4))
        pdl.check.same_update(program, work)
        params = work.model.init(jax.random.key(0))
        _, metrics = program.step(program.init(params), work.batch(0))
        whole = masked(params, work.batch(0), pdl.Layers())
        np.testing.assert_allclose(metrics.loss, whole, rtol=1e-6)


def test_a_root_of_a_mean_cannot_be_accumulated(digits):
    """A loss that is no sum of its means has no gradient that adds up, and says so."""

    def root(params, batch, layers):
        losses = layers.cross_entropy(digits.model.predict(params, batch, layers), batch[1])
        return jnp.sqrt(layers.mean(losses.sum(), jnp.float32(losses.size)))

    work = pdl.Workload("root", digits.model._replace(loss=root), MOMENTS, digits.batches)
    words = (
        r"not a sum of its means, and is taken in 4 micro-batches\.\n  why: .*\n  try: one micro"
    )
    with pytest.raises(ValueError, match=words):
        pdl.DataParallel(accumulate=4).build(work.model, MOMENTS, pdl.mesh(data=4))


def test_shares_that_do_not_divide(digits):
    """A share of 16 examples cannot be taken in five parts."""
    with pytest.raises(ValueError, match="16 examples does not divide into 5 micro-batches"):
        pdl.DataParallel(accumulate=5).build(digits.model, MOMENTS, pdl.mesh(data=8))
