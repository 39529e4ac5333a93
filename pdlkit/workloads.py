"""A model, its data and its optimiser under one name."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import optax

from pdlkit import models
from pdlkit.data import WithNoise, addition, as_batches, batches, diabetes, digits, sines
from pdlkit.errors import lesson
from pdlkit.models.layers import ALONE
from pdlkit.models.scores import accuracy, energy_distance, whole_answers
from pdlkit.records import Model


@dataclasses.dataclass(frozen=True, repr=False)
class Workload:
    """All to train but the strategy: name, model, optimizer, batches.

    `batches` may be your own arrays, a tuple like (x, y), all of one length; a
    list of batches, cut by you; or what `pdl.batches` gives.
    """

    name: str
    model: Model
    optimizer: Any  # an optax transformation
    batches: Any
    metric: Callable | None = None  # model, params, held-out batch -> figure; None: the loss

    def __post_init__(self):
        given = as_batches(self.batches)
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), given.batch(0))
        object.__setattr__(self, "batches", given)
        object.__setattr__(self, "model", self.model._replace(example=shapes))

    def __repr__(self) -> str:
        return f"<workload {self.name}: {len(self.batches)} batches an epoch>"

    def batch(self, k: int, seed: int = 0):
        """Return batch `k`, a pure function of (seed, k), reshuffled each epoch."""
        return self.batches.batch(k, seed)

    def score(self, params) -> float:
        """Return the figure of merit on examples that training never sees.

        What it is, each workload says; the model's own loss where none is named.
        """
        held_out = self.batches.held_out
        if held_out is None or not len(jax.tree.leaves(held_out)[0]):
            raise ValueError(
                lesson(
                    f"{self.name} holds no examples out, so there is nothing to score on.",
                    why="a score on what was trained on says what was learned by heart.",
                    fix="pdl.batches(..., held_out=0.2).",
                )
            )
        metric = self.metric or (lambda model, *given: model.loss(*given, ALONE))
        return float(jax.jit(partial(metric, self.model))(jax.device_get(params), held_out))


def digits_mlp() -> Workload:
    """Handwritten digits, 64 numbers each, by a residual MLP; the score is accuracy.

    After 100 steps about 0.98.
    """
    model = models.mlp(64, 10)
    images, labels = digits()
    arrays = batches(_flat(images), labels, size=128)
    return Workload("digits_mlp", model, _adam(2e-3), arrays, accuracy)


def digits_cnn(*, normalise: bool = False) -> Workload:
    """Handwritten digits, 8 by 8 pixels, by the classic CNN; the score is accuracy.

    After 50 steps about 0.96, and with `normalise`, by statistics of the whole
    batch, 0.98.
    """
    model = models.cnn((8, 8, 1), 10, normalise=normalise)
    return Workload("digits_cnn", model, _adam(2e-3), batches(*digits(), size=128), accuracy)


def diabetes_mlp() -> Workload:
    """Disease progression by a small residual MLP; the score is its squared error.

    The target is standardised, so a score of 1 is what guessing the mean gets.
    After 100 steps about 0.57.
    """
    model = models.mlp(10, 1, embed=8, hidden=16, blocks=1, head=models.regress)
    return Workload("diabetes_mlp", model, _adam(2e-3), batches(*diabetes(), size=64))


def rnn() -> Workload:
    """The next value of a sum of two sines, by Elman's network; scored by its error.

    The error is squared: guessing the mean gets 1, the noise alone is 0.01. After
    300 steps about 0.09.
    """
    return Workload("rnn", models.rnn(), _adam(5e-3), batches(*sines(), size=128))


def gru() -> Workload:
    """The same sines as `rnn`, by gated recurrent units; after 300 steps about 0.075."""
    return Workload("gru", models.gru(), _adam(5e-3), batches(*sines(), size=128))


def autoencoder() -> Workload:
    """Digits through 8 numbers and back; the score is the squared error of a pixel.

    The best 8 numbers of a straight projection (PCA) get 0.025. After 300 steps
    about 0.022, after 1000 about 0.016.
    """
    arrays = batches(_flat(digits()[0]), size=128)
    return Workload("autoencoder", models.autoencoder(), _adam(5e-3), arrays)


def conv_autoencoder() -> Workload:
    """Digits through 2 by 2 pixels of 4 channels and back, by convolutions alone.

    The score is the squared error of a pixel. After 300 steps about 0.023.
    """
    arrays = batches(digits()[0], size=128)
    return Workload("conv_autoencoder", models.conv_autoencoder(), _adam(5e-3), arrays)


def variational_autoencoder() -> Workload:
    """Digits through 8 drawn numbers and back; the score is minus the evidence bound.

    In nats an image, lower is better. After 200 steps about 25.5.
    """
    arrays = WithNoise(batches(_flat(digits()[0]), size=128), 8)
    model = models.variational_autoencoder(code=8)
    return Workload("variational_autoencoder", model, _adam(5e-3), arrays)


def gan() -> Workload:
    """Digits made from noise; the score is the energy distance to digits held out.

    The mean image gets 1.28, other true digits 0.00. After 1000 steps about 0.15,
    after 2000 about 0.06; it wavers, for two descend against each other.
    """
    model = models.gan(latent=16)
    arrays = WithNoise(batches(_flat(digits()[0]), size=128), 16)
    # Momentum would remember what the adversary did before it moved on.
    return Workload("gan", model, _adam(2e-3, b1=0.0), arrays, energy_distance)


def transformer() -> Workload:
    """Sums such as 12+34=640 (46, ones first), by a causal transformer.

    The score is the share of sums never seen whose every digit is right. After
    500 steps about 0.99.
    """
    # 13 characters, but 16 rows in the table: rows and heads can be cut among 8 devices.
    model = models.transformer(16, embed=32, heads=8, hidden=128, padding=0)
    return _sums("transformer", model, _adam(5e-3))


def moe(*, capacity: float | None = None) -> Workload:
    """The sums of `transformer`, by 8 experts in each block, two of them for a token.

    After 650 steps about 0.97. With a `capacity` some experts are full, and what is
    dropped depends on which tokens are routed together: so it does on the mesh.
    """
    model = models.moe(16, embed=32, heads=8, hidden=64, capacity=capacity, padding=0)
    # A router that changes its mind makes gradients jump: a longer memory of their squares
    # (0.999) lets one such step undo a hundred others.
    return _sums("moe", model, _adam(3e-3, b2=0.95))


def _sums(name: str, model: Model, optimizer) -> Workload:
    return Workload(name, model, optimizer, batches(*addition(), size=128), whole_answers)


def _flat(images):
    return images.reshape(len(images), -1)


def _adam(learning_rate: float, **options: float):
    # The learning rate stands in the state, so that it can be turned while training.
    return optax.inject_hyperparams(optax.adam)(learning_rate=learning_rate, **options)
