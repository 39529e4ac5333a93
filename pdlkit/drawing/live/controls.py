"""The knobs of a training: what a click leaves for the loop to find.

A callback here may run in any thread and at any moment, so it only leaves a
signal in a dictionary; the loop takes it between two steps.
"""

import math
from collections.abc import Callable

import ipywidgets

from pdlkit.drawing.live import frontends
from pdlkit.records import Training
from pdlkit.signals import Drop, Pause, Set, Signal, Slow, Stop

EXTRA = 0.02  # seconds of extra work that make a device slow
_DECADES = 3  # how far the learning rate can be turned, up and down
_NOBODY = -1  # a place that no device has


class Controls:
    """Two buttons, a slider and three choices, and what was last asked by each."""

    def __init__(self, training: Training):
        self._asked: dict[ipywidgets.Widget, Signal] = {}
        self._silent = False  # while a control is set by us
        self._stop = ipywidgets.Button(description="Stop", icon="stop", layout=_wide("6em"))
        self._pause = ipywidgets.ToggleButton(
            description="Pause", icon="pause", layout=_wide("7em")
        )
        rate = training.learning_rate or 1.0
        exponent = math.log10(rate)  # so that the slider stands on one of its own steps
        self._rate = ipywidgets.FloatLogSlider(
            rate,
            min=exponent - _DECADES,
            max=exponent + _DECADES,
            step=0.05,
            readout_format=".2g",
            **_named("learning rate", "26em"),
        )
        self._count = ipywidgets.Dropdown(**_named("devices", "9em"))
        self._slow = ipywidgets.Dropdown(**_named("slow down", "14em"))
        self._drop = ipywidgets.Dropdown(**_named("drop", "12em"))
        self._stop.on_click(lambda _: self._asked.update({self._stop: Stop()}))
        self._listen(self._pause, self._hold)
        self._listen(self._rate, lambda change: Set(change.new))
        self._listen(self._count, lambda change: Set(None, change.new))
        self._listen(self._slow, self._burden)
        self._listen(self._drop, self._leave_out)
        rows = (self._stop, self._pause, self._rate), (self._count, self._slow, self._drop)
        self.rows = [ipywidgets.HBox(row, layout=_wrapping()) for row in rows]
        self.begin(training)

    def begin(self, training: Training) -> None:
        """Offer what this training can do, and show what it does now."""
        self._silent = True
        self._rate.disabled = training.learning_rate is None
        if training.learning_rate:
            self._rate.value = training.learning_rate
        self._silent = False
        self.offer(training)

    def offer(self, training: Training) -> None:
        """Offer the devices that this training has or could have."""
        devices = math.prod(training.mesh.values())
        others = devices // next(iter(training.mesh.values()), 1)
        places = (("none", _NOBODY), *((f"device {i}", i) for i in range(devices)))
        self._silent = True
        counts = range(others, training.devices_here + 1, others)
        self._count.options = [(str(n), n) for n in counts]
        self._count.value = devices
        if self._slow.options != places:  # on other devices, none is slow
            self._slow.options = self._drop.options = places
            self._slow.value = _NOBODY
        self._drop.value = _NOBODY
        self._drop.disabled = devices == others
        self._silent = False

    def answer(self) -> Signal | None:
        """Return what was asked for, the oldest first, but a stop before all else."""
        for control in (self._stop, *self._asked):
            if control in self._asked:
                return self._asked.pop(control)
        return Pause() if self._pause.value else None

    def _listen(self, control: ipywidgets.Widget, wish: Callable) -> None:
        """Leave what the reader's change of a control means, if it means anything."""

        def changed(change) -> None:
            frontends.heard()
            signal = None if self._silent else wish(change)
            if signal:
                self._asked[control] = signal

        control.observe(changed, "value")

    def _hold(self, change) -> None:
        self._pause.description = "Go on" if change.new else "Pause"
        self._pause.icon = "play" if change.new else "pause"

    def _leave_out(self, change) -> Drop | None:
        return None if change.new == _NOBODY else Drop(change.new)

    def _burden(self, change) -> Slow:
        return Slow(change.old, 0.0) if change.new == _NOBODY else Slow(change.new, EXTRA)


def _named(description: str, width: str) -> dict:
    return {
        "description": description,
        "style": {"description_width": "initial"},
        "layout": _wide(width),
    }


def _wide(width: str) -> ipywidgets.Layout:
    return ipywidgets.Layout(width=width)


def _wrapping() -> ipywidgets.Layout:
    return ipywidgets.Layout(flex_flow="row wrap")
