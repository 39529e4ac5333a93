"""Two networks of one training on two devices: exact, and what lies between is sent."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import plain
import pytest
from test_law import OPTIMIZERS, assert_close, run

import pdlkit as pdl
from pdlkit.models.layers import ALONE
from pdlkit.models.parts import dense_params
from pdlkit.strategies.networks import NetworkPlacement


@pytest.fixture(scope="module")
def gan():
    """A small generator and discriminator of digits; a batch is 128 images and as much noise."""
    work = pdl.workloads.gan()
    return dataclasses.replace(work, model=pdl.models.gan(latent=16, hidden=32))


@pytest.fixture(scope="module")
def distillation(digits):
    """A student that learns what its teacher says; the teacher learns from the labels."""

    def init(key):
        one, other = jax.random.split(key)
        return {"teacher": dense_params(one, 64, 10), "student": dense_params(other, 64, 10)}

    def loss(params, batch, layers=ALONE):
        x, labels = batch
        teacher, student = (x @ params[k]["w"] + params[k]["b"] for k in ("teacher", "student"))
        told = jax.lax.stop_gradient(jax.nn.softmax(teacher / 2))
        apart = optax.losses.softmax_cross_entropy(student / 2, told)
        return jnp.mean(apart) + jnp.mean(layers.cross_entropy(teacher, labels))

    return dataclasses.replace(digits, model=pdl.Model(init, loss, axes=None))


@pytest.mark.parametrize("optimizer", ["sgd", "clipped", "lamb", "adafactor"])
def test_a_gan_trains_as_on_one_device(optimizer, gan):
    """The reversed gradient reaches the generator over the wire, and every optimizer is right."""
    transform, tolerance = OPTIMIZERS[optimizer]
    batches = [gan.batch(k) for k in range(2)]
    start = gan.model.init(jax.random.key(0))
    params, losses = plain.train(gan.model.loss, transform, start, batches)
    here, seen = run(NetworkPlacement(), {"network": 2}, gan, transform, steps=2)
    assert_close(here, params, tolerance)
    np.testing.assert_allclose([metrics.loss for metrics in seen], losses, rtol=1e-5)


def test_a_student_trains_as_on_one_device(distillation):
    """Teacher and student end as together on one device; no gradient reaches the teacher."""
    start = distillation.model.init(jax.random.key(0))
    batches = [distillation.batch(k) for k in range(2)]
    params, _ = plain.train(distillation.model.loss, optax.sgd(0.1), start, batches)
    strategy = NetworkPlacement("teacher", "student")
    here, _ = run(strategy, {"network": 2}, distillation, optax.sgd(0.1), steps=2)
    assert_close(here, params, 1e-6)


def test_images_are_sent_and_their_gradients_come_back(gan):
    """[128, 64] pixels go to the discriminator, and as many numbers come back."""
    mesh = pdl.mesh(network=2)
    moves = NetworkPlacement().moves(gan.model, mesh)
    assert [(move.kind, move.payload_bytes) for move in moves] == [("copy", 128 * 64 * 4)] * 2
    report = pdl.inspect(NetworkPlacement().build(gan.model, optax.sgd(0.1), mesh), gan)
    assert report.asked == report.collectives == moves


def test_each_network_has_its_own_device(gan):
    """After a step, weights and Adam's memory of them lie with their network."""
    mesh = pdl.mesh(network=2)
    program = NetworkPlacement().build(gan.model, optax.adam(1e-3), mesh)
    state, _ = program.step(program.init(gan.model.init(jax.random.key(0))), gan.batch(0))
    for i, name in enumerate(("generator", "discriminator")):
        held = state.params[name], state.optimizer[0].mu[name]
        assert {x.device for x in jax.tree.leaves(held)} == {mesh.devices[i]}


def test_what_cannot_be_placed(gan, digits):
    """Other params than those of two networks, or another mesh, are told in `build`."""
    with pytest.raises(ValueError, match="`generator` and `discriminator` are not what the params"):
        NetworkPlacement().build(digits.model, digits.optimizer, pdl.mesh(network=2))
    with pytest.raises(ValueError, match=r"a mesh of data=2(.|\n)*try: pdl.mesh\(network=2\)"):
        NetworkPlacement().build(gan.model, gan.optimizer, pdl.mesh(data=2))
