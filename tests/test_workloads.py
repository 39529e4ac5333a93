"""Workloads: each can be learned, and trained on many devices as on one."""

import dataclasses

import jax
import numpy as np
import optax
import plain
import pytest

import pdlkit as pdl
from pdlkit.data import addition
from pdlkit.models.scores import energy_distance, whole_answers

WORK = pdl.workloads
CASES = {  # name: workload, steps, a score that these steps reach and fresh weights do not
    "digits_mlp": (WORK.digits_mlp, 100, lambda accuracy: accuracy > 0.9),
    "digits_cnn": (WORK.digits_cnn, 50, lambda accuracy: accuracy > 0.9),
    "digits_cnn, normalised": (
        lambda: WORK.digits_cnn(normalise=True),
        50,
        lambda accuracy: accuracy > 0.95,
    ),
    # Guessing the mean gets 1.
    "diabetes_mlp": (WORK.diabetes_mlp, 100, lambda error: error < 0.7),
    "rnn": (WORK.rnn, 200, lambda error: error < 0.12),
    "gru": (WORK.gru, 200, lambda error: error < 0.1),
    # Below 0.025 it is better than any straight projection onto as many numbers.
    "autoencoder": (WORK.autoencoder, 300, lambda error: error < 0.0247),
    "conv_autoencoder": (WORK.conv_autoencoder, 150, lambda error: error < 0.04),
    "variational_autoencoder": (WORK.variational_autoencoder, 200, lambda nats: nats < 27),
    # The mean image, over and over, gets 1.28.
    "gan": (WORK.gan, 1000, lambda distance: distance < 0.4),
    "transformer": (WORK.transformer, 500, lambda right: right > 0.9),
    "moe": (WORK.moe, 650, lambda right: right > 0.9),
}
ON_MANY = ["digits_cnn, normalised", "rnn", "variational_autoencoder", "gan", "transformer", "moe"]


def difference_on_many(work) -> float:
    """Return how far a step on four devices is from one device's, relative to that step."""
    start, sgd = jax.jit(work.model.init)(jax.random.key(0)), optax.sgd(0.1)
    there, _ = plain.train(work.model.loss, sgd, start, [work.batch(0)])
    program = pdl.DataParallel().build(work.model, sgd, pdl.mesh(data=4))
    state, _ = program.step(program.init(start), work.batch(0))
    flat = lambda tree: np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])  # noqa: E731
    step = flat(there) - flat(start)
    return float(np.linalg.norm(flat(program.gather(state)) - flat(there)) / np.linalg.norm(step))


@pytest.mark.parametrize("case", CASES)
def test_every_workload_learns(case):
    """So many steps on one device take each workload past a score that means something."""
    make, steps, good = CASES[case]
    work = make()
    program = pdl.OneDevice().build(work.model, work.optimizer)
    assert not good(work.score(work.model.init(jax.random.key(0))))
    assert good(work.score(pdl.fit(program, work, steps=steps).params))


@pytest.mark.parametrize("case", ON_MANY)
def test_many_devices_make_the_step_of_one(case):
    """Statistics, masks, noise and balance terms are those of the whole batch, not of shares."""
    assert difference_on_many(CASES[case][0]()) < 1e-4


def test_padding_is_left_out_of_the_whole_batch():
    """The loss is a mean over all counted targets, also where shares hold more or fewer."""
    tokens, targets = addition(1, 16)
    targets[:3] = 0  # one example is left on the first device, four are on the others
    model = pdl.models.transformer(16, embed=8, heads=2, hidden=8, blocks=1, padding=0)
    work = pdl.Workload("uneven", model, optax.sgd(0.1), [(tokens, targets)])
    assert difference_on_many(work) < 1e-4


def test_with_full_experts_the_mesh_tells():
    """With a capacity, what is dropped depends on who is routed together, as it is said."""
    assert difference_on_many(WORK.moe(capacity=0.5)) > 1e-2


def test_a_workload_says_what_it_is():
    """Each workload is named as the function that makes it, and its score is explained."""
    for name, (make, *_) in CASES.items():
        assert make().name == name.partition(",")[0]
        doc = getattr(WORK, make().name).__doc__
        assert "steps" in doc, f"{name} does not say how far it comes"


# --- scores


def test_an_answer_is_right_as_a_whole():
    """One wrong digit spoils an answer; what is padded does not count."""
    guesses = np.array([[7, 1, 2], [7, 1, 3], [0, 1, 2]])
    model = _always(np.eye(8)[guesses])._replace(padding=0)
    targets = np.array([[0, 1, 2], [0, 1, 2], [0, 1, 2]])
    assert whole_answers(model, {}, (None, targets)) == pytest.approx(2 / 3)


def test_energy_distance():
    """It is 0 on average between equals, and 2|a - b| between two points far apart."""
    draw = np.random.default_rng(0)
    real, alike = draw.normal(size=(2, 300, 5)).astype(np.float32)
    score = lambda made: energy_distance(_always(made), {}, (real, None))  # noqa: E731
    assert abs(score(alike)) < 0.03
    far = np.full_like(real, 1e4)
    apart = np.linalg.norm(real[:, None] - real, axis=-1).sum() / (300 * 299)
    plain = 2 * np.linalg.norm(real - far, axis=-1).mean() - apart
    np.testing.assert_allclose(score(far), plain, rtol=1e-4)


def test_a_score_is_that_of_the_model_at_hand():
    """A model that takes another's place in a workload is the one that is scored."""
    work = WORK.digits_mlp()
    labels = work.batches.held_out[1]
    right = dataclasses.replace(work, model=_always(np.eye(10)[labels]))
    wrong = dataclasses.replace(work, model=_always(np.eye(10)[labels - 1]))
    assert (right.score({}), wrong.score({})) == (1, 0)


def _always(outputs) -> pdl.Model:
    return pdl.Model(lambda _: {}, lambda *_: 0.0, {}, predict=lambda *_: outputs)
