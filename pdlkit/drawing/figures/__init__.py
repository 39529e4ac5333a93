"""Pictures as matplotlib figures: for notebooks, files and print.

No pyplot, so that nothing here is seen by the reader's own figures; one lock,
for matplotlib's settings belong to the whole process.
"""

import io
import textwrap
import threading

import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure

from pdlkit.drawing.figures import bars, cells, lines, spans, table
from pdlkit.drawing.figures.ink import FAINT, INK, MUTED
from pdlkit.drawing.figures.ticks import clear
from pdlkit.pictures import Bar, Cell, Line, Panel, Picture, Span, Table

# each has `size(panel) -> width, height` in inches and `draw(axes, panel)`
_KINDS = {Line: lines, Bar: bars, Span: spans, Cell: cells, Table: table}
_LOCK = threading.RLock()
_NARROWEST, _WIDEST, _MARGIN = 5.0, 9.0, 0.1  # inches
_LETTER, _NOTE = 0.108, 110  # inches a letter of the title; letters a line of a note
_STYLE = {
    "figure.dpi": 100,
    "savefig.dpi": 100,
    "figure.facecolor": "white",
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": _MARGIN,
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "grid.color": FAINT,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # its letters stay letters
}
_UNDATED = {"png": {"Software": None}, "pdf": {"CreationDate": None}}


def draw(picture: Picture) -> Figure:
    """Return the picture as a figure that no other figure knows of."""
    with _LOCK, matplotlib.style.context(["default", _STYLE]):
        return _figure(picture)


def encode(picture: Picture, kind: str) -> bytes:
    """Return the file that shows the picture: kind is png or pdf."""
    with _LOCK, matplotlib.style.context(["default", _STYLE]):
        file = io.BytesIO()
        metadata = _UNDATED[kind] | {"Title": repr(picture)}
        _figure(picture).savefig(file, format=kind, metadata=metadata)
        return file.getvalue()


def _figure(picture: Picture) -> Figure:
    starts = range(0, len(picture.panels), picture.columns)
    rows = [picture.panels[start : start + picture.columns] for start in starts]
    sizes = [[_size(panel) for panel in row] for row in rows]
    heights = [max(high for _, high in row) for row in sizes]
    widest = max(wide for row in sizes for wide, _ in row)
    width = min(max(picture.columns * widest, _NARROWEST), _WIDEST)
    title = textwrap.fill(picture.title, int(width / _LETTER))

    height = sum(heights) + 0.2 * (title.count("\n") + 1)
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=_MARGIN / width, ha="left", fontsize=12, fontweight="bold")
    # a figure of its own for each panel: no panel's names push another's aside
    parts = figure.subfigures(len(rows), picture.columns, height_ratios=heights, squeeze=False)
    for row, places, own, high in zip(rows, parts, sizes, heights, strict=True):
        for panel, place, (_, height) in zip(row, places, own, strict=False):
            _panel(_upper(place, height, high), panel)
    return figure


def _upper(place: SubFigure, height: float, room: float) -> SubFigure:
    """Return the upper part of a place, so that a low panel is not stretched."""
    if room - height < _MARGIN:
        return place
    upper, _ = place.subfigures(2, 1, height_ratios=[height, room - height], squeeze=False).flat
    return upper


def _size(panel: Panel) -> tuple[float, float]:
    width, height = _KINDS[type(panel.marks[0])].size(panel) if panel.marks else (4.0, 0.4)
    heading = 0.085 * len(panel.title) + 1.3
    below = 0.16 * len(textwrap.wrap(panel.note, _NOTE)) + 0.05 * bool(panel.note)
    return max(width + 2 * _MARGIN, heading), height + 0.45 + below


def _panel(place: SubFigure, panel: Panel) -> None:
    axes = place.add_subplot()
    _head(place, axes, panel)
    if panel.marks:
        _KINDS[type(panel.marks[0])].draw(axes, panel)
    else:
        clear(axes)
        axes.text(0, 0.5, "nothing to show", va="center", transform=axes.transAxes)
    if panel.note:
        note = textwrap.fill(panel.note, _NOTE)
        place.supxlabel(note, x=_MARGIN / _width(place), ha="left", fontsize=8.5)


def _head(place: SubFigure, axes, panel: Panel) -> None:
    """Write the panel's title, and in a tag at the right how it is known."""
    title = place.suptitle(panel.title or " ", x=_MARGIN / _width(place), ha="left", fontsize=10)
    tag = axes.annotate(
        panel.words,
        xy=(1, 0.5),
        xycoords=("subfigure fraction", title),
        xytext=(-72 * _MARGIN - 2, 0),
        textcoords="offset points",
        ha="right",
        va="center",
        fontsize=8.5,
        bbox={"boxstyle": "round,pad=0.3", "facecolor": FAINT, "edgecolor": "none"},
        annotation_clip=False,
    )
    tag.set_in_layout(False)


def _width(place: SubFigure) -> float:
    return place.bbox.width / place.figure.dpi
