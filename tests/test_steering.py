"""Training that is steered while it runs: awaited, moved, burdened, told what it is."""

import asyncio
import contextlib
import dataclasses
import functools
import os
import signal
import threading
import time
import weakref

import jax
import numpy as np
import optax
import plain
import pytest

import pdlkit as pdl

WAYS = [pdl.DataParallel(), pdl.Automatic(), pdl.PmapDataParallel()]


@pytest.fixture(scope="module")
def patients():
    """A small real workload whose momentum would be missed, its learning rate to be set."""
    work = pdl.workloads.diabetes_mlp()
    optimizer = optax.inject_hyperparams(optax.sgd)(learning_rate=0.05, momentum=0.9)
    return dataclasses.replace(work, optimizer=optimizer)


@pytest.fixture(scope="module")
def build(patients):
    mesh = pdl.mesh(data=8)
    return functools.cache(lambda way: way.build(patients.model, patients.optimizer, mesh))


@pytest.fixture(scope="module")
def alone(patients):
    """What one device makes of ten batches: weights and losses."""
    start = patients.model.init(jax.random.key(0))
    return plain.train(
        patients.model.loss, optax.sgd(0.05, 0.9), start, [patients.batch(k) for k in range(10)]
    )


def losses(history) -> list[float]:
    return [record.loss for record in history]


def at(step, answer):
    return lambda record: answer if record.step == step else None


def assert_close(params, others):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), params, others)


class Listener:
    """A watcher that keeps what it is told."""

    def __init__(self, answers=None):
        self.told, self.runs, self.errors, self.answers = [], [], [], answers or {}
        self.begin, self.end, self.refused = self.told.append, self.runs.append, self.errors.append

    def __call__(self, record):
        return self.answers.get(record.step)


# --- other devices on the way


@pytest.mark.parametrize("way", [pdl.DataParallel(), pdl.Automatic()], ids=str)
@pytest.mark.parametrize("answer", [pdl.Set(devices=4), pdl.Drop(3)], ids=str)
def test_the_weights_do_not_notice_a_move(way, answer, build, patients, alone):
    """Half of the devices, or without one: the same losses, weights and momentum as on one."""
    run = pdl.fit(build(way), patients, steps=10, watch=at(4, answer))
    assert [record.device_loss.size for record in run.history] == [8] * 5 + [4] * 5
    np.testing.assert_allclose(losses(run.history), alone[1], rtol=1e-4)
    assert_close(run.params, alone[0])
    assert run.program.mesh.size == 4
    assert int(run.state.step) == 10


def test_pmap_takes_its_weights_along(build, patients, alone):
    """Pmap keeps a row of optimizer state for each device: weights and step count go along."""
    run = pdl.fit(build(pdl.PmapDataParallel()), patients, steps=6, watch=at(4, pdl.Drop(0)))
    np.testing.assert_allclose(losses(run.history), alone[1][:6], rtol=1e-4)
    assert np.unique(run.state.step) == [6]


def test_a_dropped_device_is_not_used_again(build, patients):
    """What goes on does so without the device that was dropped."""
    program = build(pdl.DataParallel())
    run = pdl.fit(program, patients, steps=3, watch=at(1, pdl.Drop(2)))
    assert program.mesh.devices.flat[2] not in run.program.mesh.devices


def test_there_and_back(build, patients, alone):
    """Eight devices, then two, then eight again."""
    watch = Listener({2: pdl.Set(devices=2), 5: pdl.Set(devices=8)})
    run = pdl.fit(build(pdl.DataParallel()), patients, steps=10, watch=watch)
    assert [record.device_loss.size for record in run.history] == [8] * 3 + [2] * 3 + [8] * 4
    np.testing.assert_allclose(losses(run.history), alone[1], rtol=1e-4)
    assert [told.mesh for told in watch.told] == [{"data": 8}, {"data": 2}, {"data": 8}]


def test_a_moved_run_is_kept_whole(build, patients, tmp_path):
    """A history whose steps ran on different numbers of devices can be saved, and shown."""
    program = build(pdl.DataParallel())
    run = pdl.fit(program, patients, steps=6, watch=at(2, pdl.Set(devices=2)))
    pdl.save(run, tmp_path / "moved")
    back = pdl.load(tmp_path / "moved", run.program, patients)
    for one, two in zip(run.history, back.history, strict=True):
        np.testing.assert_array_equal(one.device_loss, two.device_loss)
        assert (one.loss, one.waiting) == (two.loss, two.waiting)
    assert "device 7" in pdl.show(run).text


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (pdl.Set(devices=7), r"7"),
        (pdl.Set(devices=9), r"^training cannot go on with 9 devices\.\n  why: 8 are here\."),
        (pdl.Set(devices=0), r"^training cannot go on with 0 devices\."),
        (pdl.Set(devices=8 / 2), r"^training cannot go on with 4\.0 devices\."),
        (pdl.Set(learning_rate=9.0, devices=7), r"7"),
        (pdl.Drop(8), r"^there is no device 8 .*\n  why: the mesh has 8, counted from 0"),
        (pdl.Slow(-1, 0.1), r"^there is no device -1 "),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_and_training_goes_on(answer, message, build, patients, alone):
    """An answer that cannot be obeyed goes to `refused`, if there is one, and changes nothing."""
    program, watch = build(pdl.DataParallel()), Listener({3: answer})
    run = pdl.fit(program, patients, steps=10, watch=watch)
    (error,) = watch.errors
    with pytest.raises(ValueError, match=message):
        raise error
    np.testing.assert_allclose(losses(run.history), alone[1], rtol=1e-4)
    with pytest.raises(ValueError, match=message) as caught:
        pdl.fit(program, patients, steps=10, watch=at(3, answer))
    assert len(caught.value.run.history) == 4


def test_a_scheduled_learning_rate_cannot_be_set(patients):
    """The schedule would overwrite it in the next step; so it is refused, by its reason."""
    schedule = optax.cosine_decay_schedule(0.05, 100)
    optimizer = optax.inject_hyperparams(optax.sgd)(learning_rate=schedule)
    program = pdl.DataParallel().build(patients.model, optimizer, pdl.mesh(data=8))
    watch = Listener({1: pdl.Set(learning_rate=0.01)})
    run = pdl.fit(program, patients, steps=4, watch=watch)
    assert (run.ended, watch.told[0].learning_rate) == ("done", None)
    assert "follows a schedule" in str(watch.errors[0])


def test_a_nan_seen_while_moving_is_no_refusal(build, patients):
    """Who asks for other devices after a loss of NaN is told of the NaN, by its step."""
    x, y = patients.batch(3)

    class Poisoned:
        def __getattr__(self, name):
            return getattr(patients.batches, name)

        def batch(self, k, seed=0):
            return (np.full_like(x, 1e30), y) if k == 11 else patients.batch(k, seed)

    work = dataclasses.replace(patients, batches=Poisoned())
    watch = Listener({12: pdl.Set(devices=2)})
    with pytest.raises(pdl.NotFinite) as caught:
        pdl.fit(build(pdl.DataParallel()), work, steps=20, watch=watch)
    assert (caught.value.step, watch.errors) == (11, [])


def test_the_optimizer_goes_along_where_only_the_memory_does_not_fit(patients):
    """Of clocks that let one device be ahead of nobody, momentum is kept all the same."""
    strategy = pdl.BoundedStaleness(bound=2)
    program = strategy.build(patients.model, patients.optimizer, pdl.mesh(data=8))
    answers = {4: pdl.Set(learning_rate=0.01), 5: pdl.Set(devices=1)}
    run = pdl.fit(program, patients, steps=6, watch=Listener(answers))
    before = pdl.fit(program, patients, steps=6, watch=Listener({4: answers[4]}))
    assert run.program.mesh.size == 1
    assert_close(
        jax.device_get(run.program.whole(run.state).optimizer),
        jax.device_get(before.program.whole(before.state).optimizer),
    )
    assert float(run.state.optimizer.hyperparams["learning_rate"]) == np.float32(0.01)


def test_a_strategy_of_one_device_stays_there(patients):
    """`OneDevice` cannot grow, and says what could."""
    program = pdl.OneDevice().build(patients.model, patients.optimizer)
    message = r"^training cannot go on with 4 devices\.\n  why: its strategy uses 1 of them\."
    with pytest.raises(ValueError, match=message):
        pdl.fit(program, patients, steps=3, watch=at(1, pdl.Set(devices=4)))


def test_a_grid_keeps_its_other_axes(patients):
    """Of a mesh with two axes the first one shrinks, and what it cannot fill is refused."""
    mesh = pdl.mesh(data=4, model=2)
    program = pdl.DataParallel().build(patients.model, patients.optimizer, mesh)
    run = pdl.fit(program, patients, steps=3, watch=at(0, pdl.Drop(5)))
    assert dict(run.program.mesh.shape) == {"data": 2, "model": 2}
    message = r"^3 devices do not make a mesh of axes data, model\.\n  why: .* multiply to 2\."
    with pytest.raises(ValueError, match=message):
        pdl.fit(program, patients, steps=3, watch=at(0, pdl.Set(devices=3)))


# --- a straggler


@pytest.mark.parametrize("way", [*WAYS, pdl.OneDevice()], ids=str)
def test_a_slow_device_changes_no_weight(way, build, patients):
    """Extra work on one device is real time, and leaves every bit as it was."""
    program = build(way)
    place = 0 if program.mesh.size == 1 else 5
    plainly = pdl.fit(program, patients, steps=10)
    watch = Listener({3: pdl.Slow(place, 0.02), 7: pdl.Slow(place, 0.0)})
    run = pdl.fit(program, patients, steps=10, watch=watch)
    assert losses(run.history) == losses(plainly.history)
    jax.tree.map(np.testing.assert_array_equal, run.params, plainly.params)


def test_a_slow_device_makes_all_wait(build, patients):
    """A step lasts as long as its slowest device: no less than the extra work."""
    watch = at(0, pdl.Slow(5, 0.03))
    run = pdl.fit(build(pdl.DataParallel()), patients, steps=12, watch=watch)
    assert run.history[-1].seconds > 0.015  # the work was timed once, on a machine shared with all
    assert run.history[-1].waiting > 0.5 * run.history[-1].seconds


# --- awaited


def test_awaited_is_fit(build, patients):
    """`await fit_async` leaves what `fit` leaves, to the last bit."""
    program = build(pdl.DataParallel())
    run = asyncio.run(pdl.fit_async(program, patients, steps=10))
    again = pdl.fit(program, patients, steps=10)
    assert losses(run.history) == losses(again.history)
    assert run.ended == "done"
    jax.tree.map(np.testing.assert_array_equal, run.params, again.params)


def test_others_have_their_turn(build, patients):
    """While training is awaited, other tasks of the same thread run, and can stop it."""
    asked = []

    async def click_after(seconds):
        await asyncio.sleep(seconds)
        asked.append(time.perf_counter())

    async def both():
        clicking = asyncio.create_task(click_after(0.2))
        watch = lambda record: pdl.Stop() if asked else None  # noqa: E731
        run = await pdl.fit_async(build(pdl.DataParallel()), patients, steps=10**6, watch=watch)
        assert time.perf_counter() - asked[0] < 5  # the figure itself is a benchmark's
        await clicking
        return run

    run = asyncio.run(both())
    assert run.ended == "stopped"
    assert 0 < len(run.history) < 10**6


def test_an_awaited_pause_lets_others_run(build, patients):
    """A paused training sleeps, and goes on when its callback says so."""
    turns = []

    async def both():
        clicking = asyncio.create_task(click())
        watch = lambda record: pdl.Pause() if len(turns) < 3 else None  # noqa: E731
        run = await pdl.fit_async(build(pdl.DataParallel()), patients, steps=4, watch=watch)
        await clicking
        return run

    async def click():
        for turn in range(3):
            await asyncio.sleep(0.02)
            turns.append(turn)

    assert len(asyncio.run(both()).history) == 4


def test_a_pause_is_no_training_time(build, patients):
    """The seconds a step leave out what passed while training was paused."""
    asked = iter([pdl.Pause()] * 10)
    watch = lambda record: next(asked, None) if record.step == 5 else None  # noqa: E731
    run = pdl.fit(build(pdl.DataParallel()), patients, steps=8, watch=watch)
    assert run.history[6].seconds < 0.4  # ten pauses are 0.5 s


def test_a_cancelled_training_ends_cleanly(build, patients):
    """Cancelling the task, as a notebook's Interrupt does, leaves a run, not an error."""

    async def both():
        training = pdl.fit_async(build(pdl.DataParallel()), patients, steps=10**6)
        task = asyncio.create_task(training)
        await asyncio.sleep(0.2)
        task.cancel()
        return await task

    run = asyncio.run(both())
    assert run.ended == "interrupted"
    assert len(run.history) > 0
    assert np.isfinite(run.params["last"]["w"]).all()


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to itself")
def test_an_interrupt_while_paused(build, patients):
    """Ctrl-C ends a training that holds still, too."""
    strike = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT))

    def watch(record):
        if record.step == 2:
            if strike.ident is None:
                strike.start()
            return pdl.Pause()

    run = pdl.fit(build(pdl.DataParallel()), patients, steps=8, watch=watch)
    assert (run.ended, len(run.history)) == ("interrupted", 3)


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to itself")
def test_an_ignored_interrupt_stays_ignored(build, patients):
    """Where interrupts are ignored, as in a shell's background job, training goes on."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        watch = lambda record: os.kill(os.getpid(), signal.SIGINT)  # noqa: E731
        run = pdl.fit(build(pdl.DataParallel()), patients, steps=3, watch=watch)
    finally:
        signal.signal(signal.SIGINT, before)
    assert run.ended == "done"


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to itself")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_python_loses_is_remembered(build, patients):
    """Where a KeyboardInterrupt strikes a weak reference's callback, training still ends."""

    class Key:
        pass

    def strike(_):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)

    def watch(record):
        if record.step == 4:
            key = Key()
            reference = weakref.ref(key, strike)
            del key  # calls it, and forgets what it raises
            assert reference() is None

    before = signal.getsignal(signal.SIGINT)
    run = pdl.fit(build(pdl.DataParallel()), patients, steps=50, watch=watch)
    assert (run.ended, len(run.history)) == ("interrupted", 5)
    assert signal.getsignal(signal.SIGINT) is before


# --- what watchers are told


def test_a_watcher_is_told_what_will_be_trained(build, patients):
    """`begin` says which steps, on which mesh, at which rate, and can count what a step does."""
    watch = Listener()
    run = pdl.fit(build(pdl.DataParallel()), patients, steps=3, watch=watch)
    (told,) = watch.told
    assert (told.name, told.first, told.last) == ("diabetes_mlp", 0, 3)
    assert (told.mesh, told.devices_here) == ({"data": 8}, 8)
    assert told.learning_rate == pytest.approx(0.05)
    assert not told.awaited
    assert {each.kind for each in told.inspect().collectives} == {"all_reduce"}
    assert watch.runs == [run]


@pytest.mark.parametrize("ended", ["done", "stopped", "interrupted", "failed"])
def test_a_watcher_is_given_the_run_however_it_ended(ended, build, patients):
    """`end` is called once, with the run, also where training stops or fails."""
    listener = Listener({4: pdl.Stop()} if ended == "stopped" else {})

    def trouble(record):
        if record.step == 4 and ended == "interrupted":
            raise KeyboardInterrupt
        if record.step == 4 and ended == "failed":
            raise ZeroDivisionError

    with contextlib.suppress(ZeroDivisionError):
        pdl.fit(build(pdl.DataParallel()), patients, steps=9, watch=[listener, trouble])
    (run,) = listener.runs
    assert (run.ended, len(run.history)) == (ended, 9 if ended == "done" else 5)


def test_waiting_is_a_part_of_a_step(build, patients):
    """Of a step's seconds, what the loop waited for its devices is a part."""
    slowly = lambda record: time.sleep(0.02)  # noqa: E731
    run = pdl.fit(build(pdl.DataParallel()), patients, steps=16, watch=slowly)
    last = run.history[-1]
    assert 0 < last.waiting < last.seconds - 0.018
