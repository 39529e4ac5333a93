"""Many trainings at once: each member ends as it would alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import plain
import pytest
from test_law import OPTIMIZERS, assert_close

import pdlkit as pdl
from pdlkit.strategies.task import TaskParallel

EACH = {"task": 2}
SOME = (0, 1, 3)  # of four members: both of the first device, and one of the second


@pytest.fixture(scope="module")
def small(digits):
    """The digits by one narrow block."""
    model = pdl.models.mlp(64, 10, embed=8, hidden=16, blocks=1)
    return dataclasses.replace(digits, model=model)


def starts(model, members):
    """Return [members, ...], params of seeds 0, 1, ..."""
    return jax.vmap(model.init)(jax.vmap(jax.random.key)(jnp.arange(members)))


def member(tree, i):
    return jax.tree.map(lambda x: x[i], tree)


def members_of(strategy, work, optimizer, batches):
    """Return the members' params, [members, ...], and the metrics of the last step."""
    program = strategy.build(work.model, optimizer, pdl.mesh(**EACH))
    state = program.init(starts(work.model, strategy.members))
    for batch in batches:
        state, metrics = program.step(state, program.place(batch))
    return program.gather(state), jax.device_get(metrics)


@pytest.mark.parametrize("optimizer", ["sgd", "clipped", "lamb", "adafactor"])
def test_each_member_ends_as_it_would_alone(optimizer, small):
    """Of four seeds on two devices, each has the weights and losses of one device."""
    transform, tolerance = OPTIMIZERS[optimizer]
    batches = [small.batch(k) for k in range(2)]
    here, metrics = members_of(TaskParallel(4), small, transform, batches)
    losses = []
    for i in SOME:
        start = member(starts(small.model, 4), i)
        params, (_, last) = plain.train(small.model.loss, transform, start, batches)
        assert_close(member(here, i), params, tolerance)
        losses.append(last)
    shown = metrics.notes["member_loss"]  # [devices, members of each]
    np.testing.assert_allclose(shown.ravel()[list(SOME)], losses, rtol=1e-5)
    np.testing.assert_allclose(metrics.device_loss, shown.mean(1), rtol=1e-6)


def test_each_member_has_its_own_learning_rate(small):
    """A sweep: all begin with the same weights, and go on by their own settings."""
    rates = (0.05, 0.1, 0.2, 0.4)
    sweep = TaskParallel(4, settings={"learning_rate": rates})
    optimizer = optax.inject_hyperparams(optax.sgd)(learning_rate=1.0)
    program = sweep.build(small.model, optimizer, pdl.mesh(**EACH))
    run = pdl.fit(program, small, steps=3)
    batches = [small.batch(k) for k in range(3)]
    start = small.model.init(jax.random.key(0))
    for i in SOME:
        params, _ = plain.train(small.model.loss, optax.sgd(rates[i]), start, batches)
        assert_close(member(run.params, i), params, 1e-6)


def test_each_member_has_its_own_fold(small):
    """Cross-validation: each member is given the batch without one fold of its own."""

    def folds(batch):
        cut = jax.tree.map(lambda x: x.reshape(4, -1, *x.shape[1:]), batch)
        others = np.array([[j for j in range(4) if j != i] for i in range(4)])
        join = lambda x: x[others].reshape(4, -1, *x.shape[2:])  # noqa: E731
        return jax.tree.map(join, cut)

    work = pdl.Workload("folds", small.model, optax.sgd(0.1), [folds(small.batch(0))] * 2)
    here, _ = members_of(TaskParallel(4, own_batches=True), work, optax.sgd(0.1), [work.batch(0)])
    for i in SOME:
        own = [member(work.batch(0), i)]
        start = member(starts(small.model, 4), i)
        params, _ = plain.train(small.model.loss, optax.sgd(0.1), start, own)
        assert_close(member(here, i), params, 1e-6)


def test_members_of_one_start_pass_the_check(small):
    """From the same weights every member makes the updates of one device; nothing is sent."""
    program = TaskParallel(4).build(small.model, small.optimizer, pdl.mesh(**EACH))
    assert "same updates" in str(pdl.check.same_update(program, small))
    report = pdl.inspect(program, small)
    assert report.asked == report.collectives == TaskParallel(4).moves(small.model, program.mesh)
    alone = pdl.OneDevice().build(small.model, small.optimizer, pdl.mesh(data=1))
    assert report.flops == 2 * pdl.inspect(alone, small).flops


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (TaskParallel(3), r"3 members do not divide among task=2(.|\n)*2 or 4 members"),
        (TaskParallel(0), "0 members do not divide"),
        (TaskParallel(4, {"learning_rate": (1, 2)}), "`learning_rate` has 2 figures for 4 members"),
        (TaskParallel(4, {"temperature": (1,) * 4}), "this optimizer keeps no `temperature`"),
    ],
    ids=str,
)
def test_members_that_cannot_be(strategy, message, small):
    """What does not fit is told in `build`."""
    with pytest.raises(ValueError, match=message):
        strategy.build(small.model, small.optimizer, pdl.mesh(**EACH))
