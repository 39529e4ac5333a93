"""Uneven shares: each device works on its own number of examples, and the law holds."""

import collections
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import plain
import pytest
from test_law import OPTIMIZERS, alone, assert_close, run

import pdlkit as pdl
from pdlkit.models.layers import ALONE
from pdlkit.strategies.uneven import UnevenDataParallel, apportioned, balanced_shares
from pdlkit.training.shares import device_seconds

CASES = {  # name: shares, mesh; a batch has 128 examples
    "85 and 43": ((2, 1), {"data": 2}),
    "one takes nothing": ((5, 0, 2, 1), {"data": 4}),
    "others idle": ((3, 1), {"model": 2, "data": 2}),
}


@pytest.mark.parametrize("case", CASES)
def test_same_weights_as_one_device(case, digits):
    """Three steps on unequal shares leave the weights and losses of one device."""
    shares, axes = CASES[case]
    params, losses = alone("sgd")
    here, seen = run(UnevenDataParallel(shares), axes, digits, optax.sgd(0.1))
    assert_close(here, params, 1e-6)
    np.testing.assert_allclose([metrics.loss for metrics in seen], losses, rtol=1e-5)


@pytest.mark.parametrize("optimizer", ["clipped", "lamb", "adafactor"])
def test_optimizers_that_look_across_arrays(optimizer, digits):
    """Clipping by the global norm, LAMB and Adafactor see what one device's would."""
    transform, tolerance = OPTIMIZERS[optimizer]
    here, _ = run(UnevenDataParallel((3, 1)), {"data": 2}, digits, transform, steps=1)
    assert_close(here, alone(optimizer, 1)[0], tolerance)


def test_the_check_agrees_for_adam(digits):
    """`check.same_update` passes, with the workload's own Adam too."""
    mesh = pdl.mesh(data=2)
    program = UnevenDataParallel((3, 1)).build(digits.model, digits.optimizer, mesh)
    assert "same updates" in str(pdl.check.same_update(program, digits))


def test_each_device_shows_the_loss_and_the_size_of_its_share(digits):
    """A device's loss is the model's on its rows, and its weight is their number."""
    (metrics,) = run(UnevenDataParallel((5, 0, 2, 1)), {"data": 4}, digits, optax.sgd(0.1), 1)[1]
    start, batch = digits.model.init(jax.random.key(0)), digits.batch(0)
    rows = [slice(0, 80), slice(80, 112), slice(112, 128)]
    own = [float(digits.model.loss(start, jax.tree.map(lambda x: x[r], batch))) for r in rows]  # noqa: B023
    assert metrics.device_weight.tolist() == [80, 0, 32, 16]
    np.testing.assert_allclose(metrics.device_loss[[0, 2, 3]], own, rtol=1e-5)


def masked_mean(digits, batch, layers, params):
    held = (batch[1] % 3 != 0).astype(jnp.float32)
    losses = layers.cross_entropy(digits.model.predict(params, batch, layers), batch[1])
    return layers.mean((held * losses).sum(), held.sum())


@pytest.mark.parametrize("beside", [0.0, 1.0], ids=["alone", "beside a plain mean"])
@pytest.mark.parametrize("shares", [(3, 1), (3, 0)], ids=str)
def test_means_over_the_whole_batch(beside, shares, digits):
    """`layers.mean` is that of the whole batch, though no device waits for another inside."""

    def loss(params, batch, layers=ALONE):
        mean = masked_mean(digits, batch, layers, params)
        return 2 * mean + beside * jnp.mean(digits.model.predict(params, batch, layers) ** 2)

    work = dataclasses.replace(digits, model=digits.model._replace(loss=loss))
    start = work.model.init(jax.random.key(0))
    params, (whole,) = plain.train(loss, optax.sgd(0.1), start, [work.batch(0)])
    here, (metrics,) = run(UnevenDataParallel(shares), {"data": 2}, work, optax.sgd(0.1), 1)
    assert_close(here, params, 1e-6)
    np.testing.assert_allclose(metrics.loss, whole, rtol=1e-5)


def test_a_loss_that_is_no_sum_of_its_means_is_refused(digits):
    """A root of a mean cannot be put together from shares, and the reader is told."""

    def loss(params, batch, layers=ALONE):
        return jnp.sqrt(masked_mean(digits, batch, layers, params))

    work = dataclasses.replace(digits, model=digits.model._replace(loss=loss))
    with pytest.raises(ValueError, match="not a sum of its means, and is taken in 2"):
        run(UnevenDataParallel((3, 1)), {"data": 2}, work, optax.sgd(0.1), 1)


def test_no_device_computes_on_padding(digits):
    """Each device runs the loss once, on its own rows and no others."""
    seen = []

    def loss(params, batch, layers=ALONE):
        jax.debug.callback(lambda x: seen.append(len(x)), batch[0])
        return digits.model.loss(params, batch, layers)

    work = dataclasses.replace(digits, model=digits.model._replace(loss=loss))
    run(UnevenDataParallel((5, 0, 2, 1)), {"data": 4}, work, optax.sgd(0.1), 1)
    jax.effects_barrier()
    assert sorted(seen) == [16, 32, 80]


def test_the_largest_share_is_what_is_counted(digits):
    """A step costs as many operations as the busiest device has examples."""
    counted = [
        pdl.inspect(UnevenDataParallel(shares).build(digits.model, optax.sgd(0.1), mesh), digits)
        for shares, mesh in (((3, 1), pdl.mesh(data=2)), ((1, 1), pdl.mesh(data=2)))
    ]
    assert counted[0].flops == 1.5 * counted[1].flops


def test_moves_as_it_says(digits):
    """One all-reduce of each gradient, and nothing more."""
    strategy, mesh = UnevenDataParallel((3, 1)), pdl.mesh(data=2)
    report = pdl.inspect(strategy.build(digits.model, optax.sgd(0.1), mesh), digits)
    assert collections.Counter(each._replace(source="") for each in report.asked) == (
        collections.Counter(strategy.moves(digits.model, mesh))
    )


def test_it_trains_in_the_loop(digits):
    """`fit` deals each batch before its step, and the loss falls."""
    program = UnevenDataParallel((3, 1)).build(digits.model, digits.optimizer, pdl.mesh(data=2))
    held = program.place(digits.batch(0)).rows[0]
    assert held.shape == (2, 96, 64)
    assert {piece.data.shape for piece in held.addressable_shards} == {(1, 96, 64)}
    run = pdl.fit(program, digits, steps=20)
    assert run.history[-1].loss < run.history[0].loss / 2


@pytest.mark.parametrize(
    ("shares", "examples", "rows"),
    [
        ((3, 1), 128, (96, 32)),
        ((1, 1, 1), 128, (43, 43, 42)),
        ((0.1, 0.2, 0.3), 6, (1, 2, 3)),
        ((7, 1), 3, (3, 0)),
        ((41, 29, 24, 6), 10, (4, 3, 2, 1)),  # quotas 4.1, 2.9, 2.4, 0.6
    ],
)
def test_apportioned_by_largest_remainder(shares, examples, rows):
    """Rows sum to the examples; who lost most by rounding down gets one more."""
    assert apportioned(shares, examples) == rows


def test_balanced_shares_take_equally_long():
    """Twice as slow is half as many: rows times seconds are the same everywhere."""
    rows = balanced_shares((0.01, 0.02, 0.04), 70)
    assert rows == (40, 20, 10)
    with pytest.raises(ValueError, match="a step cannot take 0 seconds"):
        balanced_shares((0.0, 1.0), 8)


def test_seconds_are_measured_for_every_device(digits):
    """Each device is timed alone, on a share of the same size."""
    seconds = device_seconds(digits, pdl.mesh(data=2), steps=2)
    assert len(seconds) == 2
    assert min(seconds) > 0
    assert sum(balanced_shares(seconds, 128)) == 128


@pytest.mark.parametrize("shares", [(1, 2, 3), (0, 0), (2, -1), (np.nan, 1)], ids=str)
def test_shares_that_cannot_be_dealt(shares, digits):
    """A wrong number of shares, a negative one, or nothing at all is told in `build`."""
    with pytest.raises(ValueError, match=r"cannot be dealt among data=2(.|\n)*try: 2 shares such"):
        UnevenDataParallel(shares).build(digits.model, optax.sgd(0.1), pdl.mesh(data=2))
