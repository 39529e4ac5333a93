"""A picture drawn by the browser, from one snapshot that is replaced as a whole."""

import base64
from pathlib import Path

import anywidget
import numpy as np
import traitlets

from pdlkit.drawing.svg import lay_out
from pdlkit.drawing.svg.scene import Scene
from pdlkit.pictures import Picture

_FLOAT = 4  # bytes


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

    Text, because some notebooks lose binary buffers on the way. Curves of a panel
    mostly have the same x, which is then sent once; and no curve has more points
    than its frame has pixels.
    """
    rows: list[bytes] = []  # x of some curves
    owners, heights = [], []  # which of the rows is each curve's x; its y
    for curve in scene.curves:
        shown = _thinned(curve.points, scene.frames[curve.panel].width)
        x, y = (shown[:, side].tobytes() for side in (0, 1))
        if not rows or x != rows[-1]:
            rows.append(x)
        owners.append(len(rows) - 1)
        heights.append(y)
    return {
        "width": scene.width,
        "height": scene.height,
        "alt": scene.alt,
        "markup": scene.markup,
        "frames": [
            frame._asdict() | {"x": frame.x._asdict(), "y": frame.y._asdict()}
            for frame in scene.frames
        ],
        "curves": [
            curve._asdict() | {"points": owner}
            for curve, owner in zip(scene.curves, owners, strict=True)
        ],
        "rows": [len(row) // _FLOAT for row in rows],
        "points": base64.b64encode(b"".join(rows + heights)).decode(),
    }


def _thinned(points: np.ndarray, pixels: float) -> np.ndarray:
    """Return the first point, and every k-th, counted back from the newest."""
    every = max(-(-len(points) // max(int(pixels) - 1, 1)), 1)
    kept = points[::-every][::-1]
    return kept if (len(points) - 1) % every == 0 else np.concatenate([points[:1], kept])
