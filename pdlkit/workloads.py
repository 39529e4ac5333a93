"""A model, its data and its optimiser under one name."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from pdlkit.data import as_batches, batches, diabetes, digits
from pdlkit.errors import lesson
from pdlkit.models import cnn, mlp, regress
from pdlkit.models.layers import ALONE
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
    metric: Callable | None = None  # params, held-out batch -> figure; by default the loss

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

        Accuracy (0 to 1, higher is better) for the digits, mean squared error
        (lower is better) for the diabetes data, else the model's own loss.
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
        metric = self.metric or (lambda params, batch: self.model.loss(params, batch, ALONE))
        return float(jax.jit(metric)(jax.device_get(params), held_out))


def accuracy(model: Model) -> Callable:
    """Return a metric: the share of examples whose most likely class is the true one."""

    def share_of_hits(params, batch):
        assert model.predict is not None, "accuracy needs a model that predicts"
        return jnp.mean(model.predict(params, batch, ALONE).argmax(-1) == batch[1])

    return share_of_hits


def digits_mlp() -> Workload:
    """Handwritten digits, 64 numbers each, by a residual MLP; the score is accuracy."""
    images, labels = digits()
    model = mlp(64, 10)
    arrays = batches(images.reshape(len(images), 64), labels, size=128)
    return Workload("digits_mlp", model, _adam(2e-3), arrays, accuracy(model))


def digits_cnn() -> Workload:
    """Handwritten digits, 8 by 8 pixels, by the classic CNN; the score is accuracy."""
    model = cnn((8, 8, 1), 10)
    return Workload("digits_cnn", model, _adam(2e-3), batches(*digits(), size=128), accuracy(model))


def diabetes_mlp() -> Workload:
    """Disease progression by a small residual MLP; the score is its squared error.

    The target is standardised, so a score of 1 is what guessing the mean gets.
    """
    model = mlp(10, 1, embed=8, hidden=16, blocks=1, head=regress)
    return Workload("diabetes_mlp", model, _adam(2e-3), batches(*diabetes(), size=64))


def _adam(learning_rate: float):
    # The learning rate stands in the state, so that it can be turned while training.
    return optax.inject_hyperparams(optax.adam)(learning_rate=learning_rate)
