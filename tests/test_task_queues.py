"""Tasks that differ: who runs which, how long it takes, and that results stay the same."""

import dataclasses
import itertools
import signal
import threading
import time

import jax
import numpy as np
import optax
import plain
import pytest
from test_law import assert_close

import pdlkit as pdl
from pdlkit.strategies.task_queues import (
    Queues,
    longest_first,
    play_tasks,
    round_robin,
    work_stealing,
)
from pdlkit.training.tasks import Task, run_tasks, training_task

EACH = [round_robin, longest_first, work_stealing]


def shortest(costs, devices):
    """Return the makespan of the best assignment there is, by trying all."""
    ways = itertools.product(range(devices), repeat=len(costs))
    return min(max(np.bincount(way, costs, devices)) for way in ways)


@pytest.mark.parametrize("assign", EACH)
@pytest.mark.parametrize(("tasks", "devices"), [(7, 3), (2, 4), (0, 2)])
def test_every_task_is_assigned_once(assign, tasks, devices):
    """No task is forgotten, none is run twice, also where devices outnumber them."""
    queues = assign([1.0] * tasks, devices)
    assert len(queues.rows) == devices
    assert sorted(itertools.chain(*queues.rows)) == list(range(tasks))


def test_round_robin_does_not_look_at_costs():
    """Dealt like cards, all long tasks may come to one device."""
    costs = (9, 1, 9, 1, 9, 1)
    assert round_robin(costs, 2).rows == ((0, 2, 4), (1, 3, 5))
    assert play_tasks(round_robin(costs, 2), costs).seconds == 27
    assert play_tasks(longest_first(costs, 2), costs).seconds == 18


def test_longest_first_can_be_a_sixth_off_on_two_devices():
    """Graham's example: 7 where 6 are enough, which is 4/3 - 1/6."""
    costs = (3, 3, 2, 2, 2)
    assert play_tasks(longest_first(costs, 2), costs).seconds == 7
    assert shortest(costs, 2) == 6


@pytest.mark.parametrize(
    ("assign", "bound"),
    [(longest_first, lambda n: 4 / 3 - 1 / (3 * n)), (work_stealing, lambda n: 2 - 1 / n)],
)
def test_never_further_from_the_best_than_was_proved(assign, bound):
    """Of 30 random sets of tasks none takes longer than Graham's bound."""
    random = np.random.default_rng(0)
    for _ in range(30):
        devices = int(random.integers(2, 4))
        costs = random.integers(1, 20, size=int(random.integers(3, 8))).tolist()
        made = play_tasks(assign(costs, devices), costs).seconds
        assert made <= bound(devices) * shortest(costs, devices) + 1e-9


def test_who_has_nothing_left_steals_the_last_task_of_the_fullest():
    """Three long tasks come to one device; the other takes the last when it is done."""
    seconds = (4.0, 4.0, 4.0, 1.0, 1.0, 1.0)
    played = play_tasks(work_stealing(seconds, 2), seconds, "abcdef")
    told = [(e.name, e.device, e.start, e.end) for e in played.events if e.device == 0 or e.stolen]
    assert told == [("a", 0, 0.0, 4.0), ("c", 1, 3.0, 7.0), ("b", 0, 4.0, 8.0)]
    assert [event.name for event in played.events if event.stolen] == ["c"]
    assert played.seconds == 8
    assert played.busy == (8, 7)
    stays = work_stealing(seconds, 2)._replace(steals=False)
    assert play_tasks(stays, seconds).seconds == 12


def test_a_task_of_unknown_length_cannot_be_played():
    """A figure for each task is asked for."""
    with pytest.raises(ValueError, match="there are 2 lengths, but task 2 is assigned"):
        play_tasks(round_robin((1, 1, 1), 2), (1, 1))


def test_a_device_without_a_task_plays_too():
    """Where a length is missing, it is told also when a device has nothing to do."""
    with pytest.raises(ValueError, match=r"^there are 1 lengths, but task 1 is assigned\."):
        play_tasks(round_robin((1, 1), 4), (1,))
    assert play_tasks(round_robin((1, 1), 4), (1, 2)).seconds == 2


@pytest.mark.parametrize("assign", EACH)
def test_results_are_those_of_each_task_alone(assign, digits):
    """Trainings of uneven length end as alone, in the order in which they were given."""
    model = pdl.models.mlp(64, 10, embed=8, hidden=16, blocks=1)
    work = dataclasses.replace(digits, model=model, optimizer=optax.sgd(0.1))
    lengths = (3, 1, 2)
    tasks = [training_task(f"seed {s}", work, steps=n, seed=s) for s, n in enumerate(lengths)]
    run = run_tasks(tasks, jax.devices()[:2], assign=assign)
    assert {event.name for event in run.events} == {"seed 0", "seed 1", "seed 2"}
    for seed, steps in enumerate(lengths):
        batches = [work.batch(k, seed) for k in range(steps)]
        start = model.init(jax.random.key(seed))
        assert_close(
            run.results[seed].params,
            plain.train(model.loss, work.optimizer, start, batches)[0],
            1e-6,
        )


def test_tasks_run_beside_each_other_and_are_stolen():
    """Devices work at the same time, each on one task; a waiting one steals; measured."""
    lengths = (0.4, 0.4, 0.02, 0.02)

    def nap(seconds):
        def run(device):
            time.sleep(seconds)
            return jax.numpy.ones(()).devices() == {device}

        return run

    tasks = [Task(str(i), nap(seconds), seconds) for i, seconds in enumerate(lengths)]
    run = run_tasks(tasks, jax.devices()[:2], assign=work_stealing)
    assert run.word == "measured"
    assert all(run.results)  # what a task makes is made on its device
    assert [(event.task, event.device) for event in run.events if event.stolen] == [(1, 1)]
    for device in range(2):
        own = [event for event in run.events if event.device == device]
        assert all(a.end <= b.start for a, b in itertools.pairwise(own))
    long = {event.task: event for event in run.events if event.task < 2}
    assert max(e.start for e in long.values()) < min(e.end for e in long.values())


def test_what_a_task_raises_is_raised():
    """The error of a task comes through, and tasks that had not begun are left out."""
    ran = []

    def fails(device):
        raise RuntimeError(f"on {device.id}")

    tasks = [Task("fails", fails, 2.0), Task("later", ran.append, 1.0)]
    with pytest.raises(RuntimeError, match="on 0"):
        run_tasks(tasks, jax.devices()[:1])
    assert ran == []
    with pytest.raises(ValueError, match="0 tasks cannot be run on 1 devices"):
        run_tasks([], jax.devices()[:1])


def test_an_interrupt_begins_no_other_task():
    """What runs ends; what was waiting is left out, and nothing goes on in the background."""
    ran = []

    def interrupts(device):
        ran.append(device)
        time.sleep(0.1)  # all threads have begun
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    def later(device):
        time.sleep(0.05)
        ran.append(device)

    tasks = [Task("first", interrupts), *[Task("later", later)] * 20]
    with pytest.raises(KeyboardInterrupt):
        run_tasks(tasks, jax.devices()[:1])
    begun = len(ran)
    time.sleep(0.2)
    assert len(ran) == begun < 10


@pytest.mark.parametrize("rows", [((0,),), ((0,), ()), ((0, 1), (1,))])
def test_each_task_is_assigned_once(rows):
    """A row for each device, and each task in one of them."""
    tasks = [Task("a", str), Task("b", str)]
    with pytest.raises(ValueError, match=r"^2 tasks on 2 devices are assigned as "):
        run_tasks(tasks, jax.devices()[:2], assign=lambda *_: Queues(rows))


def test_its_picture_is_a_lane_for_each_device():
    """A Gantt chart, with what was stolen told apart, and the word for how it is known."""
    seconds = (4.0, 4.0, 1.0, 1.0)
    picture = pdl.show(play_tasks(work_stealing(seconds, 2), seconds, "abcd"))
    assert repr(picture) == "<modelled: 4 tasks on 2 devices>"
    assert picture.title == "4 tasks on 2 devices: 6.00 s, 17% of it idle"
    lines = picture.text.splitlines()
    lanes = [line for line in lines if line.startswith("device")]
    assert [sorted(set(lane) & set("abcd")) for lane in (line.split("│")[1] for line in lanes)] == [
        ["a"],
        ["b", "c", "d"],
    ]
