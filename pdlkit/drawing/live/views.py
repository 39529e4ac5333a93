"""The ways of showing a picture that moves, each for another kind of front end.

A view has `show(picture, status)` at first (`store` says that the notebook may be
saved before the end, and has to hold this picture), `push(picture, status)` while it
moves, and `end(picture)`, after which a still picture with its alt text stands in
its place: that is what a saved notebook keeps.
"""

import html
import importlib
import threading
from collections.abc import Callable
from typing import Any, Protocol

from IPython.core.getipython import get_ipython
from IPython.display import DisplayHandle, display

from pdlkit.drawing import bundle
from pdlkit.drawing.live import frontends
from pdlkit.drawing.svg import lower
from pdlkit.pictures import Picture

_PLOTS = {"widget": "plot", "html": "page"}  # the module of each
_MODEL = "application/vnd.jupyter.widget-view+json"


class View(Protocol):
    """One way of showing; `moves` says whether anything can be seen before the end."""

    moves: bool

    def show(self, picture: Picture, status: str, *, store: bool = False) -> None: ...
    def push(self, picture: Picture, status: str) -> None: ...
    def end(self, picture: Picture) -> None: ...


class Nothing:
    """Shows nothing: there is no notebook."""

    moves = False

    def show(self, picture: Picture, status: str, *, store: bool = False) -> None:
        """Do nothing."""

    def push(self, picture: Picture, status: str) -> None:
        """Do nothing."""

    def end(self, picture: Picture) -> None:
        """Do nothing."""


class Still(Nothing):
    """Shows the end: for tests, converters and graders."""

    def end(self, picture: Picture) -> None:
        """Show the picture."""
        data, metadata = bundle(picture)
        display(data, metadata=metadata, raw=True)


class Updates:
    """Replaces its own output: needs no widget at all."""

    moves = True

    def show(self, picture: Picture, status: str, *, store: bool = False) -> None:
        """Show the picture for the first time."""
        _warm()
        self._handle = DisplayHandle()
        self._handle.display(_output(picture, status), raw=True)

    def push(self, picture: Picture, status: str) -> None:
        """Show another picture in its place."""
        self._handle.update(_output(picture, status), raw=True)

    def end(self, picture: Picture) -> None:
        """Leave the still picture."""
        data, metadata = bundle(picture)
        self._handle.update(data, metadata=metadata, raw=True)


class Widgets:
    """A box of widgets: the picture, and above it what controls it."""

    moves = True

    def __init__(self, picture, controls):
        self._picture = picture
        self._rows = controls.rows if controls else []
        self._box = importlib.import_module("ipywidgets").VBox([*self._rows, picture])

    def show(self, picture: Picture, status: str, *, store: bool = False) -> None:
        """Show the box; its model id is all that the output needs."""
        self._picture.show(picture, status)
        about = {"version_major": 2, "version_minor": 0, "model_id": self._box.model_id}
        still = bundle(picture)[0] if store else {"text/plain": repr(picture)}
        self._handle = DisplayHandle()
        self._handle.display({_MODEL: about, **still}, raw=True)
        _warm()

    def push(self, picture: Picture, status: str) -> None:
        """Show another picture in its place."""
        self._picture.show(picture, status)

    def end(self, picture: Picture) -> None:
        """Leave the still picture in place of the widgets, which nobody could draw later."""
        data, metadata = bundle(picture)
        self._handle.update(data, metadata=metadata, raw=True)
        of_rows = [widget for row in self._rows for widget in (*row.children, row)]
        for widget in (*of_rows, self._picture, self._box):
            widget.close()


def choose(make_controls: Callable[[], Any] | None = None) -> tuple[View, Any]:
    """Return the view that fits the front end, and its controls if it has any.

    Args:
        make_controls: gives what has `rows` of widgets; called where widgets are shown.
    """
    if get_ipython() is None:
        return Nothing(), None
    way = frontends.way()
    if way in ("static", "text"):
        return Still(), None
    if way == "display":
        return Updates(), None
    # third-party widgets are loaded only where they are shown
    plot = importlib.import_module(f"pdlkit.drawing.live.{_PLOTS[way]}").Plot()
    controls = make_controls() if make_controls else None
    return Widgets(plot, controls), controls


def _warm() -> None:
    """Load what draws the still at the end while training has not begun."""
    figures = "pdlkit.drawing.figures"
    threading.Thread(target=importlib.import_module, args=(figures,), daemon=True).start()


def written(picture: Picture, status: str) -> str:
    """Return a picture as HTML, under a sentence on how it goes."""
    lines = html.escape(status).replace("\n", "<br>")
    return f"<p>{lines}</p>{lower(picture)}"


def _output(picture: Picture, status: str) -> dict[str, str]:
    return {"text/html": written(picture, status), "text/plain": repr(picture)}
