"""Strategies that do not fit a model, a batch or each other: refused, and told why."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from counting import inspected

import pdlkit as pdl
from pdlkit.models.layers import ALONE

SGD = optax.sgd(0.1)
DATA = pdl.DataParallel()


def build(strategy, work, **axes):
    return strategy.build(work.model, SGD, pdl.mesh(**axes))


# --- parts of a hybrid

ON_ONE_AXIS = {
    "tensor": lambda: DATA | pdl.TensorParallel(axis="data"),
    "pipeline": lambda: DATA | pdl.Pipeline(axis="data"),
    "sequence": lambda: DATA | pdl.RingAttention(axis="data"),
    "three": lambda: DATA | pdl.TensorParallel() | pdl.Pipeline(axis="model"),
}


@pytest.mark.parametrize("case", ON_ONE_AXIS)
def test_parts_on_one_mesh_axis(case):
    """Two parts on one axis would sum what belongs to different examples."""
    words = r"cannot be: both say what mesh axis `(data|model)` cuts\.\n.*\n  try: .*another axis"
    with pytest.raises(ValueError, match=words):
        ON_ONE_AXIS[case]()


NO_PARTS = {
    "local": lambda: DATA | pdl.LocalSGD(every=2),
    "local first": lambda: pdl.LocalSGD(every=2) | DATA,
    "automatic": lambda: DATA | pdl.TensorParallel() | pdl.Automatic(),
    "pmap": lambda: DATA | pdl.PmapDataParallel(),
}


@pytest.mark.parametrize("case", NO_PARTS)
def test_what_is_no_part(case):
    """A strategy that builds its program itself adds to no other."""
    words = r"^.* \| .* cannot be\.\n  why: .* is no difference from one device .*\n  try: parts "
    with pytest.raises(TypeError, match=words):
        NO_PARTS[case]()
    with pytest.raises(TypeError, match="unsupported operand"):
        DATA | 3  # pyright: ignore[reportOperatorIssue]


@pytest.mark.parametrize("outer", [pdl.Compressed, pdl.Automatic])
@pytest.mark.parametrize("inner", [pdl.StaleGradients(4), pdl.LocalSGD(every=2), pdl.Compressed()])
def test_what_cannot_be_changed_from_outside(outer, inner, digits):
    """Staleness or local steps inside another strategy would be left out without a word."""
    words = rf"^{outer.__name__}\({type(inner).__name__}\(...\)\) cannot be\.\n  why: "
    with pytest.raises(ValueError, match=words):
        build(outer(inner), digits, data=4)


@pytest.mark.parametrize("inner", [pdl.ZeRO(stage=3), pdl.FullySharded()])
def test_gradients_that_are_never_whole_are_not_compressed(inner, digits):
    """Where gradients are summed in parts there is nothing left for the codec to send."""
    with pytest.raises(ValueError, match=r"^Compressed cannot send the gradients of "):
        build(pdl.Compressed(inner), digits, data=4)


# --- batches


def test_a_batch_that_does_not_divide_in_a_hybrid(digits):
    """It builds, for another batch may come; one that comes is refused by its numbers."""
    program = build(DATA | pdl.TensorParallel(), digits, data=3, model=2)
    words = r"^a batch of 128 examples does not divide among data=3\.\n.*\n  try: .* 126 or 129"
    with pytest.raises(ValueError, match=words):
        program.place(digits.batch(0))


def test_arrays_of_different_lengths():
    """Also where a model names the axes of its batches."""
    work = pdl.workloads.digits_cnn()
    images, labels = work.batch(0)
    program = build(DATA, work, data=8)
    with pytest.raises(ValueError, match=r"^batch\[1\] has shape \[8\], the first array \[128"):
        program.place((images, labels[:8]))


@pytest.mark.parametrize("strategy", [pdl.OneDevice(), DATA, pdl.PmapDataParallel()])
def test_an_array_without_a_row_for_each_example(strategy, digits):
    """Strategies deal out rows: an array of a batch that has none for each is refused."""
    model = digits.model._replace(batch_axes=(("batch", None), (None,)))
    with pytest.raises(ValueError, match=r"names the axes of an array \(None,\)\.\n  why: example"):
        strategy.build(model, SGD, pdl.mesh(data=4))


@pytest.mark.parametrize("accumulate", [0, 1.5])
def test_micro_batches_are_counted(accumulate, digits):
    """There is at least one, and no half."""
    words = rf"cannot take a share of the batch in {accumulate} micro-batches\."
    with pytest.raises(ValueError, match=words):
        build(pdl.DataParallel(accumulate=accumulate), digits, data=4)


# --- models


def regression(loss, params, **axes):
    """Return four numbers in and one out, trained by a loss of one's own."""
    x = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    model = pdl.Model(lambda _: jax.tree.map(jnp.asarray, params), loss, axes)
    return pdl.Workload("own", model, SGD, [(x, x[:, 0])])


def two_layers(params, batch, layers=ALONE):
    """Return the squared error of a hidden layer and an output."""
    hidden = jax.nn.relu(layers.up(batch[0], params["up"]))
    return jnp.mean((layers.down(hidden, params["down"])[:, 0] - batch[1]) ** 2)


WEIGHTS = {"up": np.ones((4, 8), np.float32), "down": np.ones((8, 1), np.float32)}


def test_whole_weights_where_parts_are_summed():
    """A hidden axis by another name is not cut, and its sum would be n times too large."""
    work = regression(two_layers, WEIGHTS, up=("embed", "hidden"), down=("hidden", None))
    words = r'`layers.down` is given .* \[8, 1\] .*\n  why: .* 4 devices .*\n  try: .* "mlp"'
    with pytest.raises(ValueError, match=words):
        build(pdl.TensorParallel(), work, model=4)
    build(pdl.TensorParallel(), work, model=1)
    right = work.model._replace(axes={"up": ("embed", "mlp"), "down": ("mlp", None)})
    named = dataclasses.replace(work, model=right)
    assert pdl.check.same_update(build(pdl.TensorParallel(), named, model=4), named)


def test_whole_numbers_among_the_params():
    """They have no gradient; it says so, and where they go."""
    counts = {**WEIGHTS, "seen": np.zeros(3, np.int32)}
    axes = {"up": ("embed", "mlp"), "down": ("mlp", None), "seen": (None,)}
    with pytest.raises(TypeError, match=r"^params\['seen'\] holds int32 numbers\.\n  why: "):
        build(DATA, regression(two_layers, counts, **axes), data=4)


@pytest.mark.parametrize(
    "strategy", [pdl.ZeRO(stage=3, axis="stage"), pdl.Pipeline(), pdl.LayerPlacement()]
)
def test_what_moves_depends_on_a_batch(strategy):
    """A model that has not met its batches yet cannot tell what a step sends."""
    with pytest.raises(ValueError, match=r"^this model has no example of a batch"):
        strategy.moves(pdl.models.mlp(blocks=4), pdl.mesh(stage=2))


# --- what was wrong without a word


def test_a_mean_over_some_of_what_is_cut():
    """A mask by examples is the same in all pieces of an image, and is summed once for each."""
    base = pdl.workloads.digits_cnn()

    def masked(params, batch, layers=ALONE):
        held = (batch[1] > 3).astype(jnp.float32)
        logits = base.model.predict(params, batch, layers)  # pyright: ignore
        return layers.mean((held * layers.cross_entropy(logits, batch[1])).sum(), held.sum())

    model = base.model._replace(loss=masked, parts=None)
    work = dataclasses.replace(base, model=model, optimizer=SGD)
    assert pdl.check.same_update(build(DATA | pdl.SpatialParallel(), work, data=2, rows=2), work)


def test_factored_statistics_follow_their_layers():
    """Adafactor's rows and columns lie, taken together again, as one device's do."""
    model = pdl.models.mlp(64, 10, embed=16, hidden=24, blocks=8)
    work = pdl.Workload("deep", model, SGD, pdl.workloads.digits_mlp().batches)
    factored = optax.adafactor(0.01, min_dim_size_to_factor=8)
    kept = []
    for strategy, axes in (
        (pdl.OneDevice(), {"stage": 2}),
        (pdl.Pipeline(pdl.schedules.interleaved), {"stage": 2}),
    ):
        program = strategy.build(model, factored, pdl.mesh(**axes))
        state = program.init(model.init(jax.random.key(0)))
        for k in range(2):
            state, _ = program.step(state, work.batch(k))
        kept.append(jax.device_get(program.whole(state).optimizer))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-7), *kept)


def test_what_is_not_sent_yet_follows_its_layers():
    """The residue of each layer is that layer's, in whichever order a pipeline keeps them."""
    model = pdl.models.mlp(64, 10, embed=8, hidden=8, blocks=4)
    pipeline, mesh = pdl.Pipeline(pdl.schedules.interleaved), pdl.mesh(data=2, stage=2)
    program = pdl.Compressed(DATA | pipeline).build(model, SGD, mesh)
    state = program.init(model.init(jax.random.key(0)))
    numbered = np.array(pipeline.order(4, mesh), np.float32)[None, :, None] * [[[1]], [[0]]]
    residue = state.memory.residue
    residue["blocks"]["up"]["b"] += numbered  # [devices, layers, hidden]: the layer's number
    one = program.whole(state._replace(memory=state.memory._replace(residue=residue)))
    np.testing.assert_array_equal(one.memory.residue["blocks"]["up"]["b"][:, 0], range(4))
    again = program.whole(program.spread(one))
    np.testing.assert_array_equal(again.memory.residue["blocks"]["up"]["b"][:, 0], range(4))


@pytest.mark.parametrize(
    ("strategy", "axes"),
    [
        (pdl.ZeRO(stage=1, axis="a") | pdl.ZeRO(stage=1, axis="b"), {"a": 2, "b": 4}),
        (pdl.Compressed(DATA | pdl.Pipeline(), pdl.Sign()), {"data": 2, "stage": 2}),
        (pdl.Pipeline(), {"stage": 1}),
        (pdl.ZeRO(stage=1, axis="b") | pdl.TensorParallel(), {"model": 2, "b": 4}),
    ],
    ids=["two zeros", "compressed pipeline", "one stage", "zero beside tensor"],
)
def test_moves_as_it_says(strategy, axes):
    """What is said is what the trace asks for, in kind, axes and bytes."""
    model = pdl.models.mlp(64, 10, embed=16, hidden=16, blocks=4)
    work = pdl.Workload("deep", model, SGD, pdl.workloads.digits_mlp().batches)
    report, said = inspected(strategy, axes, work, SGD)
    assert messages(report.asked) == messages(said)


def messages(moves) -> list:
    """Return what tells one message from another, in a fixed order."""
    return sorted((each.kind, each.axes, each.payload_bytes, each.times) for each in moves)


@pytest.mark.parametrize(
    "strategy", [pdl.PmapDataParallel(), pdl.UnevenDataParallel((3, 1))], ids=["pmap", "uneven"]
)
def test_means_are_among_what_is_sent(strategy):
    """What `layers.mean` asks the other devices is said too."""

    def masked(params, batch, layers=ALONE):
        held = (batch[1] > 0).astype(jnp.float32)
        error = (batch[0] @ params["up"]).sum(-1) - batch[1]
        return layers.mean((held * error**2).sum(), held.sum())

    work = regression(masked, {"up": WEIGHTS["up"]}, up=("embed", "mlp"))
    report, said = inspected(strategy, {"data": 2}, work, SGD)
    assert messages(report.asked) == messages(said)
    assert len(said) > 1


def test_an_odd_sequence_on_one_device():
    """By zigzag one device has nothing to deal out, so any length will do."""
    model = pdl.models.transformer(16, embed=8, heads=2, hidden=8, blocks=1)
    words = np.random.default_rng(0).integers(1, 16, (2, 8, 7), dtype=np.int32)
    work = pdl.Workload("odd", model, SGD, [tuple(words)])
    assert pdl.check.same_update(build(pdl.RingAttention(zigzag=True), work, seq=1), work)


def test_rows_round_an_image_in_numbers():
    """Padding by numbers is as good as by name, where an image keeps its rows."""

    def workload(padding):
        def loss(params, batch, layers=ALONE):
            return jnp.mean(layers.conv(batch[0], params["w"], 0.0, padding=padding) ** 2)

        images = np.random.default_rng(0).normal(size=(4, 8, 6, 1)).astype(np.float32)
        weights = lambda _: {"w": jnp.ones((3, 3, 1, 2)) / 9}  # noqa: E731
        named = (("batch", "rows", None, None),)
        model = pdl.Model(weights, loss, {"w": (None,) * 4}, batch_axes=named)
        return pdl.Workload("padded", model, SGD, [(images,)])

    for padding in (((1, 1), (1, 1)), ((2, 0), (0, 0)), "SAME_LOWER"):
        work = workload(padding)
        assert pdl.check.same_update(build(pdl.SpatialParallel(), work, rows=4), work)
    with pytest.raises(ValueError, match=r"puts 1 rows round an image, where .* wants 2\.\n"):
        build(pdl.SpatialParallel(), workload(((1, 0), (1, 1))), rows=4)


def test_half_precision_weights_in_factors():
    """PowerSGD's factors are found in float32, whatever the weights are in."""
    model = pdl.models.mlp(64, 10, embed=16, hidden=16)
    half = lambda key: jax.tree.map(jnp.bfloat16, model.init(key))  # noqa: E731
    work = pdl.Workload("half", model._replace(init=half), SGD, pdl.workloads.digits_mlp().batches)
    program = build(pdl.Compressed(DATA, pdl.PowerSGD(2)), work, data=4)
    state, metrics = program.step(program.init(half(jax.random.key(0))), work.batch(0))
    assert np.isfinite(metrics.loss)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state.params)} == {"bfloat16"}
