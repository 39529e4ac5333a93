"""What a board shows of a training: each panel looks at records in its own way.

A panel has `begin(training)`, `add(record)` and `draw()`, which gives a
`pdlkit.pictures.Panel`, an empty one before anything is known; anything that has
them can stand on a board.
"""

import numpy as np

from pdlkit.drawing.live.series import Series
from pdlkit.drawing.portraits import reports
from pdlkit.pictures import Axis, Line, Panel
from pdlkit.records import Record, Report, Training

_STEP = Axis("step")


class _Measured:
    """A panel of curves that grow with the records."""

    def __init__(self):
        self._series = Series()

    def begin(self, training: Training) -> None:
        """Nothing is needed."""


class _Counted:
    """A panel of what every step does, read off the compiled program once."""

    def __init__(self):
        self._report: Report | None = None

    def begin(self, training: Training) -> None:
        """Count, which compiles the step."""
        self._report = training.inspect()

    def add(self, record: Record) -> None:
        """Nothing is new: every step does the same."""


class Losses(_Measured):
    """The loss of each device and of all together, measured; `log` for small ones."""

    def __init__(self, *, log: bool = False):
        super().__init__()
        self._axis = Axis("loss", log=log)

    def add(self, record: Record) -> None:
        """Take the losses of a step; the first curve is the whole batch's."""
        own = record.device_loss
        self._series.add(record.step, [record.loss, *(own if own.size > 1 else ())])

    def draw(self) -> Panel:
        """Return the curves."""
        x, y = self._series.x, self._series.y
        here = int(np.isfinite(y[1:, -1:]).sum())  # those that have left keep their past
        who = f"each of {here} devices" if here else "the batch"
        lines = _of_devices(x, y[1:])
        lines += [Line("all devices" if lines else "loss", x, values) for values in y[:1]]
        return Panel(f"loss of {who}", "measured", tuple(lines), x=_STEP, y=self._axis)


class Seconds(_Measured):
    """What a step takes, and how much of it the loop waits for its devices; measured."""

    def __init__(self):
        super().__init__()
        self._compiles = True

    def begin(self, training: Training) -> None:
        """Expect a step that compiles."""
        self._compiles = True

    def add(self, record: Record) -> None:
        """Take the time of a step, unless it compiled."""
        if not self._compiles:
            self._series.add(record.step, [record.seconds, record.waiting])
        self._compiles = False

    def draw(self) -> Panel:
        """Return the curve of seconds, and the curve of waiting where it is known."""
        x, y = self._series.x, self._series.y
        labels = ("a step", "waiting for devices")
        lines = tuple(
            Line(label, x, values)
            for label, values in zip(labels, y, strict=False)
            if np.isfinite(values).any()
        )
        title = "seconds a step, mean of the last 8"
        return Panel(title, "measured", lines, x=_STEP, y=Axis("", "s"))


class Sends(_Counted):
    """What one device sends in one step, by collective and mesh axis; counted."""

    def draw(self) -> Panel:
        """Return a bar for each kind of collective along each axis."""
        return reports.sent(self._report.collectives if self._report else ())


class Memory(_Counted):
    """What one device holds in one step; counted."""

    def draw(self) -> Panel:
        """Return a bar for each use of the memory."""
        if self._report is None:
            return Panel("what each device holds in one step", "counted", ())
        return reports.held(self._report.memory)


class Note(_Measured):
    """A figure that the model notes, `layers.note(name, value)`; measured.

    Of each device; of an array, its mean.
    """

    def __init__(self, name: str):
        super().__init__()
        self.name = name

    def add(self, record: Record) -> None:
        """Take what was noted, if it was."""
        if self.name in record.notes:
            noted = np.asarray(record.notes[self.name], dtype=float)  # [devices, ...]
            self._series.add(record.step, noted.reshape(len(noted), -1).mean(axis=1))

    def draw(self) -> Panel:
        """Return a curve for each device."""
        lines = tuple(_of_devices(self._series.x, self._series.y))
        return Panel(self.name, "measured", lines, x=_STEP, y=Axis(self.name))


def _of_devices(x: np.ndarray, y: np.ndarray) -> list[Line]:
    return [Line(f"device {i}", x, values, group="devices") for i, values in enumerate(y)]
