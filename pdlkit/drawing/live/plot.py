"""A picture drawn by the browser, from one snapshot that is replaced as a whole."""

import base64
from pathlib import Path

import anywidget
import numpy as np
import traitlets

from pdlkit.drawing.svg import lay_out
from pdlkit.drawing.svg.scene import Curve, Scene
from pdlkit.pictures import Picture


class Plot(anywidget.AnyWidget):
    """The moving picture; reading values and hiding lines are the browser's."""

    _esm = Path(__file__).with_name("plot.js")
    _css = Path(__file__).with_name("plot.css")
    snapshot = traitlets.Dict().tag(sync=True)

    def show(self, picture: Picture, status: str = "") -> None:
        """Send a picture; of several that wait to be drawn, only the last is."""
        self.snapshot = pack(lay_out(picture)) | {"status": status}

    def __repr__(self) -> str:
        return self.snapshot.get("alt", "")


def pack(scene: Scene) -> dict:
    """Return a scene as JSON can hold it, its points as float32 in base64.

    Text, because some notebooks lose binary buffers on the way.
    """
    points = [curve.points for curve in scene.curves]
    row = np.concatenate(points) if points else np.empty((0, 2), np.float32)
    return {
        "width": scene.width,
        "height": scene.height,
        "alt": scene.alt,
        "markup": scene.markup,
        "frames": [
            frame._asdict() | {"x": frame.x._asdict(), "y": frame.y._asdict()}
            for frame in scene.frames
        ],
        "curves": [_without_points(curve) for curve in scene.curves],
        "points": base64.b64encode(row.tobytes()).decode(),
    }


def _without_points(curve: Curve) -> dict:
    about = curve._asdict()
    return about | {"points": None, "count": len(curve.points)}
