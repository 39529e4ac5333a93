"""Data: what is in the box, and how it is cut into batches."""

import itertools

import jax
import numpy as np
import optax
import pytest

import pdlkit as pdl
from pdlkit.data import WithNoise, addition, as_batches, diabetes, digits, sines, spell


def rows(batches, seed=0, epochs=1) -> list[np.ndarray]:
    """Return the examples of each epoch, in the order in which they are taught."""
    ks = range(len(batches) * epochs)
    taught = [batches.batch(k, seed)[0] for k in ks]
    return np.split(np.concatenate(taught), epochs)


def numbered(examples=100, **options):
    """Return batches of examples that are their own numbers."""
    return pdl.batches(np.arange(examples), **options)


# --- the data sets


def test_digits():
    """1,797 images of 8 by 8 pixels between 0 and 1, and which of ten digits each shows."""
    images, labels = digits()
    assert (images.shape, images.dtype) == ((1797, 8, 8, 1), np.float32)
    assert (labels.shape, labels.dtype) == ((1797,), np.int32)
    assert sorted(set(labels.tolist())) == list(range(10))
    assert (images.min(), images.max()) == (0, 1)
    assert min(np.bincount(labels)) > 170  # no digit is rare


def test_an_image_shows_its_digit():
    """Images stand with their own labels: the nearest mean image names most digits."""
    images, labels = digits()
    flat = images.reshape(len(images), -1)
    means = np.stack([flat[labels == digit].mean(0) for digit in range(10)])
    nearest = ((flat[:, None] - means) ** 2).sum(-1).argmin(1)
    assert (nearest == labels).mean() > 0.85


def test_diabetes():
    """442 patients, ten measures and the progression, each of mean 0 and deviation 1."""
    measures, progression = diabetes()
    assert measures.shape == (442, 10)
    assert progression.shape == (442, 1)
    for x in (measures, progression):
        assert x.dtype == np.float32
        np.testing.assert_allclose(x.mean(0, dtype=float), 0, atol=1e-6)
        np.testing.assert_allclose(x.std(0, dtype=float), 1, atol=1e-6)


def test_progression_follows_the_measures():
    """Patients stand with their own progression: a straight line explains half of it."""
    measures, progression = diabetes()
    line, *_ = np.linalg.lstsq(measures, progression, rcond=None)
    assert 0.4 < np.mean((measures @ line - progression) ** 2) < 0.6


@pytest.mark.parametrize("digits", [1, 2, 3])
def test_addition(digits):
    """Every sum is right, spelled once, and answered from its last digit to its first."""
    tokens, targets = addition(digits, 90)
    asked = {spell(row).partition("=")[0] for row in tokens}
    assert len(asked) == 90
    for row, nexts in zip(tokens, targets, strict=True):
        question, _, begun = spell(row).partition("=")
        a, b = question.split("+")
        answer = str(int(a) + int(b)).zfill(digits + 1)[::-1]
        assert (len(a), len(b), begun) == (digits, digits, answer[:-1])
        assert spell(nexts) == "_" * (2 * digits + 1) + answer


def test_every_sum_there_is():
    """As many sums as there are pairs of numbers can be had, and not one more."""
    tokens, _ = addition(1, 100)
    assert len(np.unique(tokens[:, :4], axis=0)) == 100
    with pytest.raises(
        ValueError, match=r"101 sums of 1-digit.*\n  why: there are 100 .*\n  try: "
    ):
        addition(1, 101)


def test_sines():
    """Targets are the values that come next; half of what varies, the past foretells."""
    values, nexts = sines(512, 24)
    assert values.shape == nexts.shape == (512, 24, 1)
    np.testing.assert_array_equal(values[:, 1:], nexts[:, :-1])
    np.testing.assert_allclose([values.mean(), values.var()], [0, 1.01], atol=0.03)
    past, last = values[..., 0], nexts[:, -1, 0]
    line, *_ = np.linalg.lstsq(past, last)
    assert np.mean((past[:, -1] - last) ** 2) > 0.4  # no wave stands still
    assert 0.01 < np.mean((past @ line - last) ** 2) < 0.1


@pytest.mark.parametrize("make", [addition, sines])
def test_what_is_made_up_follows_its_seed(make):
    """Sequences are a pure function of their seed."""
    one, same, other = (make(seed=seed)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


# --- batches


def test_the_split_is_disjoint():
    """No example is both taught and held out; together they are all there is."""
    batches = numbered(100, size=10, held_out=0.3)
    (taught,), (held,) = batches.arrays, batches.held_out
    assert len(held) == 30
    assert sorted([*taught, *held]) == list(range(100))


def test_the_split_never_changes():
    """Which examples are held out depends on their number alone, not on when it is asked."""
    one, other = numbered(size=10), pdl.batches(np.arange(100), np.ones((100, 3)), size=7)
    np.testing.assert_array_equal(one.held_out[0], other.held_out[0])
    assert list(one.held_out[0]) != list(range(80, 100))  # drawn, not cut off the end


def test_rows_stay_together():
    """Row i of every array in a batch is the same example."""
    x = np.arange(100)
    batches = pdl.batches(x, 7 * x, [[i, i] for i in range(100)], size=9)
    for one, seven, pair in [*batches, batches.held_out]:
        np.testing.assert_array_equal(7 * one, seven)
        np.testing.assert_array_equal(np.stack([one, one], 1), pair)


def test_a_batch_is_a_function_of_seed_and_number():
    """Asked again, in any order, from another object, a batch holds the same examples."""
    asked = [(0, 0), (13, 0), (2, 7), (500, 3)]
    first = [numbered(size=10).batch(k, seed)[0] for k, seed in asked]
    batches = numbered(size=10)
    again = [batches.batch(k, seed)[0] for k, seed in reversed(asked)]
    np.testing.assert_array_equal(first, again[::-1])
    assert not np.array_equal(batches.batch(0, 0)[0], batches.batch(0, 1)[0])


def test_an_epoch_shows_no_example_twice():
    """Every epoch takes each example at most once, and leaves out less than a batch."""
    batches = numbered(100, size=9, held_out=0.2)
    assert len(batches) == 80 // 9
    taught = set(batches.arrays[0].tolist())
    for epoch in rows(batches, epochs=4):
        assert len(epoch) == len(set(epoch.tolist())) == 72
        assert set(epoch.tolist()) <= taught


def test_epochs_and_seeds_differ():
    """Each epoch, and each seed, has an order of its own."""
    batches = numbered(size=10)
    orders = rows(batches, 0, epochs=3) + rows(batches, 1, epochs=2)
    for one, other in itertools.combinations(orders, 2):
        assert sorted(one) == sorted(other)
        assert not np.array_equal(one, other)


def test_iterating_anew_gives_the_same_order():
    """`work.batches` can be gone through twice, and each time is the first epoch."""
    work = pdl.workloads.diabetes_mlp()
    one, other = list(work.batches), list(work.batches)
    assert len(one) == len(work.batches) == (442 - 88) // 64
    jax.tree.map(np.testing.assert_array_equal, one, other)
    jax.tree.map(np.testing.assert_array_equal, one, [work.batch(k) for k in range(len(one))])


def test_changing_a_batch_changes_nothing_else():
    """A batch is a copy: writing into it leaves the data as it was."""
    batches = numbered(size=10)
    before = batches.batch(0)[0].copy()
    batches.batch(0)[0][:] = -1
    np.testing.assert_array_equal(batches.batch(0)[0], before)


def test_noise_beside_batches():
    """Each batch brings fresh normal numbers, the same whenever it is asked for."""
    plain, batches = numbered(size=10), WithNoise(numbered(size=10), 500)
    asked = [(0, 0), (1, 0), (0, 1), (8, 0)]  # number 8 begins the next epoch
    found = [batches.batch(k, seed) for k, seed in asked]
    for (k, seed), (numbers, noise) in zip(asked, found, strict=True):
        np.testing.assert_array_equal(numbers, plain.batch(k, seed)[0])
        np.testing.assert_array_equal(noise, batches.batch(k, seed)[1])
        assert (noise.shape, noise.dtype) == ((10, 500), np.float32)
        np.testing.assert_allclose([noise.mean(), noise.std()], [0, 1], atol=0.05)
    drawn = [batches.held_out[1], *(noise for _, noise in found)]
    rows = min(map(len, drawn))
    for one, other in itertools.combinations([noise[:rows] for noise in drawn], 2):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.1
    assert len(batches) == len(plain) == len(list(batches))
    jax.tree.map(np.testing.assert_array_equal, batches.held_out, batches.held_out)


# --- a learner's own data


def test_your_own_arrays():
    """A tuple of arrays is shuffled into batches of 64, a fifth of it held out."""
    x, y = np.random.default_rng(0).normal(size=(2, 500, 4))
    work = pdl.Workload("mine", pdl.models.mlp(4, 4), optax.sgd(0.1), (x, y))
    assert [part.shape for part in work.batch(0)] == [(64, 4), (64, 4)]
    assert len(work.batches.held_out[0]) == 100


def test_your_own_batches():
    """A list of batches is taken as it is, round and round, whatever the seed."""
    mine = [(np.full((4, 2), k), np.full(4, k)) for k in range(3)]
    work = pdl.Workload("mine", pdl.models.mlp(2, 2), optax.sgd(0.1), mine)
    assert [int(work.batch(k, seed=k)[1][0]) for k in range(7)] == [0, 1, 2, 0, 1, 2, 0]
    assert [int(batch[1][0]) for batch in work.batches] == [0, 1, 2]
    assert as_batches(work.batches) is work.batches


def test_a_workload_knows_its_batches():
    """A model learns from its workload what a batch looks like, so a build can check it."""
    work = pdl.workloads.digits_mlp()
    assert pdl.models.mlp().example is None
    assert [(x.shape, x.dtype) for x in work.model.example] == [
        ((128, 64), np.float32),
        ((128,), np.int32),
    ]


def test_the_score_is_taken_on_what_is_held_out():
    """`score` is the share of held-out digits named right, or the model's own loss."""
    work = pdl.workloads.digits_mlp()
    params = work.model.init(jax.random.key(0))
    images, labels = work.batches.held_out
    guesses = np.argmax(work.model.predict(params, (images, labels)), -1)
    assert work.score(params) == pytest.approx(np.mean(guesses == labels))
    plain = pdl.Workload("plain", work.model, work.optimizer, work.batches)
    assert plain.score(params) == pytest.approx(float(work.model.loss(params, (images, labels))))


# --- what cannot be


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        (
            (np.ones(10), np.ones(9)),
            {},
            r"the arrays hold 10, 9 examples\.\n  why: example i .*\n  try: cut them",
        ),
        ((), {}, r"the arrays hold no examples\.\n  why: .*\n  try: "),
        (
            (np.ones(50),),
            {},
            r"a batch of 64 cannot be filled: 40 examples are there to learn from\.\n"
            r"  why: .*, and 10 of the 50 are held out to be judged on\.\n  try: size=5, or",
        ),
        ((np.ones(50),), {"size": 0}, r"a batch of 0 cannot be filled.*\n  why: .*\n  try: "),
        ((np.ones(50),), {"held_out": 1.0}, r"cannot be filled: 0 examples.*\n  why: .*\n  try: "),
        ((np.ones(50),), {"size": 5, "held_out": -0.5}, r"held_out.*\n  why: .*\n  try: "),
        ((np.ones(50),), {"size": 5, "held_out": 1.5}, r"held_out.*\n  why: .*\n  try: "),
    ],
)
def test_arrays_that_make_no_batches(arrays, options, message):
    """Arrays of other lengths, or too short for a batch, are refused with their lengths."""
    with pytest.raises(ValueError, match=message):
        pdl.batches(*arrays, **options)


@pytest.mark.parametrize(
    "given",
    [[], {"x": np.ones((64, 4)), "y": np.ones(64)}, np.ones((64, 4)), [([[1.0, 2.0]], [1])]],
    ids=["no batches", "a dict of arrays", "one array", "lists of numbers"],
)
def test_what_is_no_batches(given):
    """What cannot be taken for batches is refused, and the three ways to give them named."""
    with pytest.raises((ValueError, TypeError), match=r"\n  why: .*\n  try: "):
        pdl.Workload("mine", pdl.models.mlp(4, 2), optax.sgd(0.1), given)


def test_nothing_held_out_is_no_score():
    """Batches cut by you, or with nothing held out, have nothing to score on."""
    x, y = np.ones((80, 4), np.float32), np.zeros(80, np.int32)
    for given in ([(x, y)], pdl.batches(x, y, held_out=0)):
        work = pdl.Workload("mine", pdl.models.mlp(4, 2), optax.sgd(0.1), given)
        with pytest.raises(ValueError, match=r"mine holds no examples out.*\n  why: .*\n  try: "):
            work.score(work.model.init(jax.random.key(0)))


def test_a_notebook_shows_a_workload_and_a_program_in_a_line():
    """What stands alone in a cell says what it is, in words that never vary."""
    work = pdl.workloads.digits_mlp()
    program = pdl.DataParallel().build(work.model, work.optimizer, pdl.mesh(data=4, model=2))
    assert repr(work) == "<workload digits_mlp: 11 batches an epoch>"
    assert repr(program) == "<program on data=4 x model=2>"
