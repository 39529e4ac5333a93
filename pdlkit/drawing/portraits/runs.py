"""What training looked like: the loss of each device, and of all."""

from collections.abc import Mapping, Sequence

import numpy as np

from pdlkit.drawing.scales import write
from pdlkit.pictures import Axis, Line, Panel, Picture
from pdlkit.records import Record


def losses(history: tuple[Record, ...]) -> Picture:
    """Return the loss of each device and their mean, as measured."""
    if not history:
        nothing = Panel("loss", "measured", ())
        return Picture("No step was made", (nothing,), alt="loss, 0 steps")
    steps = tuple(record.step for record in history)
    whole = tuple(record.loss for record in history)
    each = by_device(history)
    count = each.shape[1]
    devices = [
        Line(f"device {i}", steps, tuple(each[:, i].tolist()), group="devices")
        for i in range(count if count > 1 else 0)
    ]
    mean = Line("all devices" if devices else "loss", steps, whole)
    who = f"each of {count} devices" if devices else "1 device"
    seen = f"loss of {who}, {len(history)} step{'s' * (len(history) != 1)}"
    panel = Panel(f"loss of {who}", "measured", (*devices, mean), x=Axis("step"), y=Axis("loss"))
    return Picture(_found(whole, history[-1].device_loss), (panel,), alt=seen)


SMOOTHED = 8  # steps, so that the noise of batches does not hide what differs


def side_by_side(runs: Mapping[str, Sequence[Record]]) -> Picture:
    """Return the loss of several trainings on one pair of axes, as measured."""
    curves = {name: _smooth([record.loss for record in history]) for name, history in runs.items()}
    lines = tuple(
        Line(name, tuple(record.step for record in history), tuple(curves[name].tolist()))
        for name, history in runs.items()
    )
    every = np.concatenate(list(curves.values()))
    every = every[np.isfinite(every)]
    wide = every.size > 0 and every.min() > 0 and every.max() > 30 * every.min()
    y = Axis(f"loss, mean of {SMOOTHED} steps", log=bool(wide))
    panel = Panel("loss", "measured", lines, x=Axis("step"), y=y)
    ends = ", ".join(f"{write(curve[-1])} ({name})" for name, curve in curves.items() if curve.size)
    return Picture(f"Loss at the end: {ends}", (panel,), alt=f"loss of {', '.join(runs)}")


def _smooth(losses: Sequence[float]) -> np.ndarray:
    """Return the mean of each loss and of those just before it."""
    sums = np.cumsum([0.0, *losses])
    last = np.arange(1, len(losses) + 1)
    first = np.maximum(last - SMOOTHED, 0)
    return (sums[last] - sums[first]) / (last - first)


def by_device(history: Sequence[Record]) -> np.ndarray:
    """Return [step, device], the losses; NaN where a device was not there."""
    losses = np.full((len(history), max(record.device_loss.size for record in history)), np.nan)
    for step, record in enumerate(history):
        losses[step, : record.device_loss.size] = record.device_loss
    return losses


def _found(whole: tuple[float, ...], last: np.ndarray) -> str:
    first, final = write(whole[0]), write(whole[-1])
    steps = len(whole) - 1
    found = f"Loss from {first} to {final}" if steps else f"Loss {first}"
    if last.size < 2:
        return found
    between = f"between {write(last.min())} and {write(last.max())}"
    return f"{found}; {last.size} devices {'end ' * bool(steps)}{between}"
