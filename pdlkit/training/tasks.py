"""Independent tasks on real devices, one thread each: members that differ."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any, NamedTuple

import jax

from pdlkit.errors import lesson
from pdlkit.strategies import OneDevice
from pdlkit.strategies.task_queues import Queues, TaskEvent, TaskRun, longest_first, next_task
from pdlkit.training.places import alone_on
from pdlkit.training.run import Run, fit


class Task(NamedTuple):
    """Something to be run on one device, that needs nothing of other tasks."""

    name: str
    run: Callable[[Any], Any]  # device -> result
    cost: float = 1.0  # expected, in any unit: only ratios matter


def training_task(name: str, work, *, steps: int, seed: int = 0) -> Task:
    """Return a whole training as a task; its result is the `Run`, its cost the steps."""

    def run(device) -> Run:
        program = OneDevice().build(work.model, work.optimizer, alone_on(device))
        return fit(program, work, steps=steps, seed=seed)

    return Task(name, run, steps)


def run_tasks(
    tasks: Sequence[Task],
    devices: Sequence | None = None,
    *,
    assign: Callable[[Sequence[float], int], Queues] = longest_first,
) -> TaskRun:
    """Run tasks on devices, one thread a device, and return what each did and when.

    Measured. JAX computes without Python's lock, so that threads do not wait for each
    other; simulated devices share this machine's cores all the same.

    Args:
        tasks: in any order; their results come in the same.
        devices: by default all that are here.
        assign: `round_robin`, `longest_first` or `work_stealing`.

    Raises:
        ValueError: there are no tasks or no devices, or not each task is assigned once.
        Exception: what a task raised; tasks that had not begun are left out, as they
            are after an interrupt.
    """
    devices = jax.devices() if devices is None else list(devices)
    if not tasks or not devices:
        raise ValueError(
            lesson(
                f"{len(tasks)} tasks cannot be run on {len(devices)} devices.",
                why="each task runs on one device.",
                fix="at least one of both.",
            )
        )
    queues = assign([task.cost for task in tasks], len(devices))
    _check_queues(queues, len(tasks), len(devices))
    crew = _Crew(tasks, queues)
    with ThreadPoolExecutor(len(devices)) as pool:
        try:
            ended = [pool.submit(crew.work, place, device) for place, device in enumerate(devices)]
            for each in ended:
                each.result()  # raises what the task raised
        except BaseException:  # an interrupt, too
            crew.stop()
            raise
    events = sorted(crew.events, key=lambda event: event.start)
    results = tuple(crew.results[i] for i in range(len(tasks)))
    return TaskRun(tuple(events), len(devices), "measured", results)


def _check_queues(queues: Queues, tasks: int, devices: int) -> None:
    assigned = sorted(task for row in queues.rows for task in row)
    if len(queues.rows) != devices or assigned != list(range(tasks)):
        raise ValueError(
            lesson(
                f"{tasks} tasks on {devices} devices are assigned as {list(queues.rows)}.",
                why=f"each of the tasks 0 to {tasks - 1} is run once, by one of {devices} devices.",
                fix="a row of task numbers for each device: Queues(((0, 2), (1,))).",
            )
        )


class _Crew:
    """Threads that take tasks from queues until none is left."""

    def __init__(self, tasks: Sequence[Task], queues: Queues):
        self._tasks, self._steals, self._lock = tasks, queues.steals, Lock()
        self._waiting = [deque(row) for row in queues.rows]
        self._began = time.perf_counter()
        self.events: list[TaskEvent] = []
        self.results: dict[int, Any] = {}

    def work(self, place: int, device) -> None:
        """Run what one device is to run."""
        with jax.default_device(device):
            while taken := self._next(place):
                self._run(*taken, place, device)

    def stop(self) -> None:
        """Let nobody begin another task."""
        with self._lock:
            for row in self._waiting:
                row.clear()

    def _next(self, place: int) -> tuple[int, bool] | None:
        with self._lock:
            return next_task(self._waiting, place, steals=self._steals)

    def _run(self, number: int, stolen: bool, place: int, device) -> None:
        task, start = self._tasks[number], self._now()
        try:
            result = jax.block_until_ready(task.run(device))
        except BaseException:
            self.stop()
            raise
        self.results[number] = result
        self.events.append(TaskEvent(task.name, number, place, start, self._now(), stolen))

    def _now(self) -> float:
        return time.perf_counter() - self._began
