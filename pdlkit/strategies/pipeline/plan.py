"""A schedule made ready to run: what a device looks up in each tick."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from pdlkit.schedules.table import Op, Table
from pdlkit.schedules.tasks import BACKWARD, FORWARD, KINDS, WEIGHT, Task

Lives = list[dict[Any, tuple[int, int]]]  # of each device: what it holds -> from tick, to tick


class Now(NamedTuple):
    """What one device does in one tick, as whole numbers; of a plan, [ticks, stages]."""

    kind: Any  # index into KINDS, or -1: nothing
    chunk: Any
    microbatch: Any
    first: Any  # whether it is the first virtual stage of the network
    last: Any  # or the last
    mail: Any  # the slot of the message that it reads
    seed: Any  # where the last stage puts the gradient of the loss
    saved: Any  # the slot of what the forward saves for the gradients
    kept: Any  # and of what the backward keeps for the weight gradient
    receive: tuple  # for each hop, the slot that a message goes into after the tick


class Slots(NamedTuple):
    """How many slots each buffer has: as many as the device that needs most."""

    mail: int  # activations and gradients, from their arrival until they are read
    saved: int  # from a forward to its last gradient
    kept: int  # from a backward to its weight gradient


class Plan(NamedTuple):
    """A schedule, ready to run."""

    now: Now
    hops: tuple[int, ...]  # how many devices on messages go; 0: they stay
    slots: Slots

    @property
    def sends(self) -> tuple[np.ndarray, ...]:
        """Of each hop, [ticks], whether all send: where any device waits for something.

        A hop that rests in less than an eighth of the ticks is taken in all, for to ask
        in each of them costs more than a few messages.
        """
        awaited = [(slot < self.slots.mail).any(1) for slot in self.now.receive]
        return tuple(ticks | (ticks.mean() > 7 / 8) for ticks in awaited)


def plan(table: Table) -> Plan:
    """Return the plan of a schedule that was checked.

    One slot more than `slots.mail` is there for what arrives and is not waited for:
    where one device sends on a hop, all do.
    """
    tasks = table.tasks()
    coloured = {name: _coloured(lives) for name, lives in _lives(table, tasks).items()}
    slot = {name: slots for name, (slots, _) in coloured.items()}
    count = Slots(**{name: most for name, (_, most) in coloured.items()})

    messages = list(_messages(table, tasks))
    hops = tuple(sorted({hop for hop, _, _ in messages}))
    grid, spare = (table.ticks, table.stages), count.mail
    receive = tuple(np.full(grid, spare, np.int32) for _ in hops)
    columns = {name: np.zeros(grid, np.int32) for name in Now._fields if name != "receive"}
    columns["kind"][:] = -1
    for op in table.ops:
        for name, value in _looked_up(op, table, slot).items():
            columns[name][op.tick, op.device] = value
    for hop, sender, reader in messages:
        place = sender.tick, table.placement[reader.virtual]
        receive[hops.index(hop)][place] = slot["mail"][reader]
    return Plan(Now(**columns, receive=receive), hops, count)


def _looked_up(op: Op, table: Table, slot: Mapping[str, dict]) -> dict[str, int]:
    task = table.done_by(op)[0]
    pair = task.virtual, task.microbatch
    return {
        "kind": KINDS.index(op.kind),
        "chunk": op.chunk,
        "microbatch": op.microbatch,
        "first": task.virtual == 0,
        "last": task.virtual == len(table.placement) - 1,
        "mail": slot["mail"].get(task, 0),
        "seed": slot["mail"][task._replace(kind=BACKWARD)],
        "saved": slot["saved"][pair],
        "kept": slot["kept"].get(pair, 0),
    }


def _messages(table: Table, tasks: Mapping[Task, Op]) -> Iterator[tuple[int, Op, Task]]:
    """Yield each message: how many devices on it goes, who sends it, who reads it."""
    for task, op in tasks.items():
        reader = task._replace(virtual=task.virtual + (1 if task.kind == FORWARD else -1))
        if task.kind != WEIGHT and 0 <= reader.virtual < len(table.placement):
            hop = (table.placement[reader.virtual] - op.device) % table.stages
            yield hop, op, reader


def _lives(table: Table, tasks: Mapping[Task, Op]) -> dict[str, Lives]:
    """Return what each device holds in each buffer, and from when to when."""
    lives: dict[str, Lives] = {name: [{} for _ in range(table.stages)] for name in Slots._fields}
    for _, sender, reader in _messages(table, tasks):
        device = table.placement[reader.virtual]
        lives["mail"][device][reader] = sender.tick, tasks[reader].tick
    for task, op in tasks.items():
        pair = task.virtual, task.microbatch
        done = tasks[task._replace(kind=WEIGHT)].tick
        if task.kind == FORWARD:
            lives["saved"][op.device][pair] = op.tick, done
            # The two ends of the network write to themselves.
            if task.virtual == 0:
                lives["mail"][op.device][task] = op.tick - 1, op.tick
            if task.virtual == len(table.placement) - 1:
                seed = task._replace(kind=BACKWARD)
                lives["mail"][op.device][seed] = op.tick, tasks[seed].tick
        if op.kind == BACKWARD:
            lives["kept"][op.device][pair] = op.tick, done
    return lives


def _coloured(lives: Lives) -> tuple[dict, int]:
    """Return the slot of each thing that is held, and how many a device needs.

    Each takes the lowest slot that is free when its life begins, which needs no more
    slots than there are lives at once.
    """
    slot, most = {}, 0
    for held in lives:
        free_at: list[int] = []
        for key, (start, end) in sorted(held.items(), key=lambda each: each[1]):
            place = next((i for i, tick in enumerate(free_at) if tick <= start), len(free_at))
            free_at[place : place + 1] = [end]
            slot[key] = place
        most = max(most, len(free_at))
    return slot, most
