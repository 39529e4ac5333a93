"""What training looked like: the loss of each device, and of all."""

from collections.abc import Sequence

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
