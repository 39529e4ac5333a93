"""A schedule played in seconds: when each op begins, and who waits how long."""

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from pdlkit.errors import check_kind, lesson
from pdlkit.records import Event
from pdlkit.schedules import Table, check
from pdlkit.schedules.tasks import BACKWARD, BOTH, FORWARD, KINDS, WEIGHT, Numbers
from pdlkit.timings import Portrayed


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Timeline(Portrayed):
    """Modelled: when each op of a schedule begins and ends."""

    table: Table
    start: np.ndarray  # [ops], seconds
    end: np.ndarray  # [ops], seconds; infinite where a device never comes back

    @property
    def seconds(self) -> float:
        """From the first op of all to the end of the last."""
        end = float(self.end.max())
        return end - float(self.start.min()) if np.isfinite(end) else end

    @cached_property
    def events(self) -> tuple[Event, ...]:
        """What each device does, and when; without what it never comes to."""
        ops = zip(self.table.ops, self.start.tolist(), self.end.tolist(), strict=True)
        return tuple(
            Event(op.device, start, end, op.kind, str(op.microbatch))
            for op, start, end in ops
            if np.isfinite(end)
        )

    @property
    def busy(self) -> np.ndarray:
        """[devices], the seconds in which each works."""
        worked = np.isfinite(self.end)
        seconds = self.end[worked] - self.start[worked]
        return np.bincount(self.table.columns.device[worked], seconds, self.table.stages)

    @property
    def occupied(self) -> np.ndarray:
        """[devices], the seconds from each one's first op to the end of its last."""
        first, last = np.full(self.table.stages, np.inf), np.zeros(self.table.stages)
        np.minimum.at(first, self.table.columns.device, self.start)
        np.maximum.at(last, self.table.columns.device, self.end)
        begun = np.isfinite(first)
        return np.subtract(last, first, out=np.zeros_like(last), where=begun)

    @property
    def bubble(self) -> float:
        """The share of the step in which a device waits, on the mean over devices.

        A step lasts as long as the device that is occupied longest: another may begin
        later and end later, for the next step begins on it later, too.

        Source: Qi et al. 2023, "Zero Bubble Pipeline Parallelism", section 5,
        https://arxiv.org/abs/2401.10241
        """
        if not np.isfinite(self.end).all():
            return 1.0
        longest = self.occupied.max()
        return float(1 - self.busy.mean() / longest) if longest else 0.0

    @property
    def peak_activations(self) -> tuple[int, ...]:
        """The most micro-batches that each device holds activations of at once."""
        return self.table.peak_activations


def play(
    table: Table,
    *,
    forward=1.0,
    backward=1.0,
    weight=1.0,
    transfer=0.0,
    down: Mapping[int, tuple[float, float]] | None = None,
) -> Timeline:
    """Return when each op of a schedule would begin and end, run in its order.

    A device does its ops in the order of the table, each as soon as what it reads has
    arrived. What is sent keeps no device from working.

    Args:
        table: a schedule; its ticks give the order, and nothing else.
        forward: seconds of one micro-batch through one virtual stage: one number, or
            [virtual stages], or [virtual stages, micro-batches] where some are slower.
        backward: likewise, of the gradient of the input.
        weight: likewise, of the gradient of the weights. A schedule that does not split
            the two takes as long as both.
        transfer: seconds from one device to another: one number or [devices, devices].
        down: device -> (from, until), seconds in which it is away. An op that it was at
            is begun again; until `math.inf` it never is, nor what waits for it.

    Raises:
        ValueError: a schedule that deadlocks, or times of another shape, or negative.

    Source: the event model by which Qi et al. 2023 (https://arxiv.org/abs/2401.10241)
    find bubbles.
    """
    check_kind("table", table, Table, "pdl.schedules.one_f_one_b(4, 8)")
    check(table)
    columns, stage = table.columns, table.stage_of_ops
    numbers = Numbers(len(table.placement), table.microbatches)
    placement = np.array(table.placement)
    read = numbers.read(columns.kind, stage, columns.microbatch)
    reader = np.broadcast_to(columns.device, read.shape)
    writer = np.append(np.tile(placement[:, None], (3, 1, table.microbatches)), 0)[read]
    hop = np.where(read == numbers.none, 0.0, _hops(transfer, table.stages)[writer, reader])
    lasts = {"forward": forward, "backward": backward, "weight": weight}
    seconds = _seconds(lasts, numbers)[columns.kind, stage, columns.microbatch]
    leaves, returns = _outages(down or {}, table.stages)

    start, end = np.zeros((2, len(table.ops)))
    there, free = np.zeros(numbers.none + 1), np.zeros(table.stages)
    gives = numbers.of(columns.kind, stage, columns.microbatch)
    by_tick = np.argsort(columns.tick, kind="stable")
    # Ops of one tick are on different devices, and read what earlier ticks gave.
    for ops in np.split(by_tick, np.flatnonzero(np.diff(columns.tick[by_tick])) + 1):
        device = columns.device[ops]
        arrived = (there[read[:, ops]] + hop[:, ops]).max(0)
        begins = np.maximum(arrived, free[device])
        away = (begins < returns[device]) & (begins + seconds[ops] > leaves[device])
        begins = np.where(away, returns[device], begins)
        start[ops], end[ops] = begins, begins + seconds[ops]
        free[device] = there[gives[ops]] = end[ops]
    return Timeline(table, start, end)


def _seconds(lasts: Mapping[str, Any], numbers: Numbers) -> np.ndarray:
    """Return [kinds, virtual stages, micro-batches], how long each op lasts."""
    forward, backward, weight = (_broadcast(*each, numbers) for each in lasts.items())
    kinds = {FORWARD: forward, BACKWARD: backward, WEIGHT: weight, BOTH: backward + weight}
    return np.stack([kinds[kind] for kind in KINDS])


def _broadcast(name: str, given, numbers: Numbers) -> np.ndarray:
    """Return [virtual stages, micro-batches] of seconds."""
    seconds = np.asarray(given, float)
    shape = numbers.virtual_stages, numbers.microbatches
    if seconds.shape not in ((), shape[:1], shape):
        raise ValueError(
            lesson(
                f"{name} has the shape {list(seconds.shape)}.",
                why=f"the schedule has {shape[0]} virtual stages and {shape[1]} micro-batches.",
                fix=f"one number, {shape[0]} numbers, or an array of {list(shape)}.",
            )
        )
    _check_times(name, seconds)
    return np.broadcast_to(seconds[:, None] if seconds.ndim == 1 else seconds, shape)


def _hops(transfer, devices: int) -> np.ndarray:
    """Return [devices, devices], the seconds from one to the other."""
    seconds = np.asarray(transfer, float)
    if seconds.shape not in ((), (devices, devices)):
        raise ValueError(
            lesson(
                f"transfer has the shape {list(seconds.shape)}.",
                why=f"the schedule is for {devices} devices, and each may send to each.",
                fix=f"one number, or an array of [{devices}, {devices}]: from, to.",
            )
        )
    _check_times("transfer", seconds)
    hops = np.array(np.broadcast_to(seconds, (devices, devices)))
    np.fill_diagonal(hops, 0.0)
    return hops


def _check_times(name: str, seconds: np.ndarray) -> None:
    if not (np.isfinite(seconds) & (seconds >= 0)).all():
        raise ValueError(
            lesson(
                f"{name} is {seconds.min()} somewhere.",
                why="an op and a message last some seconds, or none.",
                fix="0 or more; a device that never comes back is down={0: (3.0, math.inf)}.",
            )
        )


def _outages(down: Mapping[int, tuple[float, float]], devices: int) -> np.ndarray:
    """Return [2, devices], from when and until when each is away."""
    away = np.stack([np.full(devices, np.inf), np.full(devices, -np.inf)])
    for device, (leaves, returns) in down.items():
        if device not in range(devices) or not 0 <= leaves <= returns:
            raise ValueError(
                lesson(
                    f"device {device} cannot be away from {leaves} s to {returns} s.",
                    why=f"the schedule has devices 0 to {devices - 1}, and begins at 0 s.",
                    fix="down={0: (3.0, 5.0)}, or until math.inf.",
                )
            )
        away[:, device] = leaves, returns
    return away
