"""The checks that lessons end in: they pass what is right, and name what is wrong."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import pdlkit as pdl
from pdlkit.models.layers import ALONE

WEIGHTS = 4 * (10 * 8 + 8 + 2 * (8 * 16 + 16 + 16 * 8 + 8) + 8 + 1)  # bytes of the model below


@pytest.fixture(scope="module")
def patients():
    """A small regression with Adam, which hides a gradient that is n times too large."""
    work = pdl.workloads.diabetes_mlp()
    model = pdl.models.mlp(10, 1, embed=8, hidden=16, head=pdl.models.regress)
    return dataclasses.replace(work, model=model)


@pytest.fixture(scope="module")
def program(patients):
    """What is right: data parallelism over eight devices."""
    return build(pdl.DataParallel(), patients)


def build(strategy, work, **axes):
    return strategy.build(work.model, work.optimizer, pdl.mesh(**axes or {"data": 8}))


def says(what: str, why: str, fix: str) -> str:
    return f"^{what}\n  why: {why}\n  try: {fix}$"


# --- strategies that are wrong


class Wrong(pdl.DataParallel):
    """Data parallelism whose devices each spoil their share of the gradients."""

    def spoil(self, grads, batch):
        raise NotImplementedError

    def gradients(self, model, layers, mesh):
        share = super().gradients(model, layers, mesh)

        def spoiled(params, batch):
            grads, metrics = share(params, batch)
            return self.spoil(grads, batch), metrics

        return spoiled


class Summed(Wrong):
    """Sums the mean gradients of eight shares, and forgets to divide."""

    def spoil(self, grads, batch):
        return jax.tree.map(lambda grad: 8 * grad, grads)


class Averaged(Wrong):
    """Divides twice."""

    def spoil(self, grads, batch):
        return jax.tree.map(lambda grad: grad / 8, grads)


class Apart(Wrong):
    """Never lets the gradients meet: each device but the first is unheard."""

    def spoil(self, grads, batch):
        first = lax.axis_index(self.axis) == 0
        return jax.tree.map(lambda grad: jnp.where(first, 8 * grad, 0), grads)


class OneBias(Wrong):
    """Forgets to send a single small array: the bias of the last layer."""

    def spoil(self, grads, batch):
        first = lax.axis_index(self.axis) == 0
        bias = jnp.where(first, 8 * grads["last"]["b"], 0)
        return {**grads, "last": {**grads["last"], "b": bias}}


class Poisoned(Wrong):
    """Makes a gradient NaN."""

    def spoil(self, grads, batch):
        return {**grads, "first": jax.tree.map(lambda grad: grad * jnp.nan, grads["first"])}


class Deaf(Wrong):
    """Learns nothing."""

    def spoil(self, grads, batch):
        return jax.tree.map(jnp.zeros_like, grads)


# --- same_update


def test_what_is_right_passes(program, patients):
    """A right program passes, and prints one line that never varies."""
    passed = pdl.check.same_update(program, patients)
    assert repr(passed) == "passed: same updates as one device, over 3 batches"
    assert 0 <= passed.error < 1e-4


@pytest.mark.parametrize(
    ("strategy", "times", "optimizer"),
    [
        (Summed(), "8", "adam"),
        (Averaged(), r"0\.125", "adam"),
        (Summed(), "8", "sgd"),
    ],
    ids=str,
)
def test_a_gradient_many_times_too_large(strategy, times, optimizer, patients):
    """Summed where it should be averaged: said to be 8 times, whatever the optimizer hides."""
    work = dataclasses.replace(patients, optimizer=getattr(optax, optimizer)(0.1))
    words = says(
        rf"the gradient of params\['blocks'\]\['down'\]\['b'\] is {times} times that of one "
        r"device\.",
        r"it was summed where it should be averaged, or the other way round\.",
        r"sum gradients once, by the strategy's cuts; send weighted means through layers\.mean\.",
    )
    with pytest.raises(AssertionError, match=words):
        pdl.check.same_update(build(strategy, work), work)


def test_adam_would_have_hidden_it(patients):
    """Without the check nothing would be seen: Adam makes the same steps of either gradient."""
    right, wrong = (
        pdl.fit(build(strategy, patients), patients, steps=20).params
        for strategy in (pdl.DataParallel(), Summed())
    )
    assert 0.95 < patients.score(wrong) / patients.score(right) < 1.05


def test_gradients_that_never_meet(patients):
    """A strategy that forgets the reduction learns from one device's share; it is found out."""
    words = says(
        r"the gradient of params\['blocks'\]\['down'\]\['b'\] differs from one device's by "
        r"\d[\d.]*%\.",
        r"a sum over devices is missing, or the loss is no plain mean over examples\.",
        ".*",
    )
    with pytest.raises(AssertionError, match=words):
        pdl.check.same_update(build(Apart(), patients), patients)


def test_a_single_array_is_enough(patients):
    """One bias that was not summed is found among arrays that are right, and named."""
    with pytest.raises(AssertionError, match=r"gradient of params\['last'\]\['b'\] differs from"):
        pdl.check.same_update(build(OneBias(), patients), patients)


@pytest.mark.parametrize("strategy", [Poisoned(), Deaf()], ids=str)
def test_nan_and_nothing_are_no_updates(strategy, patients):
    """Neither NaN nor a standstill passes for the right update, and no figure is made up."""
    with pytest.raises(AssertionError, match=r"^the gradient of params\['.*\n  why: .*\n  try: "):
        pdl.check.same_update(build(strategy, patients), patients)


def test_a_loss_that_is_no_plain_mean(patients):
    """A masked loss that does not go through `layers.mean` fails, and is told what to use."""

    def masked(params, batch, layers=ALONE):
        held = (batch[0][:, 0] > 0).astype(jnp.float32)
        losses = (patients.model.predict(params, batch, layers) - batch[1])[:, 0] ** 2
        return (held * losses).sum() / held.sum()

    work = dataclasses.replace(patients, model=patients.model._replace(loss=masked))
    words = r"differs from one device's by .*\n.* the loss is no plain mean.*\n.* layers\.mean\.$"
    with pytest.raises(AssertionError, match=words):
        pdl.check.same_update(build(pdl.DataParallel(), work), work)


def test_an_optimizer_that_sees_something_else(patients):
    """Gradients that agree are not enough: the optimizer must do what one device's does."""
    work = dataclasses.replace(patients, optimizer=optax.sgd(0.1))
    clipped = optax.chain(optax.clip_by_global_norm(0.1), work.optimizer)
    program = pdl.DataParallel().build(work.model, clipped, pdl.mesh(data=8))
    words = says(
        r"with its own optimizer the weights end \d[\d.]*% of the way off\.",
        r"the gradients of a first step agree, so it is another optimizer, copies that .*",
        r"build with work\.optimizer, take the strategy at its exact setting, or run .*",
    )
    with pytest.raises(AssertionError, match=words):
        pdl.check.same_update(program, work)


# --- moves_only


def test_what_moves_may_move(program, patients):
    """A program that sends what is allowed passes; so does one that sends nothing."""
    passed = pdl.check.moves_only(program, patients, {"all_reduce"})
    assert repr(passed) == "passed: one step sends `all_reduce`, and nothing else"
    exactly = pdl.check.moves_only(program, patients, {"all_reduce": WEIGHTS, "permute": 0})
    assert repr(exactly) == repr(passed)
    alone = pdl.check.moves_only(build(pdl.OneDevice(), patients, data=1), patients, set())
    assert repr(alone) == "passed: one step sends nothing"


def test_a_kind_that_is_not_allowed(program, patients):
    """Another kind of collective is refused, with its bytes and the line that asked for it."""
    words = says(
        rf"one step sends {WEIGHTS:,} bytes by all_reduce, but none of it is allowed\.",
        r"counted in the compiled program; .*meeting\.py:\d+ asked for it\.",
        r"pdl\.inspect\(program, work\) shows every collective and its line\.",
    )
    for allowed in (set(), {"all_gather": 10**9}):
        with pytest.raises(AssertionError, match=words):
            pdl.check.moves_only(program, patients, allowed)


def test_more_bytes_than_allowed(program, patients):
    """One byte too many is too many, and both numbers are named."""
    counts = f"{WEIGHTS:,} bytes by all_reduce, but at most {WEIGHTS - 1:,} is allowed"
    words = rf"^one step sends {counts}\.\n.*\n.*$"
    with pytest.raises(AssertionError, match=words):
        pdl.check.moves_only(program, patients, {"all_reduce": WEIGHTS - 1})


def test_a_standstill_that_is_right_passes(patients):
    """Where one device moves nothing either, there is no difference; no steps, no answer."""
    still = dataclasses.replace(patients, model=_weightless(patients.model))
    built = pdl.DataParallel().build(still.model, still.optimizer, pdl.mesh(data=4))
    assert pdl.check.same_update(built, still).error == 0
    with pytest.raises(ValueError, match=r"^updates cannot be compared over 0 steps\."):
        pdl.check.same_update(built, still, steps=0)


def _weightless(model):
    """Return a model whose loss asks for no change."""
    loss = lambda params, batch, layers: 0.0 * model.loss(params, batch, layers)  # noqa: E731
    return model._replace(loss=loss, parts=None)


# --- fits_in


def test_fits_in(program, patients):
    """A step's memory is counted by the compiler: just enough passes, one byte less does not."""
    memory = pdl.inspect(program, patients).memory
    passed = pdl.check.fits_in(program, patients, bytes=memory.total)
    assert re.match(r"^passed: one step fits into [\d.]+ kB a device$", repr(passed))
    words = says(
        rf"one step takes {memory.total:,} bytes on each device, but only "
        rf"{memory.total - 1:,} are there\.",
        r"counted: arguments [\d.]+ kB, outputs \(not in place\) [\d.]+ k?B, "
        r"temporaries [\d.]+ k?B\.",
        r"a smaller batch, or a strategy that keeps less on each device\.",
    )
    with pytest.raises(AssertionError, match=words):
        pdl.check.fits_in(program, patients, bytes=memory.total - 1)


def test_arguments_are_what_is_put_in(patients):
    """The memory that a step's arguments take is the weights, Adam's two copies, and the batch."""
    memory = pdl.inspect(build(pdl.OneDevice(), patients, data=1), patients).memory
    given = 3 * WEIGHTS + 4 * 64 * (10 + 1)
    assert given <= memory.arguments <= given + 64  # and a few counters
    assert np.isclose(memory.outputs, 3 * WEIGHTS, atol=64 + 8 * 40)  # and a table of arrays
