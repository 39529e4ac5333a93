"""The board: what a training does, seen while it does it, and the knobs to turn."""

import collections
import copy
import dataclasses
import functools
import importlib
from collections.abc import Mapping
from typing import Any

import jax

from pdlkit.drawing import bundle
from pdlkit.drawing.live import frontends, panels, series, views
from pdlkit.drawing.live.throttle import Throttle
from pdlkit.drawing.portraits import show
from pdlkit.drawing.scales import write
from pdlkit.pictures import Picture
from pdlkit.records import Record, Training
from pdlkit.signals import Pause, Signal

_AT_ONCE = 64  # records put on the panels in one push: 1,280 steps a second
_STOP = "To stop, interrupt the kernel (■ above)."
_AWAIT = f"{_STOP} With run = await pdl.fit_async(...) it can be steered, too."
_DEAF = f"{_STOP} This kernel hears no click while a cell runs: ipykernel 7 does."


class Board:
    """Shows a training while it runs.

        pdl.fit(program, work, steps=200, watch=pdl.Board())

    Awaited, `await pdl.fit_async(...)`, it has controls as well: stop, pause, the
    learning rate, the number of devices, a device to slow down, a device to drop.
    Where nobody looks on, as under nbval, it shows the end only.

    It can also be called in a loop of your own, `board(record)`, and with whatever
    else `pdl.show` knows; `board.end()` then leaves the still picture.

    At most 20 pictures a second and 5 % of the time go into showing. Only losses
    that are there are read, so training never waits for the board.

    Args:
        *chosen: the panels; by default losses, the seconds of a step, what it sends
            and what it holds. See `pdl.panels`.
        columns: panels side by side.
    """

    def __init__(self, *chosen, columns: int = 2):
        usual = panels.Losses, panels.Seconds, panels.Sends, panels.Memory
        self._chosen = chosen or tuple(kind() for kind in usual)  # without a past
        self.panels = copy.deepcopy(self._chosen)
        self.columns = columns
        self._training: Training | None = None
        self._losses: list[float] = []  # the first and the newest
        self._unread: collections.deque[Record] = collections.deque()
        self._newest: Record | None = None
        self._portrait: Picture | None = None  # of what was not a training
        self._view: views.View | None = None
        self._controls = None
        self._said = ""
        self._ended = ""  # how, and after how many steps

    def __repr__(self) -> str:
        return repr(self.picture)

    def _repr_mimebundle_(self, include=None, exclude=None):
        return bundle(self.picture)

    @property
    def picture(self) -> Picture:
        """All that has been seen so far, as a `pdl.Picture`."""
        if self._portrait:
            return self._portrait
        drawn = tuple(panel.draw() for panel in self.panels)
        name = self._training.name if self._training else "a training"
        return Picture(
            self._title(name),
            drawn,
            alt=f"training of {name}: {'; '.join(panel.title for panel in drawn)}",
            columns=min(self.columns, len(drawn)),
        )

    def _title(self, name: str) -> str:
        where = f" on {_sizes(self._training.mesh)}" if self._training else ""
        if not self._losses:
            return name + where
        return f"{name}{where}: loss {' to '.join(map(write, self._losses))}{self._ended}"

    def save(self, path) -> None:
        """Write a file; its suffix says what: .png .svg .pdf .txt .csv .json."""
        self.picture.save(path)

    def begin(self, training: Training) -> None:
        """Show the board, and let its panels count what they count."""
        moved = self._view is not None
        if not moved:  # what was seen of another training is not of this one
            self.panels, self._losses, self._ended = copy.deepcopy(self._chosen), [], ""
            self._portrait = None
        self._training = training
        self._open()
        if moved and self._controls:
            self._controls.begin(training)
        now = f"now on {_sizes(training.mesh)}, as many devices as mesh and batch allow"
        self._said = now if moved else ""
        self._push("counting what a step sends and holds …")
        for panel in self.panels:
            panel.begin(training)
        self._push("compiling …")

    def __call__(self, thing) -> Signal | None:
        """Show a record, or anything else; return what was asked for meanwhile."""
        self._open()
        if not isinstance(thing, Record):
            self._portrait = show(thing)
            self._push("measuring …")
            return None
        answer = self._controls.answer() if self._controls else None
        pausing = isinstance(answer, Pause)
        if answer and not pausing:
            self._said = ""
        if thing is not self._newest:
            self._newest = thing
            self._unread.append(thing)
        elif pausing and not self._unread:  # asked again about the same step
            return answer
        if pausing or self._throttle.is_due():
            self._push("paused" if pausing else self._said)
        return answer

    def refused(self, error: ValueError) -> None:
        """Say why what was asked for cannot be; training goes on."""
        self._said = str(error).replace("\n", " ")
        if self._controls and self._training:
            self._controls.offer(self._training)

    def end(self, run: Any = None) -> None:
        """Leave the still picture, which a saved notebook keeps."""
        jax.block_until_ready([record.metrics for record in self._unread])
        self._read(series.MOST)
        if hasattr(run, "history"):
            steps = len(run.history)
            self._ended = f", {run.ended} after {steps} step{'s' * (steps != 1)}"
        if self._view:
            self._push(getattr(run, "ended", "done"))
            self._view.end(self.picture)
        self._view = self._controls = None

    def _open(self) -> None:
        if self._view is None:
            self._throttle = Throttle()
            make_controls = None
            if self._training and self._training.awaited and frontends.hears():
                make_controls = functools.partial(_controls, self._training)
            self._view, self._controls = views.choose(make_controls)
            self._view.show(self.picture, "")

    def _push(self, said: str) -> None:
        """Show what there is to see now, and a sentence on how it goes."""
        self._throttle.begin()
        self._read()
        if self._view and self._view.moves:
            self._view.push(self.picture, self._status(said))
        self._throttle.end()

    def _status(self, said: str) -> str:
        parts = []
        if self._newest and self._training:
            parts.append(f"step {self._newest.step + 1} of {self._training.last}")
            parts.append(f"showing takes {self._throttle.share:.1%} of the time (measured)")
        elif self._newest:
            parts.append(f"step {self._newest.step + 1}")
        return "\n".join(filter(None, ("; ".join(parts), said, self._hint())))

    def _hint(self) -> str:
        """Return how a training is stopped where there is no button for it."""
        if self._controls or not self._training:
            return ""
        if not self._training.awaited:
            return _AWAIT
        return _STOP if frontends.hears() else _DEAF

    def _read(self, most: int = _AT_ONCE) -> None:
        """Put the records whose figures are there on the panels, or some of very many."""
        ready = self._ready()
        every = -(-len(ready) // most)
        read = ready[::-every][::-1] if every > 1 else ready  # the newest is among them
        if not self._losses and ready and read[0] is not ready[0]:
            read = [ready[0], *read]  # and where a curve begins
        figures = jax.device_get([record.metrics for record in read])
        for record, metrics in zip(read, figures, strict=True):
            at_hand = dataclasses.replace(record, metrics=metrics, state=None)
            for panel in self.panels:
                panel.add(at_hand)
            if record is read[-1] or not self._losses:
                self._losses = [*self._losses[:1], at_hand.loss]

    def _ready(self) -> list[Record]:
        """Take the records whose figures are there."""
        taken = []
        while self._unread and _is_ready(self._unread[0]):
            taken.append(self._unread.popleft())
        return taken


def _sizes(mesh: Mapping[str, int]) -> str:
    return ", ".join(f"{axis}={size}" for axis, size in mesh.items())


def _controls(training: Training):
    # ipywidgets is loaded only where there is something to control
    return importlib.import_module("pdlkit.drawing.live.controls").Controls(training)


def _is_ready(record: Record) -> bool:
    loss = record.metrics.device_loss  # its notes come of the same program
    return not hasattr(loss, "is_ready") or loss.is_ready()
