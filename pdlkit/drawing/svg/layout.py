"""Panels in their places: a title, rows of panels, each with its head and note."""

from typing import NamedTuple

from pdlkit.drawing.svg import bars, cells, lines, spans, table
from pdlkit.drawing.svg.fills import box
from pdlkit.drawing.svg.letters import MIDDLE, MUTED, put, width, wrap
from pdlkit.drawing.svg.scene import Drawing, Place, Scene
from pdlkit.pictures import Bar, Cell, Line, Panel, Picture, Span, Table

# each has `draw(panel, place) -> Drawing`
_KINDS = {Line: lines, Bar: bars, Span: spans, Cell: cells, Table: table}
_WIDTH, _MARGIN, _BETWEEN = 960.0, 12.0, 28.0  # px, of all, around it, between columns
_TITLE, _HEADING = 17.0, 13.5  # px, the size of letters
_LINE, _ROW = 22.0, 18.0  # px, a line of the title, and of a heading or a note
_BOLD = 1.12  # times as wide
_TAG = 20.0  # px, the height of a tag
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


class _Head(NamedTuple):
    """The title of a panel in lines, and the tag that says how it is known."""

    lines: list[str]
    words: str
    tag: float  # px, its width


def lay_out(picture: Picture) -> Scene:
    """Return where everything is; the same picture has the same scene.

    Cheap enough to be called many times a second.
    """
    markup, frames, curves = [], [], []
    top = _MARGIN
    for line in filter(None, wrap(picture.title, (_WIDTH - 2 * _MARGIN) / _BOLD, _TITLE)):
        bold = f' font-size="{_TITLE:g}" font-weight="bold"'
        markup.append(put(_MARGIN, top + _LINE / 2, line, bold))
        top += _LINE
    count = picture.columns
    wide = max((_WIDTH - 2 * _MARGIN - _BETWEEN * (count - 1)) / count, 1.0)
    for first in range(0, len(picture.panels), count):
        row = picture.panels[first : first + count]
        heads = [_head(panel, wide) for panel in row]
        body = top + 8 + max(_ROW * len(head.lines) for head in heads) + 8
        foot = body
        for i, (panel, head) in enumerate(zip(row, heads, strict=True)):
            place = Place(_MARGIN + i * (wide + _BETWEEN), body, wide, len(frames))
            drawing = _draw(panel, place)
            notes = _note(panel, place, body + drawing.height)
            markup += (_headed(head, place, top + 8), drawing.markup, *notes)
            frames += drawing.frames
            curves += drawing.curves
            foot = max(foot, body + drawing.height + _ROW * len(notes))
        top = foot + 4
    inside = f'<g font-family="{_FONT}" font-size="12" fill="currentColor">{"".join(markup)}</g>'
    return Scene(_WIDTH, top + _MARGIN, inside, tuple(frames), tuple(curves), repr(picture))


def _draw(panel: Panel, place: Place) -> Drawing:
    if not panel.marks:
        return Drawing(24.0, put(place.left, place.top + 12, "nothing to show", MUTED))
    return _KINDS[type(panel.marks[0])].draw(panel, place)


def _head(panel: Panel, wide: float) -> _Head:
    words = panel.words
    tag = width(words) + 14
    room = wide - tag - 12
    if room < 0.5 * wide < width(panel.title, _HEADING):
        return _Head(["", *wrap(panel.title, wide, _HEADING, 2)], words, tag)
    return _Head(wrap(panel.title, room, _HEADING, 2), words, tag)


def _headed(head: _Head, place: Place, top: float) -> str:
    """Return the panel's title, and in a tag at the right how it is known."""
    middle = top + _ROW / 2
    size = f' font-size="{_HEADING:g}"'
    lines = [
        put(place.left, middle + _ROW * i, line, size) for i, line in enumerate(head.lines) if line
    ]
    left = place.left + place.width - head.tag
    faint = 'rx="4" fill-opacity=".08"'
    tag = box(left, middle - _TAG / 2, head.tag, _TAG, faint)
    return "".join(lines) + tag + put(left + head.tag / 2, middle, head.words, MIDDLE)


def _note(panel: Panel, place: Place, top: float) -> list[str]:
    if not panel.note:
        return []
    return [
        put(place.left, top + _ROW * (i + 0.5), line, MUTED)
        for i, line in enumerate(wrap(panel.note, place.width))
    ]
