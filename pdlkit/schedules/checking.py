"""Whether a schedule can be run: every op once, after its input, one at a time."""

from collections.abc import Sequence

import numpy as np

from pdlkit.errors import is_count, lesson
from pdlkit.schedules.table import Op, Table
from pdlkit.schedules.tasks import (
    BACKWARD,
    BOTH,
    FORWARD,
    KINDS,
    SINGLE,
    WEIGHT,
    Numbers,
    Orders,
    Task,
)

_WORDS = {
    FORWARD: "forward pass",
    BACKWARD: "input gradient",
    WEIGHT: "weight gradient",
    BOTH: "backward pass",
}


def check(table: Table) -> None:
    """Raise if a schedule cannot be run as it stands.

    Raises:
        ValueError: an op that is not in the grid, is done twice or forgotten, shares a
            tick of a device with another, or comes before its input is there.
    """
    _check_placement(table.placement)
    _check_ops(table)
    _check_overlaps(table)
    _check_inputs(table, _check_complete(table))


def check_orders(orders: Orders, placement: Sequence[int]) -> None:
    """Raise if these are no orders for the devices of a placement.

    Raises:
        ValueError: more or fewer orders than devices, or a task that is not the device's.
    """
    _check_placement(placement)
    devices = len(set(placement))
    if len(orders) != devices:
        raise ValueError(
            lesson(
                f"{len(orders)} orders are given for {devices} devices.",
                why="each device does its own tasks, in its own order.",
                fix="a list of tasks for each device, that of device 0 first.",
            )
        )
    for device, order in enumerate(orders):
        own = [k for k, where in enumerate(placement) if where == device]
        for task in order:
            _check_kind(task)
            if task.virtual not in own:
                raise ValueError(
                    lesson(
                        f"device {device} is given the {words(task)}.",
                        why=f"by its placement it holds stage {' and '.join(map(str, own))}.",
                        fix="another stage, or the order of another device.",
                    )
                )


def check_sizes(**sizes: int) -> None:
    """Raise if one of these is no whole number from 1 on."""
    for name, size in sizes.items():
        if not is_count(size):
            raise ValueError(
                lesson(
                    f"{name}={size} is no number of {name}.",
                    why="stages, micro-batches and chunks are counted, and one is the fewest.",
                    fix=f"{name}=1, or another whole number from there on: 8 // 2, not 8 / 2.",
                )
            )


def _check_placement(placement: Sequence[int]) -> None:
    devices, counts = set(placement), {placement.count(device) for device in placement}
    if devices != set(range(len(devices))) or len(counts) > 1:
        raise ValueError(
            lesson(
                f"placement {list(placement)} does not give each device as many virtual stages.",
                why="all devices run one program, on as many layers each.",
                fix="devices counted from 0, each named equally often: (0, 1, 1, 0).",
            )
        )


def _check_ops(table: Table) -> None:
    limits = {
        "device": table.stages,
        "microbatch": table.microbatches,
        "chunk": table.chunks,
        "tick": np.inf,
    }
    columns = table.columns
    outside = {
        name: (getattr(columns, name) < 0) | (getattr(columns, name) >= limit)
        for name, limit in limits.items()
    }
    for i in np.flatnonzero(np.any([*outside.values(), columns.kind < 0], axis=0)):
        op = table.ops[i]
        for name, limit in limits.items():
            if outside[name][i]:
                raise ValueError(
                    lesson(
                        f"{op} has {name}={getattr(op, name)}, which is not there.",
                        why=f"this schedule counts {name}s from 0"
                        + (f" to {limit - 1}." if name != "tick" else "."),
                        fix=f"another {name}, or a larger schedule.",
                    )
                )
        _check_kind(op)


def _check_kind(done: Op | Task) -> None:
    if done.kind not in KINDS:
        raise ValueError(
            lesson(
                f"{done} has kind {done.kind!r}.",
                why="a schedule, its picture and its program know four kinds.",
                fix=f"one of {', '.join(KINDS)}.",
            )
        )


def _check_overlaps(table: Table) -> None:
    place = table.columns.tick * table.stages + table.columns.device
    if (second := _repeated(place)) is not None:
        op, other = table.ops[second], table.ops[np.argmax(place == place[second])]
        raise ValueError(
            lesson(
                f"device {op.device} has two ops at tick {op.tick}: {_name(other)} and "
                f"{_name(op)}.",
                why="a device does one thing at a time.",
                fix="another tick for one of them; schedules.in_order finds ticks by itself.",
            )
        )


def _check_complete(table: Table) -> np.ndarray:
    """Return the tick at which each task is done, -1 for none, by `Numbers`.

    Raises if a task is done twice, or never.
    """
    numbers, columns = Numbers(len(table.placement), table.microbatches), table.columns
    kind, virtual = columns.kind, table.stage_of_ops
    both = np.flatnonzero(kind == KINDS.index(BOTH))
    weight = np.full(len(both), KINDS.index(WEIGHT))
    done = np.concatenate(
        [
            numbers.of(kind, virtual, columns.microbatch),
            numbers.of(weight, virtual[both], columns.microbatch[both]),
        ]
    )
    doer = np.concatenate([np.arange(len(kind)), both])
    by_op = np.argsort(doer, kind="stable")
    done, ticks = done[by_op], columns.tick[doer[by_op]]
    if (second := _repeated(done)) is not None:
        raise ValueError(
            lesson(
                f"the {words(numbers.task(done[second]))} is done twice, at ticks "
                f"{ticks[np.argmax(done == done[second])]} and {ticks[second]}.",
                why="it would be counted twice in the gradient.",
                fix="leave one of the two out.",
            )
        )
    tick = np.full(numbers.none + 1, -1)
    tick[done] = ticks
    never = (tick[:-1] < 0).reshape(len(SINGLE), len(table.placement), -1).transpose(1, 2, 0)
    for virtual, microbatch, kind in np.argwhere(never):
        task = Task(SINGLE[kind], int(virtual), int(microbatch))
        raise ValueError(
            lesson(
                f"the {words(task)} is never done.",
                why="the gradient needs every micro-batch on every stage.",
                fix=f"an op for it on device {table.placement[virtual]}.",
            )
        )
    return tick


def _check_inputs(table: Table, tick: np.ndarray) -> None:
    """Raise if an op reads what is not there yet."""
    numbers, columns = Numbers(len(table.placement), table.microbatches), table.columns
    read = numbers.read(columns.kind, table.stage_of_ops, columns.microbatch)
    for i, place in np.argwhere((tick[read] >= columns.tick).T):
        op, before = table.ops[i], numbers.task(read[place, i])
        there = int(tick[read[place, i]])
        raise ValueError(_too_early(table.done_by(op)[0], op, before, there, table))


def _repeated(values: np.ndarray) -> int | None:
    """Return where a value stands that stood before, or None."""
    order = np.argsort(values, kind="stable")
    again = order[1:][np.diff(values[order]) == 0]
    return int(again.min()) if len(again) else None


def _too_early(task: Task, op: Op, before: Task, tick: int, table: Table) -> str:
    return lesson(
        f"deadlock: the {words(task)} stands at tick {op.tick} of device {op.device}, but it "
        f"waits for the {words(before)}, at tick {tick} of device "
        f"{table.placement[before.virtual]}.",
        why="what an op gives is there from the next tick on.",
        fix=f"tick {tick + 1} or later; schedules.in_order finds ticks by itself.",
    )


def words(task: Task) -> str:
    """Return what a task is, for a sentence: the ... of micro-batch 0 on stage 1."""
    return f"{_WORDS[task.kind]} of micro-batch {task.microbatch} on stage {task.virtual}"


def _name(op: Op) -> str:
    return f"{op.kind} of micro-batch {op.microbatch}"
