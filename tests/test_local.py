"""Local steps: copies that drift apart between meetings, and what their meetings send."""

import collections

import jax
import loose
import numpy as np
import optax
import pytest
from test_law import STEPS, assert_close

import pdlkit as pdl
from pdlkit.strategies.local import DiLoCo, LocalSGD

SGD, MOMENTUM = optax.sgd(0.1), optax.sgd(0.1, momentum=0.9)
STRATEGIES = {
    "local": LocalSGD,
    "diloco": lambda every: DiLoCo(every, outer=optax.sgd(1.0)),
    "diloco as published": DiLoCo,
}
each_exact = pytest.mark.parametrize("name", ["local", "diloco"])
each_strategy = pytest.mark.parametrize("name", STRATEGIES)


@each_exact
def test_meeting_after_each_step_is_one_device(name):
    """Copies that meet after each step leave one device's weights, with momentum too."""
    program = loose.build(STRATEGIES[name](1), MOMENTUM, data=4, model=2)
    state, seen = loose.run(program, loose.batches(STEPS))
    assert_close(program.gather(state), loose.alone(MOMENTUM, loose.batches(STEPS)), 1e-6)
    whole = loose.digits().model.loss(loose.start(), loose.batches(1)[0])
    np.testing.assert_allclose(seen[0].loss, whole, rtol=1e-5)
    assert seen[0].device_loss.shape == (8,)


@each_exact
def test_between_meetings_each_trains_on_its_own(name):
    """After `every` steps the weights are the mean of so many separate trainings."""
    program = loose.build(STRATEGIES[name](3), MOMENTUM, data=4)
    state, _ = loose.run(program, loose.batches(3))
    each = zip(*(loose.shares(batch, 4) for batch in loose.batches(3)), strict=True)
    apart = [loose.alone(MOMENTUM, own) for own in each]
    assert_close(program.gather(state), loose.mean(apart), 1e-6)


def test_copies_that_see_the_same_are_one():
    """With the same examples on each device, they train as one device on those examples."""
    small = jax.tree.map(lambda x: x[:16], loose.batches(1)[0])
    same = jax.tree.map(lambda x: np.concatenate([x] * 4), small)
    program = loose.build(LocalSGD(4), data=4)
    state, seen = loose.run(program, [same] * 6)
    assert_close(program.gather(state), loose.alone(SGD, [small] * 6), 1e-6)
    np.testing.assert_allclose([metrics.notes["pulled"] for metrics in seen], 0, atol=1e-7)


def test_the_outer_optimizer_steps_along_what_was_moved():
    """DiLoCo's gradient is how far the copies moved; its outer state lasts over meetings."""
    outer, params = DiLoCo().outer, loose.start()
    memory = outer.init(params)
    for first in (0, 2):
        pair = [loose.shares(loose.digits().batch(first + k), 4) for k in range(2)]
        ends = [loose.alone(SGD, own, params) for own in zip(*pair, strict=True)]
        moved = jax.tree.map(np.subtract, params, loose.mean(ends))
        change, memory = outer.update(moved, memory, params)
        params = optax.apply_updates(params, change)
    program = loose.build(DiLoCo(2), data=4)
    assert_close(program.gather(loose.run(program, loose.batches(4))[0]), params, 1e-6)


def test_copies_agree_where_they_meet_and_only_there():
    """The copies are one after a meeting and differ in between; `pulled` says how far."""
    program = loose.build(LocalSGD(2), data=4)
    state, seen = program.init(loose.start()), []
    for batch in loose.batches(4):
        state, metrics = program.step(state, batch)
        rows = jax.tree.leaves(jax.device_get(state.params))
        seen.append((max(np.ptp(row, axis=0).max() for row in rows), metrics.notes["pulled"].max()))
    (first, third), (second, fourth) = seen[::2], seen[1::2]
    assert min(*first[:1], *third[:1], second[1] * 10, fourth[1] * 10) > 1e-4
    assert second[0] == fourth[0] == first[1] == third[1] == 0


@each_strategy
def test_only_meetings_send(name):
    """A meeting all-reduces each weight once, and a step without one sends nothing."""
    strategy, work = STRATEGIES[name](500), loose.digits()
    report = pdl.inspect(loose.build(strategy, data=8), work)
    key = lambda each: (each.kind, each.axes, each.payload_bytes, each.times)  # noqa: E731
    # The trace counts the branch that meets, and all that stands outside of it.
    said = collections.Counter(map(key, strategy.moves(work.model, pdl.mesh(data=8))))
    assert collections.Counter(map(key, report.asked)) == said
    # Douillard et al. 2023, table 2: the 8N of data parallelism every H steps: 8N / H.
    assert {each.kind for each in report.collectives} == {"all_reduce"}
    sent = sum(each.payload_bytes * each.times for each in report.collectives)
    assert sent == loose.weight_bytes()
    picture = pdl.show(report)
    assert "each step: up to" in picture.title
    assert "what each device sends in one step at most" in [each.title for each in picture.panels]


@each_strategy
def test_a_run_goes_on_elsewhere(name):
    """A state goes from 8 devices to 2: the mean of the copies, and all they share."""
    here, there = (loose.build(STRATEGIES[name](2), MOMENTUM, data=ways) for ways in (8, 2))
    state, _ = loose.run(here, loose.batches(3))
    whole = jax.device_get(here.whole(state))
    moved = loose.placed(there, there.spread(whole))
    assert_close(there.whole(moved), whole, 1e-7)
    assert_close(there.gather(moved), here.gather(state), 1e-7)
    assert there.step(moved, loose.batches(1)[0])[0].step == 4


@pytest.mark.parametrize("name", ["local", "diloco as published"])
def test_digits_are_learned(name):
    """Meeting every eighth step still reads nine digits of ten after 160 steps."""
    program = loose.build(STRATEGIES[name](8), loose.digits().optimizer, data=4)
    assert loose.digits().score(pdl.fit(program, loose.digits(), steps=160).params) > 0.9


@pytest.mark.parametrize("strategy", [LocalSGD, DiLoCo])
def test_no_meetings(strategy):
    """To meet every 0 steps is refused."""
    words = f"{strategy.__name__} cannot meet every 0 steps.\n  why: .*\n  try: every=1"
    with pytest.raises(ValueError, match=words):
        strategy(every=0)


def test_a_mesh_without_the_axis():
    """The axis of the copies must be there, and the message names the strategy."""
    with pytest.raises(ValueError, match="LocalSGD works along mesh axis `data`, but"):
        loose.build(LocalSGD(), model=4)
