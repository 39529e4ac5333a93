"""A slider that asks a function anew, and shows what it gives."""

import importlib
from collections.abc import Callable, Mapping, Sequence

from pdlkit.drawing.live import views
from pdlkit.drawing.portraits import show
from pdlkit.errors import lesson


def explore(function: Callable, **choices: Sequence) -> None:
    """Show what a function gives, with a slider for each of its arguments.

        pdl.explore(lay, devices=(1, 2, 4, 8))

    It begins with the last choice of each. While the function runs, the picture says
    that it is busy; what it raises is said there too. `Keep` leaves the picture in
    the notebook without the slider, which nobody could draw when it is opened again.

    Args:
        function: gives whatever `pdl.show` knows: an array, a mesh, a report, a run.
        choices: argument -> the values that it may take.

    Raises:
        ValueError: an argument has nothing to choose from.
    """
    for name, values in choices.items():
        if not len(values):
            raise ValueError(
                lesson(
                    f"there is no value to choose for {name}.",
                    why="a slider goes from one value to another.",
                    fix=f"explore({getattr(function, '__name__', 'function')}, {name}=(1, 2)).",
                )
            )
    _Explorer(function, choices)


class _Explorer:
    """The picture of what a function last gave; its controls keep it alive."""

    def __init__(self, function: Callable, choices: Mapping[str, Sequence]):
        self._function = function
        self._picture = show(function(**{name: values[-1] for name, values in choices.items()}))
        # ipywidgets is loaded only where there is something to control
        sliders = importlib.import_module("pdlkit.drawing.live.sliders").Sliders
        self._view, controls = views.choose(lambda: sliders(choices, self._ask, self._keep))
        self._view.show(self._picture, "", store=True)
        if controls is None:
            self._keep()

    def _ask(self, **arguments) -> None:
        said = ", ".join(f"{name}={value}" for name, value in arguments.items())
        self._view.push(self._picture, f"busy with {said} …")
        try:
            self._picture = show(self._function(**arguments))
        except Exception as error:  # a reader's function may raise anything
            said = f"{said}: {error}"
        self._view.push(self._picture, said)

    def _keep(self) -> None:
        self._view.end(self._picture)
