"""Gradients in fewer bytes: what is sent, what is left out, and that it is not lost."""

import collections
import math

import jax
import jax.numpy as jnp
import loose
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P
from stand_ins import Tensor
from test_law import STEPS, assert_close

import pdlkit as pdl
from pdlkit.strategies.compressed import Compressed
from pdlkit.strategies.compression import EightBit, PowerSGD, RandomK, Sign, TopK

SGD = optax.sgd(0.1)
EXACT = {"top-k": TopK(1.0), "random-k": RandomK(1.0), "power": PowerSGD(16)}
CODECS = {
    "top-k": TopK(0.05),
    "random-k": RandomK(0.05),
    "sign": Sign(),
    "8-bit": EightBit(),
    "power": PowerSGD(2),
}
# What is sent, of what an all-reduce sends: on 8 devices, of small arrays.
RATIOS = {"top-k": 0.42, "random-k": 0.06, "sign": 0.15, "8-bit": 0.30, "power": 0.21}
each_codec = pytest.mark.parametrize("name", CODECS)
each_exact = pytest.mark.parametrize("name", EXACT)


def compressed(how, inner=None):
    return Compressed(inner or pdl.DataParallel(), how)


def payload(collectives):
    return sum(each.payload_bytes * each.times for each in collectives)


def exchanged(how, tree):
    """Return totals and what each device sent, of arrays [8, ...]: alike."""

    def one(rows):
        sent = how.exchange(rows[0], how.first(rows[0]), axes=("data",), key=jax.random.key(1))
        return sent.total[None], sent.own[None]

    def on_each_device(tree):
        leaves, form = jax.tree.flatten(tree)
        return [form.unflatten(found) for found in zip(*map(one, leaves), strict=True)]

    on_all = jax.shard_map(
        on_each_device,
        mesh=pdl.mesh(data=8),
        in_specs=P("data"),
        out_specs=P("data"),
        check_vma=False,
    )
    return jax.device_get(jax.jit(on_all)(tree))


def drawn(*shape):
    return np.random.default_rng(0).normal(size=(8, *shape)).astype(np.float32)


# --- the exact setting


@each_exact
def test_sending_all_is_one_device(name):
    """At a ratio of 1, or the full rank, the weights are those of one device."""
    program = loose.build(compressed(EXACT[name]), data=4, model=2)
    state, seen = loose.run(program, loose.batches(STEPS))
    assert_close(program.gather(state), loose.alone(SGD, loose.batches(STEPS)), 1e-6)
    whole = loose.digits().model.loss(loose.start(), loose.batches(1)[0])
    np.testing.assert_allclose(seen[0].loss, whole, rtol=1e-5)
    np.testing.assert_allclose([metrics.notes["residue"] for metrics in seen], 0, atol=1e-6)


@pytest.mark.parametrize("how", [TopK(1.0), EightBit()], ids=["top-k", "8-bit"])
def test_on_one_device_nothing_is_left_out(how):
    """Where there is nobody to send to, gradients stay as they are, by any codec."""
    program = loose.build(compressed(how), data=1)
    state, _ = loose.run(program, loose.batches(2))
    assert_close(program.gather(state), loose.alone(SGD, loose.batches(2)), 1e-6)


def test_beside_another_strategy():
    """In a hybrid, each device compresses its part, and the rest is as it was."""
    strategy = compressed(TopK(1.0)) | Tensor()
    assert strategy == compressed(TopK(1.0), pdl.DataParallel() | Tensor())
    program = loose.build(strategy, data=2, model=2)
    state, _ = loose.run(program, loose.batches(2))
    assert_close(program.gather(state), loose.alone(SGD, loose.batches(2)), 1e-6)


# --- nothing is lost


@each_codec
def test_what_is_not_sent_is_kept(name):
    """What all have sent and what they keep add up to their gradients, step for step."""
    program = loose.build(compressed(CODECS[name]), optax.sgd(1.0), data=4)
    state = program.init(loose.start())
    for batch in loose.batches(3):
        before = program.whole(state)
        state, metrics = program.step(state, batch)
        after, grads = program.whole(state), loose.gradient()(before.params, batch)
        sent = jax.tree.map(jnp.subtract, before.params, after.params)
        wanted = jax.tree.map(jnp.add, grads, before.memory.residue)
        assert_close(jax.tree.map(jnp.add, sent, after.memory.residue), wanted, 1e-6)
        assert (metrics.notes["residue"] > 0).all()
        assert metrics.notes["residue"].shape == (4,)


@each_codec
def test_totals_are_the_sums_of_what_was_sent(name):
    """All devices have one total, the sum of what each has sent, for arrays of any shape."""
    rows = [drawn(*shape) for shape in ((), (3,), (40,), (5, 7), (3, 4, 9))]
    for total, own in zip(*exchanged(CODECS[name], rows), strict=True):
        assert (total == total[:1]).all()
        np.testing.assert_allclose(total[0], own.sum(0), atol=1e-5)


# --- what each codec leaves out


def test_top_k_sends_the_largest():
    """Of 40 numbers the two largest in size arrive as they are, the others not at all."""
    rows = drawn(40)
    _, own = exchanged(TopK(0.05), rows)
    for row, sent in zip(rows, own, strict=True):
        largest = np.argsort(-np.abs(row))[:2]
        np.testing.assert_array_equal(np.flatnonzero(sent), np.sort(largest))
        np.testing.assert_array_equal(sent[largest], row[largest])


def test_random_k_sends_the_same_places_from_all():
    """Of 40 numbers two arrive as they are, from places that are the same on each device."""
    rows = drawn(40)
    _, own = exchanged(RandomK(0.05), rows)
    (places,) = {tuple(np.flatnonzero(row)) for row in own}
    assert len(places) == 2
    np.testing.assert_array_equal(own[:, places], rows[:, places])
    _, other = exchanged(RandomK(0.05, seed=1), rows)
    assert tuple(np.flatnonzero(other[0])) != places


def test_sign_sends_one_size():
    """Each number arrives as plus or minus the mean size, and so is nearer than nothing."""
    rows = drawn(43)
    _, own = exchanged(Sign(), rows)
    size = np.abs(rows).mean(1, keepdims=True)
    np.testing.assert_allclose(own, np.where(rows >= 0, size, -size), rtol=1e-6)
    # Karimireddy et al. 2019: a delta-contraction, delta = |x|_1^2 / (d |x|_2^2).
    delta = np.abs(rows).sum(1) ** 2 / (43 * (rows**2).sum(1))
    np.testing.assert_allclose(
        ((rows - own) ** 2).sum(1), (1 - delta) * (rows**2).sum(1), rtol=1e-4
    )


def test_8_bits_are_off_by_half_a_scale():
    """The total is off by at most half a scale for each device, and half one for the sum."""
    rows = drawn(43)
    total, _ = exchanged(EightBit(), rows)
    parts = np.pad(rows, ((0, 0), (0, 5))).reshape(8, 8, 6)  # [device, part, number]
    scales = np.abs(parts).max(2) / 127
    half = (scales.sum(0) + (np.abs(parts.sum(0)).max(1) + scales.sum(0)) / 127) / 2  # [part]
    off = np.abs(total[0] - rows.sum(0))
    assert (off <= np.repeat(half, 6)[:43] * (1 + 1e-4)).all()
    assert off.max() > 0.2 * half.max()


def test_power_sgd_is_exact_for_matrices_of_its_rank():
    """A sum of rank 2 arrives whole, tall or wide, and a vector always does."""
    left, right = drawn(9, 2), drawn(2, 6)[:1]
    for rows in (left @ right, np.swapaxes(left @ right, 1, 2)):
        np.testing.assert_allclose(exchanged(PowerSGD(2), rows)[0][0], rows.sum(0), atol=1e-4)
        assert np.abs(exchanged(PowerSGD(1), rows)[0][0] - rows.sum(0)).max() > 0.1
    np.testing.assert_allclose(exchanged(PowerSGD(1), drawn(6))[0][0], drawn(6).sum(0), atol=1e-5)


def test_power_sgd_turns_towards_the_largest_direction():
    """Step after step on one matrix, what rank 1 leaves out falls to what it must."""
    matrix, how = drawn(9, 6)[0] / 8, PowerSGD(1)
    x, kept, left = np.broadcast_to(matrix, (8, 9, 6)), how.first(jnp.asarray(matrix)), []
    mesh = pdl.mesh(data=8)

    def step(x, kept):
        sent = how.exchange(x[0], kept, axes=("data",), key=None)
        return sent.total, sent.kept

    on_all = jax.jit(
        jax.shard_map(step, mesh=mesh, in_specs=(P("data"), P()), out_specs=P(), check_vma=False)
    )
    for _ in range(30):
        total, kept = on_all(x, kept)
        left.append(np.linalg.norm(8 * matrix - total))
    best = np.linalg.norm(np.linalg.svd(8 * matrix, compute_uv=False)[1:])
    assert left[0] > 1.01 * best
    np.testing.assert_allclose(left[-1], best, rtol=1e-3)


# --- what is sent


@each_codec
def test_what_is_left_out_is_not_sent(name):
    """The compiled program sends no byte more than the codec says, far less than all."""
    strategy, work, mesh = compressed(CODECS[name]), loose.digits(), pdl.mesh(data=8)
    report = pdl.inspect(loose.build(strategy, data=8), work)
    said = strategy.moves(work.model, mesh)
    key = lambda each: (each.kind, each.axes, each.payload_bytes, each.times)  # noqa: E731
    assert collections.Counter(map(key, report.asked)) == collections.Counter(map(key, said))
    assert payload(report.collectives) <= payload(said)
    assert report.wire_bytes <= sum(each.wire_bytes for each in said)
    assert report.wire_bytes <= RATIOS[name] * 2 * 7 / 8 * loose.weight_bytes()


def test_a_hybrid_sends_its_parts():
    """Of an array cut over another axis, a device sends its part, compressed."""
    strategy, work = compressed(TopK(0.1)) | Tensor(), loose.digits()
    report = pdl.inspect(loose.build(strategy, data=2, model=2), work)
    of_gradients = lambda found: [each for each in found if each.axes == ("data",)]  # noqa: E731
    said = of_gradients(strategy.moves(work.model, pdl.mesh(data=2, model=2)))
    assert {each.kind for each in of_gradients(report.collectives)} == {"all_gather"}
    assert payload(of_gradients(report.collectives)) <= payload(said)
    # Half of each array but the last, a tenth of it, in 8 bytes a number.
    assert payload(said) == 8 * (52 + 1 + 8 + 1)
    assert any(each.axes == ("model",) for each in report.collectives)


def convolutions(width, inputs, stride):
    """Return the shapes of two residual blocks of a ResNet, [height, width, in, out]."""
    first = [(3, 3, inputs, width), (3, 3, width, width)]
    shortcut = [(1, 1, inputs, width)] if stride > 1 else []
    norms = [(width,)] * 2 * (4 + len(shortcut))
    return [*first, *shortcut, *[(3, 3, width, width)] * 2, *norms]


RESNET_18 = [
    (3, 3, 3, 64),
    *[(64,)] * 2,
    *convolutions(64, 64, 1),
    *convolutions(128, 64, 2),
    *convolutions(256, 128, 2),
    *convolutions(512, 256, 2),
    (512, 10),
    (10,),
]
LSTM = [(28_869, 650), *[(4 * 650, 650), (4 * 650, 650), (4 * 650,), (4 * 650,)] * 3, (28_869,)]


@pytest.mark.parametrize(
    ("shapes", "count", "ratios"),
    [
        (RESNET_18, 11_173_962, {1: 243.3, 2: 135.8, 4: 72.1}),
        (LSTM, 28_949_319, {1: 309.7, 2: 203.1, 4: 120.3}),
    ],
    ids=["resnet 18", "lstm"],
)
def test_power_sgd_sends_what_was_published(shapes, count, ratios):
    """ResNet-18 and a 3-layer LSTM shrink as in Vogels et al. 2019, table 3."""
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    assert sum(math.prod(shape) for shape in shapes) == count
    for rank, ratio in ratios.items():
        messages = [PowerSGD(rank).messages(array, 16) for array in arrays]
        sent = sum(each.payload_bytes for array in messages for each in array)
        np.testing.assert_allclose(4 * count / sent, ratio, atol=0.05)


# --- training


@each_codec
def test_digits_are_learned(name):
    """With what was left out sent later, nine digits of ten are read after 160 steps."""
    program = loose.build(compressed(CODECS[name]), optax.sgd(0.5), data=4)
    assert loose.digits().score(pdl.fit(program, loose.digits(), steps=160).params) > 0.9


def test_a_run_goes_on_elsewhere():
    """What was not sent on 8 devices is still to be sent on 2, and as much of it."""
    here, there = (loose.build(compressed(PowerSGD(2)), data=ways) for ways in (8, 2))
    state, _ = loose.run(here, loose.batches(2))
    whole = jax.device_get(here.whole(state))
    moved = loose.placed(there, there.spread(whole))
    assert_close(there.whole(moved), whole, 1e-7)
    assert there.step(moved, loose.batches(1)[0])[0].step == 3


# --- mistakes


@pytest.mark.parametrize("codec", [TopK, RandomK])
@pytest.mark.parametrize("ratio", [0.0, 1.5])
def test_a_ratio_is_a_share(codec, ratio):
    """No number, or more than all of them, cannot be sent."""
    with pytest.raises(ValueError, match=f"{codec.__name__} cannot send {ratio:g} of the numbers"):
        codec(ratio)


def test_a_rank_above_the_matrix():
    """A rank that no matrix has is refused in `build`, with the largest that one has."""
    words = (
        r"PowerSGD sends factors of rank 17, but no matrix .* above 16\.\n  why: .*\n  try: rank=16"
    )
    with pytest.raises(ValueError, match=words):
        loose.build(compressed(PowerSGD(17)), data=8)
    with pytest.raises(ValueError, match="PowerSGD cannot send factors of rank 0"):
        PowerSGD(0)


def test_gradients_in_parts():
    """ZeRO sums a gradient part by part, where it is kept, and leaves nothing to compress."""
    with pytest.raises(ValueError, match="Compressed cannot send the gradients of ZeRO"):
        loose.build(compressed(TopK(), pdl.ZeRO()), data=8)
