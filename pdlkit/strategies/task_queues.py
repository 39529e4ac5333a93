"""Independent tasks on several devices: who runs which, and how long it takes."""

import dataclasses
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from pdlkit.errors import lesson
from pdlkit.timings import Portrayed


class Queues(NamedTuple):
    """Which tasks each device is to run, in order."""

    rows: tuple[tuple[int, ...], ...]  # one a device: numbers of tasks
    steals: bool = False  # whether a device that has none left takes another's last


class TaskEvent(NamedTuple):
    """One task as it was run."""

    name: str
    task: int  # its number
    device: int
    start: float  # seconds since the first began
    end: float
    stolen: bool = False  # from another device's queue


@dataclasses.dataclass(frozen=True, repr=False)
class TaskRun(Portrayed):
    """Tasks that were run, or played: which device did what, and when."""

    events: tuple[TaskEvent, ...]
    devices: int
    word: str  # measured, or modelled
    results: tuple[Any, ...] = ()  # of each task, in the order they were given

    @property
    def seconds(self) -> float:
        """From the start of the first task to the end of the last: the makespan."""
        return max((event.end for event in self.events), default=0.0)

    @property
    def busy(self) -> tuple[float, ...]:
        """The seconds that each device worked."""
        return tuple(
            sum(event.end - event.start for event in self.events if event.device == device)
            for device in range(self.devices)
        )


def round_robin(costs: Sequence[float], devices: int) -> Queues:
    """Deal tasks like cards, to one device after another, whatever they cost."""
    return Queues(tuple(tuple(range(i, len(costs), devices)) for i in range(devices)))


def longest_first(costs: Sequence[float], devices: int) -> Queues:
    """Give the costliest task that is left to the device with least to do.

    At most 4/3 - 1/(3 n) times as long as the best assignment to n devices.

    Source: Graham 1969, "Bounds on Multiprocessing Timing Anomalies",
    doi:10.1137/0117039
    """
    rows, loads = [[] for _ in range(devices)], [0.0] * devices
    for task in sorted(range(len(costs)), key=lambda task: -costs[task]):
        device = loads.index(min(loads))
        rows[device].append(task)
        loads[device] += costs[task]
    return Queues(tuple(map(tuple, rows)))


def work_stealing(costs: Sequence[float], devices: int) -> Queues:
    """Cut the tasks into equal runs; who has none left takes from the fullest.

    What a task costs need not be known. At most 2 - 1/n times as long as the best
    assignment to n devices.

    Source: Blumofe and Leiserson 1999, "Scheduling Multithreaded Computations by Work
    Stealing", doi:10.1145/324133.324234; the bound by Graham 1966, "Bounds for Certain
    Multiprocessing Anomalies", doi:10.1002/j.1538-7305.1966.tb01709.x
    """
    ends = [len(costs) * i // devices for i in range(devices + 1)]
    return Queues(tuple(tuple(range(*ends[i : i + 2])) for i in range(devices)), steals=True)


def next_task(waiting: list[deque], device: int, *, steals: bool) -> tuple[int, bool] | None:
    """Take the task that a device runs next, and tell whether it was stolen.

    Its own from the front of its queue, another's from the back of the fullest; None
    where there is nothing to take.
    """
    if waiting[device]:
        return waiting[device].popleft(), False
    fullest = max(waiting, key=len)
    return (fullest.pop(), True) if steals and fullest else None


def play_tasks(queues: Queues, seconds: Sequence[float], names: Sequence[str] = ()) -> TaskRun:
    """Return what running tasks of known length would look like: modelled.

    Args:
        queues: as an assignment gives them.
        seconds: that each task takes.
        names: of the tasks; by default their numbers.

    Raises:
        ValueError: a task that is assigned has no length.
    """
    unknown = [task for row in queues.rows for task in row if not 0 <= task < len(seconds)]
    if unknown:
        raise ValueError(
            lesson(
                f"there are {len(seconds)} lengths, but task {unknown[-1]} is assigned.",
                why="a task is played for as long as it takes.",
                fix="one figure for each task, in seconds.",
            )
        )
    waiting, free, events = [deque(row) for row in queues.rows], [0.0] * len(queues.rows), []
    while any(waiting):
        able = [device for device, row in enumerate(waiting) if row or queues.steals]
        device = min(able, key=free.__getitem__)
        taken = next_task(waiting, device, steals=queues.steals)
        assert taken, "an able device has a task"
        task, stolen = taken
        start, free[device] = free[device], free[device] + seconds[task]
        name = names[task] if names else str(task)
        events.append(TaskEvent(name, task, device, start, free[device], stolen))
    return TaskRun(tuple(events), len(queues.rows), "modelled")
