"""How good a model is, on examples it never saw: model, params, batch -> figure."""

import jax.numpy as jnp

from pdlkit.models.layers import ALONE
from pdlkit.records import Model


def accuracy(model: Model, params, batch):
    """Return the share of examples whose most likely class is the true one."""
    assert model.predict is not None, "accuracy needs a model that predicts"
    return jnp.mean(model.predict(params, batch, ALONE).argmax(-1) == batch[1])


def whole_answers(model: Model, params, batch):
    """Return the share of sequences with all targets right that are not padding.

    Just as many would be written right from what was asked alone, the likeliest
    token each time: up to its first mistake, a model reads its own answer.
    """
    assert model.predict is not None, "answers need a model that predicts"
    right = model.predict(params, batch, ALONE).argmax(-1) == batch[1]  # [batch, seq]
    return jnp.mean((right | (batch[1] == model.padding)).all(-1))


def energy_distance(model: Model, params, batch):
    """Return how far what a model makes is from what there is; 0 if alike.

    Twice the mean distance between one of either kind, less the mean distance
    between two of each.

    Source: Szekely and Rizzo 2013, "Energy statistics", doi:10.1016/j.jspi.2013.03.018
    """
    assert model.predict is not None, "a distance needs a model that makes something"
    real, made = batch[0], model.predict(params, batch, ALONE)
    others = len(real) * (len(real) - 1)  # pairs of two different ones
    apart = (_distances(real, real).sum() + _distances(made, made).sum()) / others
    return 2 * _distances(real, made).mean() - apart


def _distances(x, y):
    """[n, features], [m, features] -> [n, m]."""
    return jnp.linalg.norm(x[:, None] - y, axis=-1)
