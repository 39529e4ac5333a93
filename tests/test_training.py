"""The loop: records out, callbacks in, and always a good state to go back to."""

import dataclasses
import functools
import os
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import plain
import pytest
from words import words

import pdlkit as pdl
from pdlkit.training.loop import EVERY

STRATEGIES = [
    pdl.OneDevice(),
    pdl.DataParallel(),
    pdl.Automatic(),
    pdl.PmapDataParallel(),
]


@pytest.fixture(scope="module")
def patients():
    """The smallest real workload, by SGD whose learning rate can be turned."""
    work = pdl.workloads.diabetes_mlp()
    optimizer = optax.inject_hyperparams(optax.sgd)(learning_rate=0.05)
    return dataclasses.replace(work, optimizer=optimizer)


@pytest.fixture(scope="module")
def program(build):
    """The same program for every test here: it is compiled once."""
    return build(pdl.DataParallel())


@pytest.fixture(scope="module")
def build(patients):
    """A builder that builds each strategy's program once for all tests here."""
    mesh = pdl.mesh(data=8)
    return functools.cache(lambda way: way.build(patients.model, patients.optimizer, mesh))


@pytest.fixture(scope="module")
def alone(patients):
    """What one device, in the shortest JAX there is, makes of ten batches: its losses."""
    start = patients.model.init(jax.random.key(0))
    batches = [patients.batch(k) for k in range(10)]
    return plain.train(patients.model.loss, optax.sgd(0.05), start, batches)


def losses(history) -> list[float]:
    return [record.loss for record in history]


def assert_equal(tree, other):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(tree), jax.device_get(other))


def at(step, answer):
    """Return a callback that answers after one step, and says nothing after the others."""
    return lambda record: answer if record.step == step else None


# --- records


def test_one_record_a_step(program, patients):
    """Records come one a step, numbered from the updates made before, each with its time."""
    seen = []
    for record in pdl.train(program, patients, steps=20):
        seen.append((record.step, int(record.state.step)))
        assert record.seconds > 0
        assert record.device_loss.shape == (8,)
        assert record.loss == pytest.approx(record.device_loss.mean(), rel=1e-6)
    assert seen == [(k, k + 1) for k in range(20)]


def test_the_losses_are_those_of_one_device(program, patients, alone):
    """What the records say is what one device would say, and so are the weights."""
    run = pdl.fit(program, patients, steps=10)
    np.testing.assert_allclose(losses(run.history), alone[1], rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), run.params, alone[0])


def test_fit_is_train(program, patients):
    """`fit` keeps what `train` hands out, numbers only, and the state it ends in."""
    records = [
        dataclasses.replace(record, state=None) for record in pdl.train(program, patients, steps=12)
    ]
    run = pdl.fit(program, patients, steps=12)
    assert [record.step for record in run.history] == list(range(12))
    assert losses(run.history) == losses(records)
    assert all(record.state is None for record in run.history)
    assert all(isinstance(record.metrics.device_loss, np.ndarray) for record in run.history)
    assert run.ended == "done"
    assert_equal(run.params, program.gather(run.state))
    assert repr(run) == "<run of diabetes_mlp: 12 steps, done>"


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_going_on_is_never_having_stopped(strategy, build, patients):
    """Five steps, and five more from their state, leave the bits that ten in a row leave."""
    program = build(strategy)
    whole = pdl.fit(program, patients, steps=10)
    half = pdl.fit(program, patients, steps=5)
    rest = pdl.fit(program, patients, steps=5, state=half.state)
    assert [record.step for record in rest.history] == [5, 6, 7, 8, 9]
    assert losses(half.history + rest.history) == losses(whole.history)
    assert_equal(rest.state, whole.state)


def test_a_seed_is_a_run(program, patients):
    """The same seed gives the same run to the last bit; another seed gives another run."""
    one, same, other = (pdl.fit(program, patients, steps=9, seed=seed) for seed in (3, 3, 4))
    assert losses(one.history) == losses(same.history)
    assert_equal(one.state, same.state)
    assert not set(losses(one.history)) & set(losses(other.history))


def test_a_seed_is_of_the_params_and_of_the_order(program, patients):
    """A seed gives the first params by `init`, and each step its batch by (seed, k)."""
    start = patients.model.init(jax.random.key(3))
    batches = [patients.batch(k, seed=3) for k in range(6)]
    _, expected = plain.train(patients.model.loss, optax.sgd(0.05), start, batches)
    run = pdl.fit(program, patients, steps=6, seed=3)
    np.testing.assert_allclose(losses(run.history), expected, rtol=1e-5)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_what_is_yours_stays_yours(strategy, build, patients):
    """The loop gives states away to their next step, but never yours, nor your params."""
    program = build(strategy)
    params = jax.jit(patients.model.init)(jax.random.key(0))
    before = jax.device_get(params)
    state = program.init(params)
    kept = jax.device_get(state)
    first = pdl.fit(program, patients, steps=10, state=state)
    ended = jax.device_get(first.state)
    again = pdl.fit(program, patients, steps=10, state=state)
    pdl.fit(program, patients, steps=2, state=first.state)
    assert_equal(params, before)
    assert_equal(state, kept)
    assert_equal(first.state, ended)
    assert_equal(again.state, ended)


def test_a_state_is_valid_until_the_next_record(program, patients):
    """A record's state can be read while it is the newest one, with every seed and step."""
    for record in pdl.train(program, patients, steps=11):
        params = program.gather(record.state)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


def test_a_state_of_other_devices(program, patients):
    """A state goes on where it lies; elsewhere it is refused, with the two ways to carry it."""
    run = pdl.fit(program, patients, steps=2)
    four = pdl.DataParallel().build(patients.model, patients.optimizer, pdl.mesh(data=4))
    message = (
        r"^the state lies on 8 devices, which are not the 4 of the program\.\n"
        r"  why: a step works on what its own devices hold\.\n"
        r"  try: program\.init\(run\.params\) .*pdl\.save and pdl\.load .*$"
    )
    with pytest.raises(ValueError, match=message):
        pdl.fit(four, patients, steps=1, state=run.state)
    pdl.fit(four, patients, steps=1, state=four.init(run.params))


def test_no_steps_at_all(program, patients):
    """A run of no steps has an empty history and the state it began with."""
    state = program.init(patients.model.init(jax.random.key(0)))
    run = pdl.fit(program, patients, steps=0, state=state)
    assert run.history == ()
    assert_equal(run.state, state)


def test_a_loop_whose_results_are_never_read_ends(program, patients):
    """Three hundred steps on eight devices, nothing read: the loop itself waits in time."""
    for record in pdl.train(program, patients, steps=300):
        last = record
    assert int(last.state.step) == 300
    assert np.isfinite(last.loss)


# --- callbacks


def test_callbacks_see_every_record(program, patients):
    """Every callback is asked after every step, with the state of that step."""
    one, other = [], []
    watch = [lambda record: one.append(record.step), lambda record: other.append(record.state)]
    pdl.fit(program, patients, steps=6, watch=watch)
    assert one == list(range(6))
    assert len(other) == 6


def test_stop(program, patients):
    """`Stop()` ends the run after the step it was answered to, as if no more had been asked."""
    run = pdl.fit(program, patients, steps=100, watch=at(4, pdl.Stop()))
    assert run.ended == "stopped"
    assert losses(run.history) == losses(pdl.fit(program, patients, steps=5).history)
    assert int(run.state.step) == 5


def test_all_are_asked_before_a_stop(program, patients):
    """One callback's `Stop()` does not keep the others from seeing the last record."""
    seen = []
    pdl.fit(program, patients, steps=9, watch=[at(2, pdl.Stop()), lambda r: seen.append(r.step)])
    assert seen == [0, 1, 2]


def test_pause(program, patients):
    """While a callback answers `Pause()` it is asked again, and the step is not."""
    asked = []

    def watch(record):
        asked.append(record.step)
        return pdl.Pause() if record.step == 3 and asked.count(3) < 4 else None

    run = pdl.fit(program, patients, steps=6, watch=watch)
    assert asked == [0, 1, 2, 3, 3, 3, 3, 4, 5]
    assert losses(run.history) == losses(pdl.fit(program, patients, steps=6).history)


def test_stop_after_a_pause(program, patients):
    """A paused run can be stopped: what counts is the answer that ends the pause."""
    answers = iter([pdl.Pause(), pdl.Pause(), pdl.Stop()])
    run = pdl.fit(program, patients, steps=6, watch=lambda record: next(answers))
    assert (run.ended, len(run.history)) == ("stopped", 1)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_set(strategy, build, patients):
    """`Set(learning_rate=...)` holds from the next step on, and stands in the state."""
    program = build(strategy)
    watch = at(3, pdl.Set(learning_rate=0.005))
    run = pdl.fit(program, patients, steps=10, watch=watch)
    rate = np.unique(run.state.optimizer.hyperparams["learning_rate"])
    np.testing.assert_allclose(rate, [0.005], rtol=1e-6)

    start, batches = patients.model.init(jax.random.key(0)), [patients.batch(k) for k in range(10)]
    turned = optax.sgd(optax.piecewise_constant_schedule(0.05, {4: 0.1}))
    params, expected = plain.train(patients.model.loss, turned, start, batches)
    np.testing.assert_allclose(losses(run.history), expected, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), run.params, params)


def test_set_compiles_nothing(program, patients, caplog):
    """Turning the learning rate is a change of a number, not of the program."""
    pdl.fit(program, patients, steps=2)
    with jax.log_compiles():
        watch = lambda record: pdl.Set(learning_rate=0.01 / (1 + record.step))  # noqa: E731
        pdl.fit(program, patients, steps=12, watch=watch)
        assert "ompil" not in caplog.text
        jax.jit(lambda x: x + 1.25)(1.0)  # what is looked for would be found
    assert "ompil" in caplog.text


def test_set_goes_on_in_the_state(program, patients):
    """A learning rate that was turned is still so when the run goes on from its state."""
    run = pdl.fit(program, patients, steps=2, watch=at(1, pdl.Set(learning_rate=0.0)))
    rest = pdl.fit(program, patients, steps=3, state=run.state)
    assert_equal(rest.params, run.params)


def test_set_needs_a_learning_rate_to_set(patients):
    """An optimizer whose learning rate is a constant of the step says how to make it turn."""
    program = pdl.DataParallel().build(patients.model, optax.sgd(0.1), pdl.mesh(data=8))
    message = (
        r"^this optimizer keeps no learning rate that could be set\.\n"
        r"  why: it is a constant of the compiled step, or follows a schedule\.\n"
        r"  try: optax\.inject_hyperparams\(optax\.sgd\)\(learning_rate=0\.1\)\.$"
    )
    with pytest.raises(ValueError, match=message):
        pdl.fit(program, patients, steps=3, watch=at(1, pdl.Set(learning_rate=0.5)))


# --- interrupts


def test_an_interrupt_keeps_what_there_is(program, patients):
    """Ctrl-C ends a run cleanly: the history so far, and a state to go on from."""

    def watch(record):
        if record.step == 6:
            raise KeyboardInterrupt

    run = pdl.fit(program, patients, steps=100, watch=watch)
    assert (run.ended, len(run.history), int(run.state.step)) == ("interrupted", 7, 7)
    rest = pdl.fit(program, patients, steps=3, state=run.state)
    whole = pdl.fit(program, patients, steps=10)
    assert losses(run.history + rest.history) == losses(whole.history)
    assert_equal(rest.state, whole.state)


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to itself")
@pytest.mark.parametrize("delay", [0.0, 0.05, 0.11, 0.2])
def test_a_real_interrupt_at_any_moment(delay, program, patients):
    """Wherever the signal strikes, the state can be read, and the run goes on from it."""
    timers = []

    def watch(record):
        if record.step == 9:
            strike = lambda: os.kill(os.getpid(), signal.SIGINT)  # noqa: E731
            timers.append(threading.Timer(delay, strike))
            timers[0].start()

    run = pdl.fit(program, patients, steps=20_000, watch=watch)
    assert run.ended == "interrupted"
    done = int(run.state.step)
    assert -EVERY < done - len(run.history) <= 1  # a few steps back, or one not yet handed out
    rest = pdl.fit(program, patients, steps=2, state=run.state)
    assert [record.step for record in rest.history] == [done, done + 1]
    assert np.isfinite(losses(rest.history)).all()
    assert_equal(run.state, pdl.fit(program, patients, steps=done).state)


# --- losses that are no numbers

BAD_STEP, BAD_DEVICE = 11, 3


def fragile(batches, **model):
    """Return a workload whose loss takes a logarithm of what a batch holds."""

    def loss(params, batch, layers=None):
        return jnp.mean((params["w"] * jnp.log(batch[0]) - batch[1]) ** 2)

    init = lambda key: {"w": jnp.ones(1)}  # noqa: E731
    made = pdl.Model(init, loss, {"w": ("features",)}, **model)
    return pdl.Workload("fragile", made, optax.sgd(0.1), batches)


def positive(count=24):
    """Return batches of numbers and twice their logarithms, four for each of 8 devices."""
    draw = np.random.default_rng(0)
    x = [draw.uniform(1, 2, (32, 1)).astype(np.float32) for _ in range(count)]
    return [(each, 2 * np.log(each)) for each in x]


@pytest.fixture(scope="module")
def doomed():
    """A workload sound to look at, whose loss of batch 11 is NaN on device 3 alone."""
    batches = positive()
    batches[BAD_STEP][0][4 * BAD_DEVICE + 1] = -1.0
    return fragile(batches)


@pytest.fixture(scope="module")
def risky(doomed):
    return pdl.DataParallel().build(doomed.model, doomed.optimizer, pdl.mesh(data=8))


def test_nan_is_named_by_step_and_device(risky, doomed):
    """A loss that is NaN ends the run within 8 steps, named by its true step and device."""
    with pytest.raises(pdl.NotFinite) as caught:
        list(pdl.train(risky, doomed, steps=24))
    error = caught.value
    assert (error.step, error.device) == (BAD_STEP, BAD_DEVICE)
    assert str(error) == (
        "the loss of step 11 is nan on device 3 of 8.\n"
        "  why: its batch is sound, so the weights have run away: too large an update, "
        "or a logarithm or root of something not positive.\n"
        "  try: a smaller learning rate; the state after 8 steps is kept in the "
        "error: `except pdl.NotFinite as error: error.state`."
    )


def test_nan_leaves_the_last_good_state(risky, doomed):
    """What came before the NaN is kept: a finite state to go on from, and the history."""
    with pytest.raises(pdl.NotFinite) as caught:
        pdl.fit(risky, doomed, steps=24)
    error = caught.value
    good = int(error.state.step)
    assert BAD_STEP - EVERY < good <= BAD_STEP
    assert_equal(error.state, pdl.fit(risky, doomed, steps=good).state)
    assert_equal(error.run.state, error.state)
    assert [record.step for record in error.run.history][: BAD_STEP + 1] == list(range(12))
    assert np.isfinite(losses(error.run.history)[:BAD_STEP]).all()
    assert int(pdl.fit(risky, doomed, steps=2, state=error.state).state.step) == good + 2


@pytest.mark.parametrize("steps", [12, 13, 16])
def test_nan_at_the_very_end_is_seen(steps, risky, doomed):
    """A NaN in the last steps ends the run like any other."""
    with pytest.raises(pdl.NotFinite, match="the loss of step 11 is nan on device 3"):
        pdl.fit(risky, doomed, steps=steps)


def test_an_infinite_loss_is_named_too():
    """Infinity is no loss either."""
    batches = positive()
    batches[2][0][30] = 0.0
    work = fragile(batches)
    program = pdl.DataParallel().build(work.model, work.optimizer, pdl.mesh(data=8))
    with pytest.raises(pdl.NotFinite, match="the loss of step 2 is inf on device 7 of 8"):
        pdl.fit(program, work, steps=24)


@pytest.mark.parametrize("ended", ["stopped", "interrupted"])
def test_a_run_cut_short_keeps_no_nan(ended, risky, doomed):
    """Who stops before the NaN is noticed gets the last good state all the same."""

    def watch(record):
        if record.step == BAD_STEP + 2 and ended == "interrupted":
            raise KeyboardInterrupt
        return pdl.Stop() if record.step == BAD_STEP + 2 else None

    try:
        params = pdl.fit(risky, doomed, steps=24, watch=watch).params
    except pdl.NotFinite as error:  # to say so at once is right as well
        params = error.run.params
    assert np.isfinite(params["w"]).all()


def test_a_run_never_ends_in_nan():
    """Where a loss is finite and its slope is not, the run does not end as if all were well."""

    def loss(params, batch, layers=None):
        return jnp.mean(jnp.sqrt(batch[0] * params["w"]))  # of 0: a loss of 0, of slope NaN

    batches = positive(12)
    batches[BAD_STEP][0][5] = 0.0
    work = fragile(batches)
    work = dataclasses.replace(work, model=work.model._replace(loss=loss))
    program = pdl.DataParallel().build(work.model, work.optimizer, pdl.mesh(data=8))
    message = r"^a weight is not finite after step 11, though its loss is\.\n  why: .*\n  try: .*$"
    with pytest.raises(pdl.NotFinite, match=message) as caught:
        pdl.fit(program, work, steps=12)
    assert (caught.value.step, caught.value.device) == (BAD_STEP, None)
    assert np.isfinite(caught.value.run.params["w"]).all()


# --- data that cannot be learned from


def test_nan_in_the_first_batch(risky):
    """NaN in the data is found before the first step, with the place where it stands."""
    batches = positive()
    batches[0][1][5] = np.nan
    message = (
        r"^batch 0 holds nan in array \[1\], at \[5, 0\]\.\n"
        r"  why: one such number makes every weight NaN within a step\.\n"
        r"  try: drop or fill those examples, say with np\.nan_to_num\.$"
    )
    never = risky._replace(step=lambda *_: pytest.fail("a step was run"))
    with pytest.raises(ValueError, match=message):
        pdl.fit(never, fragile(batches), steps=24)


def test_nan_in_a_later_batch_is_named_as_data(risky):
    """A NaN loss whose batch holds NaN is the batch's fault, and is said to be."""
    batches = positive()
    batches[BAD_STEP][0][13] = np.inf
    message = r"^batch 11 holds inf in array \[0\], at \[13, 0\]\.\n  why: .*\n  try: .*$"
    with pytest.raises(ValueError, match=message):
        pdl.fit(risky, fragile(batches), steps=24)


def test_bad_data_leaves_the_last_good_state(risky):
    """Also where a later batch is at fault, the error keeps what was learned before it."""
    batches = positive()
    batches[BAD_STEP][0][13] = np.nan
    with pytest.raises((ValueError, pdl.NotFinite)) as caught:
        pdl.fit(risky, fragile(batches), steps=24)
    run = caught.value.run
    assert int(run.state.step) == 8
    assert np.isfinite(run.params["w"]).all()
    assert len(run.history) >= BAD_STEP


@pytest.fixture(scope="module")
def reader(digits):
    return pdl.DataParallel().build(digits.model, digits.optimizer, pdl.mesh(data=8))


@pytest.mark.parametrize("step", [0, 13])
@pytest.mark.parametrize(("label", "low", "high"), [(10, 0, 10), (-1, -1, 9)])
def test_labels_out_of_range(step, label, low, high, digits, reader):
    """A label that is no class is named with its batch, the first one or a later one."""
    batches = [digits.batch(k) for k in range(16)]
    batches[step][1][77] = label
    work = pdl.Workload("mislabelled", digits.model, digits.optimizer, batches)
    why = (
        rf"the loss of step {step} is nan on device 4 of 8"  # example 77 of 128
        if step
        else "a label is the place of the true class among the model's outputs"
    )
    message = (
        rf"^batch {step} has labels from {low} to {high}, but the model tells 10 classes "
        rf"apart: 0 to 9\.\n  why: {why}\."
        rf"\n  try: labels from 0 on, or a model with {high + 1} outputs"
    )
    with pytest.raises(ValueError, match=message):
        pdl.fit(reader, work, steps=16)


def test_padding_may_be_no_class():
    """A target that the loss does not count may be -1, as it is by default; a wrong one not."""
    work = words()
    program = pdl.OneDevice().build(work.model, work.optimizer)
    assert pdl.fit(program, work, steps=1).ended == "done"
    tokens, targets = work.batch(0)
    targets = np.where(targets < 0, -2, targets)
    mistaken = pdl.Workload("mistaken", work.model, work.optimizer, [(tokens, targets)])
    with pytest.raises(ValueError, match=r"labels from -2 to 15, but the model tells 16 classes"):
        pdl.fit(program, mistaken, steps=1)


def test_whole_numbers_may_be_targets():
    """Whole numbers to come near to are no labels, whatever their size."""
    x = np.random.default_rng(0).normal(size=(40, 10)).astype(np.float32)
    model = pdl.models.mlp(10, 1, head=pdl.models.regress)
    batches = [(x, np.full((40, 1), 250, np.int32))]
    work = pdl.Workload("ages", model, optax.sgd(1e-4), batches)
    program = pdl.OneDevice().build(work.model, work.optimizer)
    assert len(pdl.fit(program, work, steps=2).history) == 2
