"""Pictures in plain text: for terminals, tests and screen readers."""

import textwrap

from pdlkit.drawing.text import bars, cells, lines, spans, table
from pdlkit.pictures import Bar, Cell, Line, Panel, Picture, Span, Table

WIDTH = 72

# each has `lower(panel) -> list[str]`, one entry a line
_KINDS = {Line: lines, Bar: bars, Span: spans, Cell: cells, Table: table}


def lower(picture: Picture) -> str:
    """Return the picture as lines of text; the same picture gives the same text."""
    blocks = [textwrap.fill(picture.title, WIDTH), *map(_panel, picture.panels)]
    return "\n\n".join(filter(None, blocks))


def _panel(panel: Panel) -> str:
    heading = f"{panel.words}: {panel.title}" if panel.title else panel.words
    body = _KINDS[type(panel.marks[0])].lower(panel) if panel.marks else ["nothing to show"]
    note = textwrap.wrap(panel.note, WIDTH)
    return "\n".join(line.rstrip() for line in (heading, *body, *note))
