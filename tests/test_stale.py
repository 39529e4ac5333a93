"""Stale gradients: applied late, by how much, and what a parameter server would send."""

import collections
import itertools

import jax
import loose
import numpy as np
import optax
import pytest
from test_law import STEPS, assert_close

import pdlkit as pdl
from pdlkit.strategies.clocks import clock_table, drawn_seconds
from pdlkit.strategies.stale import BoundedStaleness, StaleGradients

SGD, MOMENTUM = optax.sgd(0.1), optax.sgd(0.1, momentum=0.9)
UNEQUAL = (1.0, 1.0, 1.0, 0.4)
each_exact = pytest.mark.parametrize(
    "strategy", [StaleGradients(delay=0), BoundedStaleness(bound=0)], ids=["delay", "bound"]
)


def late(versions, batches):
    """Return what SGD leaves where device i of step t sees the weights of versions[t, i]."""
    weights, grad = [loose.start()], loose.gradient()
    for seen, batch in zip(versions, batches, strict=True):
        shares = loose.shares(batch, len(seen))
        grads = loose.mean(grad(weights[v], own) for v, own in zip(seen, shares, strict=True))
        weights.append(jax.tree.map(lambda x, g: x - 0.1 * g, weights[-1], grads))
    return weights[-1]


@each_exact
def test_without_delay_it_is_one_device(strategy):
    """Gradients that wait for the newest weights leave those of one device."""
    program = loose.build(strategy, MOMENTUM, data=4, model=2)
    state, seen = loose.run(program, loose.batches(STEPS))
    assert_close(program.gather(state), loose.alone(MOMENTUM, loose.batches(STEPS)), 1e-6)
    whole = loose.digits().model.loss(loose.start(), loose.batches(1)[0])
    np.testing.assert_allclose(seen[0].loss, whole, rtol=1e-5)


@pytest.mark.parametrize("delay", [1, 3])
def test_gradients_are_late_by_the_delay(delay):
    """Step t applies the gradient at the weights of step t - delay, and at first those of 0."""
    program = loose.build(StaleGradients(delay), data=4)
    state, seen = loose.run(program, loose.batches(7))
    versions = [[max(step - delay, 0)] for step in range(7)]
    assert_close(program.gather(state), late(versions, loose.batches(7)), 1e-6)
    assert all((metrics.notes["staleness"] == delay).all() for metrics in seen)


def test_each_device_is_as_late_as_its_clock_says():
    """The table of clocks is what is run: a loop that reads it leaves the same weights."""
    strategy = BoundedStaleness(bound=2, speeds=UNEQUAL, steps=6)
    program = loose.build(strategy, data=4)
    state, seen = loose.run(program, loose.batches(6))
    clocks = strategy.clocks(4)
    assert clocks.staleness.max() == 2
    assert (clocks.staleness[3] != clocks.staleness[3][0]).any()  # or devices could be mixed up
    assert_close(program.gather(state), late(clocks.version, loose.batches(6)), 1e-6)
    noted = [metrics.notes["staleness"] for metrics in seen]
    np.testing.assert_array_equal(noted, clocks.staleness)


def test_the_table_begins_anew():
    """After its last step the ages of the first come again."""
    program = loose.build(BoundedStaleness(bound=2, speeds=UNEQUAL, steps=4), data=4)
    _, seen = loose.run(program, loose.batches(6))
    ages = np.array([metrics.notes["staleness"] for metrics in seen])
    np.testing.assert_array_equal(ages[4:], ages[:2])


def test_bound_0_waits_for_the_slowest():
    """Without staleness each step takes as long as its slowest device."""
    seconds = drawn_seconds(UNEQUAL, steps=50, jitter=0.3, seed=1)
    clocks = clock_table(seconds, bound=0)
    np.testing.assert_allclose(clocks.seconds, seconds.max(axis=1).sum())
    assert (clocks.staleness == 0).all()
    assert clocks.pulled.all()


@pytest.mark.parametrize("bound", [0, 1, 4])
def test_a_clock_is_what_its_rules_say(bound):
    """No device starts early, reads what is not there or is too old, or waits for nothing."""
    seconds = drawn_seconds((1.0, 2.0, 0.7), steps=40, jitter=0.5, seed=2)
    clocks = clock_table(seconds, bound=bound)
    ends = np.vstack([np.zeros(3), clocks.end])  # ends[t] is when step t may begin
    there = ends.max(axis=1)
    for (step, device), version in np.ndenumerate(clocks.version):
        begin = clocks.start[step, device]
        assert step - bound <= version <= step
        assert there[version] <= begin
        assert version == step or there[version + 1] > begin  # the newest there is
        reasons = ends[step, device], there[max(step - bound, 0)]
        assert begin == max(reasons)


def test_looser_bounds_never_take_longer():
    """The looser the bound, the sooner all are done, and the older the weights."""
    seconds = drawn_seconds((1.0,) * 8, steps=200, jitter=0.5, seed=3)
    tables = [clock_table(seconds, bound=bound) for bound in (0, 1, 2, 4, 8)]
    assert all(a.seconds > b.seconds for a, b in itertools.pairwise(tables))
    ages = [table.staleness.mean() for table in tables]
    assert ages == sorted(ages)
    assert tables[-1].seconds >= seconds.sum(axis=0).max()


def test_clocks_can_be_replayed():
    """The same seed gives the same table, another seed another one; it prints in a line."""
    first, again, other = (BoundedStaleness(seed=seed).clocks(4) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.start, again.start)
    assert (first.start != other.start).any()
    assert str(BoundedStaleness(bound=0, jitter=0.0, steps=9).clocks(4)) == (
        "<clocks of 4 devices, 9 steps: weights 0.00 steps old on average, "
        "0% of the time spent waiting>"
    )


@pytest.mark.parametrize(
    "strategy", [StaleGradients(2), BoundedStaleness(2)], ids=["delay", "bound"]
)
def test_moves_as_it_says(strategy):
    """Late or not, the gradients are all-reduced once a step, and nothing else is sent."""
    work, mesh = loose.digits(), pdl.mesh(data=8)
    report = pdl.inspect(loose.build(strategy, data=8), work)
    key = lambda each: (each.kind, each.axes, each.payload_bytes, each.times)  # noqa: E731
    said = collections.Counter(map(key, strategy.moves(work.model, mesh)))
    assert collections.Counter(map(key, report.asked)) == said
    assert {each.kind for each in report.collectives} == {"all_reduce"}
    sent = sum(each.payload_bytes * each.times for each in report.collectives)
    assert sent == loose.weight_bytes()


def test_what_a_server_would_be_sent():
    """Each step each device pushes gradients, and pulls weights where there are newer ones."""
    work, mesh, size = loose.digits(), pdl.mesh(data=4), loose.weight_bytes()
    push, pull = BoundedStaleness(bound=0, steps=10).server_moves(work.model, mesh)
    assert (push.kind, push.payload_bytes, push.times) == ("copy", size, 40)
    assert (pull.kind, pull.payload_bytes, pull.times) == ("copy", size, 40)
    loosely = BoundedStaleness(bound=4, speeds=UNEQUAL, steps=10)
    push, pull = loosely.server_moves(work.model, mesh)
    assert push.times == 40
    versions = loosely.clocks(4).version
    assert pull.times == sum(len(set(column)) for column in versions.T) < 40


def test_a_run_goes_on_elsewhere():
    """Old weights go along from 8 devices to 2, and the next step is the same there."""
    here, there = (loose.build(StaleGradients(2), data=ways) for ways in (8, 2))
    state, _ = loose.run(here, loose.batches(4))
    moved = loose.placed(there, jax.device_get(there.spread(here.whole(state))))
    after = [p.step(s, loose.digits().batch(4))[0] for p, s in ((here, state), (there, moved))]
    assert_close(there.gather(after[1]), here.gather(after[0]), 1e-6)


def test_digits_are_learned():
    """With weights up to four steps old, nine digits of ten are read after 160 steps."""
    strategy = BoundedStaleness(bound=4, speeds=(*UNEQUAL, *UNEQUAL))
    program = loose.build(strategy, loose.digits().optimizer, data=8)
    assert loose.digits().score(pdl.fit(program, loose.digits(), steps=160).params) > 0.9


def test_what_cannot_be():
    """Negative delays, speeds that do not fit, devices that stand still, and hybrids."""
    with pytest.raises(ValueError, match="StaleGradients has a delay of -1 steps"):
        StaleGradients(-1)
    with pytest.raises(ValueError, match="BoundedStaleness has a bound of -2 steps"):
        BoundedStaleness(bound=-2)
    with pytest.raises(ValueError, match=r"there are 4 speeds, but data=8 devices\.\n  why"):
        loose.build(BoundedStaleness(speeds=UNEQUAL), data=8)
    with pytest.raises(ValueError, match=r"speeds are \[1.0, 0.0\] steps a second"):
        loose.build(BoundedStaleness(speeds=(1.0, 0.0)), data=2)
    for pair in ((StaleGradients(), pdl.DataParallel()), (pdl.DataParallel(), StaleGradients())):
        with pytest.raises(ValueError, match="StaleGradients cannot be part of a hybrid"):
            pair[0] | pair[1]
