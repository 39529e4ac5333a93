"""A scene as one SVG document, which no other document in a page can disturb."""

import numpy as np

from pdlkit.drawing.svg.layout import lay_out
from pdlkit.drawing.svg.letters import escape
from pdlkit.drawing.svg.scene import Curve
from pdlkit.pictures import Picture

# the letters of the page around it, in a notebook light or dark
_INK = "color:var(--jp-ui-font-color1,var(--vscode-editor-foreground,#222))"


def lower(picture: Picture) -> str:
    """Return the picture as SVG; the same picture gives the same bytes.

    No ids, and so no gradients, patterns or markers: two documents in one
    notebook would share them.
    """
    scene = lay_out(picture)
    wide, high = f"{scene.width:g}", f"{scene.height:g}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}"'
        f' viewBox="0 0 {wide} {high}" role="img" aria-label="{escape(scene.alt)}"'
        f' style="{_INK};max-width:100%;height:auto">\n'
        f"<title>{escape(scene.alt)}</title>\n"
        f"<desc>{escape(picture.text)}</desc>\n"
        f"{scene.markup}\n"
        f'<g fill="none" stroke-linejoin="round">\n{"".join(map(_curve, scene.curves))}</g>\n'
        "</svg>\n"
    )


def _curve(curve: Curve) -> str:
    runs = _runs(curve.points)
    path = "".join(map(_path, runs))
    if not path:
        return ""
    dash = f' stroke-dasharray="{curve.dash}"' if curve.dash else ""
    faint = f' stroke-opacity="{curve.opacity:g}"' if curve.opacity < 1 else ""
    title = f"<title>{escape(curve.label)}</title>"
    drawn = (
        f'<path d="{path}" stroke="{curve.colour}" stroke-width="{curve.width:.2f}"'
        f"{dash}{faint}>{title}</path>\n"
    )
    return drawn + _dots(curve, runs, title) if curve.dot else drawn


def _runs(points: np.ndarray) -> list[np.ndarray]:
    """Return the stretches between gaps."""
    gaps = np.flatnonzero(np.isnan(points[:, 0]))
    if not len(gaps):
        return [points] if len(points) else []
    runs = np.split(points, np.unique((gaps, gaps + 1)))
    return [run for run in runs if len(run) and not np.isnan(run[0, 0])]


def _path(run: np.ndarray) -> str:
    """Return one stretch; a point alone becomes a short dash."""
    if len(run) == 1:
        ((x, y),) = run.tolist()
        return f"M{x - 1:.1f} {y:.1f}h2"
    return ("M%.1f %.1f" + "L%.1f %.1f" * (len(run) - 1)) % tuple(run.ravel().tolist())


def _dots(curve: Curve, runs: list[np.ndarray], title: str) -> str:
    """Return a dot at each point: a round cap on nothing."""
    path = "".join([f"M{x:.1f} {y:.1f}h0" for run in runs for x, y in run.tolist()])
    return (
        f'<path d="{path}" stroke="{curve.colour}" stroke-width="{curve.dot:g}"'
        f' stroke-linecap="round">{title}</path>\n'
    )
