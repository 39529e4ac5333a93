"""What every drawing reads from the marks of a panel, whatever it draws with."""

from collections.abc import Iterable
from numbers import Real

import numpy as np

from pdlkit.drawing.scales import write
from pdlkit.errors import lesson
from pdlkit.pictures import Axis, Bar, Cell, Line, Panel, Span, Table

MOST_ROWS = 24  # of a drawn table; a longer one is for `.text` and `.save("table.csv")`


def points(lines: Iterable[Line]) -> tuple[np.ndarray, np.ndarray]:
    """Return all x and all y of the lines, one line after the other.

    Raises:
        ValueError: where a line has not one y for each x.
    """
    xs, ys = [], []
    for line in lines:
        if len(line.x) != len(line.y):
            raise ValueError(_unpaired(line))
        xs.append(line.x)
        ys.append(line.y)
    return (
        np.concatenate(xs, dtype=float, casting="unsafe"),
        np.concatenate(ys, dtype=float, casting="unsafe"),
    )


def foreign(mark: Line | Bar, panel: Panel) -> str:
    """Return what stands behind a label where the word is not the panel's."""
    return f" ({mark.word})" if mark.word not in ("", panel.word) else ""


def wholes(panel: Panel) -> dict[str, list[Bar]]:
    """Return the bars of each label, one that another word holds of apart."""
    found: dict[str, list[Bar]] = {}
    for bar in panel.marks:
        if isinstance(bar, Bar):
            found.setdefault(bar.label + foreign(bar, panel), []).append(bar)
    return found


def parts(panel: Panel) -> list[str]:
    """Return the parts that bars have, each once."""
    return list(dict.fromkeys(bar.part for bar in panel.marks if isinstance(bar, Bar)))


def spans(panel: Panel) -> list[Span]:
    """Return the spans of a panel."""
    return [mark for mark in panel.marks if isinstance(mark, Span)]


def lanes(panel: Panel) -> list[str]:
    """Return the lanes from the top down, those that the axis names first."""
    return list(dict.fromkeys((*panel.y.names, *(span.lane for span in spans(panel)))))


def times(panel: Panel) -> list[float]:
    """Return when each span starts and ends."""
    return [time for span in spans(panel) for time in (span.start, span.end)]


def cells(panel: Panel) -> list[Cell]:
    """Return the cells of a panel."""
    return [mark for mark in panel.marks if isinstance(mark, Cell)]


def shape(cells: list[Cell]) -> tuple[int, int]:
    """Return how many rows and columns the cells take."""
    return (
        max(cell.row + cell.rows for cell in cells),
        max(cell.column + cell.columns for cell in cells),
    )


def directions(panel: Panel) -> str:
    """Return what the rows and the columns of a grid stand for."""
    says = (("down", panel.y.label), ("across", panel.x.label))
    return "; ".join(f"{way}: {label}" for way, label in says if label)


def columns(panel: Panel) -> list[list[str]]:
    """Return the written columns of a table, each with its header."""
    header, rows = _table(panel)
    written = [
        [axis.label, *(write(row[i], axis.unit) for row in rows[:MOST_ROWS])]
        for i, axis in enumerate(header)
    ]
    if len(rows) > MOST_ROWS:
        for i, column in enumerate(written):
            column.append("" if i else f"and {len(rows) - MOST_ROWS} more")
    return written


def numeric(panel: Panel) -> list[bool]:
    """Say of each column of a table whether it holds numbers alone."""
    header, rows = _table(panel)
    return [
        bool(rows) and all(isinstance(row[i], Real) for row in rows) for i in range(len(header))
    ]


def _table(panel: Panel) -> tuple[tuple[Axis, ...], tuple[tuple, ...]]:
    (table,) = (mark for mark in panel.marks if isinstance(mark, Table))
    return table.header, table.rows


def _unpaired(line: Line) -> str:
    few = min(len(line.x), len(line.y))
    return lesson(
        f"line {line.label!r} has {len(line.x)} x and {len(line.y)} y.",
        why="a point is one of each.",
        fix=f"Line({line.label!r}, x[:{few}], y[:{few}]), if the last ones are too many.",
    )
