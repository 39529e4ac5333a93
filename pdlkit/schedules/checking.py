"""Whether a schedule can be run: every op once, after its input, one at a time."""

from collections.abc import Sequence

from pdlkit.errors import lesson
from pdlkit.schedules.table import (
    BACKWARD,
    BOTH,
    FORWARD,
    KINDS,
    WEIGHT,
    Op,
    Orders,
    Table,
    Task,
    needs,
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
    for op in table.ops:
        _check_op(op, table)
    _check_overlaps(table)
    tasks = _check_complete(table)
    for task, op in tasks.items():
        for before in needs(task, len(table.placement)):
            if tasks[before].tick >= op.tick and tasks[before] is not op:
                raise ValueError(_too_early(task, op, before, tasks[before]))


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
        if not hasattr(size, "__index__") or size < 1:
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


def _check_op(op: Op, table: Table) -> None:
    limits = {
        "device": table.stages,
        "microbatch": table.microbatches,
        "chunk": table.chunks,
        "tick": float("inf"),
    }
    for name, limit in limits.items():
        if not 0 <= getattr(op, name) < limit:
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
    taken: dict[tuple[int, int], Op] = {}
    for op in table.ops:
        other = taken.setdefault((op.device, op.tick), op)
        if other is not op:
            raise ValueError(
                lesson(
                    f"device {op.device} has two ops at tick {op.tick}: {_name(other)} and "
                    f"{_name(op)}.",
                    why="a device does one thing at a time.",
                    fix="another tick for one of them; schedules.in_order finds ticks by itself.",
                )
            )


def _check_complete(table: Table) -> dict[Task, Op]:
    """Return the op of each task; raise if one is done twice, or never."""
    tasks: dict[Task, Op] = {}
    for op in table.ops:
        for task in table.done_by(op):
            if task in tasks:
                raise ValueError(
                    lesson(
                        f"the {words(task)} is done twice, at ticks {tasks[task].tick} and "
                        f"{op.tick}.",
                        why="it would be counted twice in the gradient.",
                        fix="leave one of the two out.",
                    )
                )
            tasks[task] = op
    for virtual in range(len(table.placement)):
        for microbatch in range(table.microbatches):
            for kind in (FORWARD, BACKWARD, WEIGHT):
                if (task := Task(kind, virtual, microbatch)) not in tasks:
                    raise ValueError(
                        lesson(
                            f"the {words(task)} is never done.",
                            why="the gradient needs every micro-batch on every stage.",
                            fix=f"an op for it on device {table.placement[virtual]}.",
                        )
                    )
    return tasks


def _too_early(task: Task, op: Op, before: Task, other: Op) -> str:
    return lesson(
        f"deadlock: the {words(task)} stands at tick {op.tick} of device {op.device}, but it "
        f"waits for the {words(before)}, at tick {other.tick} of device {other.device}.",
        why="what an op gives is there from the next tick on.",
        fix=f"tick {other.tick + 1} or later; schedules.in_order finds ticks by itself.",
    )


def words(task: Task) -> str:
    """Return what a task is, for a sentence: the ... of micro-batch 0 on stage 1."""
    return f"{_WORDS[task.kind]} of micro-batch {task.microbatch} on stage {task.virtual}"


def _name(op: Op) -> str:
    return f"{op.kind} of micro-batch {op.microbatch}"
