"""A picture in a file: drawn, written, or as the numbers behind it."""

import csv
import importlib
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pdlkit.errors import lesson, names
from pdlkit.pictures import Axis, Line, Panel, Picture, Table


def save(picture: Picture, path) -> None:
    """Write the picture in the form that the suffix of `path` names."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _FORMS:
        raise ValueError(
            lesson(
                f"a picture cannot be saved as {path.name!r}.",
                why=f"the suffix says in which form; known are {names(_FORMS)}.",
                fix=f"picture.save({str(path.with_suffix('.png'))!r})",
            )
        )
    path.write_bytes(_FORMS[suffix](picture))


def as_csv(picture: Picture) -> str:
    """Return one block of rows a panel, with the panel's title and word in each."""
    blocks = []
    for panel in picture.panels:
        text = io.StringIO()
        header, rows = _rows(panel)
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("panel", "word", *header))
        writer.writerows((panel.title, word, *row) for word, *row in rows)
        blocks.append(text.getvalue())
    return "\n".join(blocks)


def as_json(picture: Picture) -> str:
    """Return all that the picture holds; a number that is not finite is null."""
    panels = [_panel(panel) for panel in picture.panels]
    whole = {"title": picture.title, "alt": repr(picture), "word": picture.word, "panels": panels}
    return json.dumps(whole, ensure_ascii=False, allow_nan=False) + "\n"


def _rows(panel: Panel):
    match panel.marks:
        case (Line(), *_):
            header = ("label", _column(panel.x, "x"), _column(panel.y, "y"))
            return header, [
                (line.word or panel.word, line.label, x, y)
                for line in panel.marks
                if isinstance(line, Line)
                for x, y in zip(line.x, line.y, strict=True)
            ]
        case (Table() as table, *_):
            header = tuple(_column(each, "") for each in table.header)
            return header, [(panel.word, *row) for row in table.rows]
    fields = [f for f in (panel.marks[0]._fields if panel.marks else ()) if f != "word"]
    return fields, [
        (getattr(mark, "word", "") or panel.word, *(getattr(mark, field) for field in fields))
        for mark in panel.marks
    ]


def _column(axis: Axis, name: str) -> str:
    return f"{axis.label or name} [{axis.unit}]" if axis.unit else axis.label or name


def _panel(panel: Panel) -> dict:
    return {
        "title": panel.title,
        "word": panel.word,
        "note": panel.note,
        "x": _plain(panel.x),
        "y": _plain(panel.y),
        "kind": type(panel.marks[0]).__name__.lower() if panel.marks else "empty",
        "marks": _plain(panel.marks),
    }


def _plain(value):
    """Return the value in the types that JSON has."""
    if hasattr(value, "_asdict"):
        return {name: _plain(each) for name, each in value._asdict().items()}
    if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _drawn(kind: str):
    return lambda picture: importlib.import_module("pdlkit.drawing.figures").encode(picture, kind)


_FORMS = {
    ".png": _drawn("png"),
    ".svg": lambda picture: picture.svg.encode(),
    ".pdf": _drawn("pdf"),
    ".txt": lambda picture: (picture.text + "\n").encode(),
    ".csv": lambda picture: as_csv(picture).encode(),
    ".json": lambda picture: as_json(picture).encode(),
}
