"""Pictures as data: what is to be seen, and the word for how it is known.

A picture holds no pixels. It is lowered when asked: to text, to a figure, to a
file. Each way of lowering it looks at the same panels and the same marks.
"""

import dataclasses
import importlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pdlkit.errors import lesson
from pdlkit.records import Shown

WORDS = ("measured", "counted", "modelled")


class Axis(NamedTuple):
    """What an axis of a panel, or a column of a table, stands for."""

    label: str = ""
    unit: str = ""  # "B", "s" and "FLOP" are scaled for the reader: 37.5 kB
    names: tuple[str, ...] = ()  # of the lanes, rows or columns, in order
    log: bool = False


_UNSAID = Axis()


class Line(NamedTuple):
    """A curve; a y that is not finite is a gap in it."""

    label: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    group: str = ""  # "devices": its members are drawn as one crowd when many
    word: str = ""  # where it is not the panel's


class Bar(NamedTuple):
    """A length from zero; bars of one label stand end to end."""

    label: str
    value: float
    part: str = ""  # which part of the whole bar
    word: str = ""  # where it is not the panel's


class Span(NamedTuple):
    """Something that lasts: one stretch of a lane."""

    lane: str  # y.names may order the lanes, and name empty ones
    start: float
    end: float
    label: str = ""
    kind: str = ""  # spans of one kind share a colour and an entry in the key


class Cell(NamedTuple):
    """A rectangle of a grid; row 0 is the top, column 0 the left."""

    row: int
    column: int
    label: str
    rows: int = 1
    columns: int = 1
    kind: str = ""  # cells of one kind share a colour


class Table(NamedTuple):
    """Rows of text and numbers under named columns."""

    header: tuple[Axis, ...]
    rows: tuple[tuple, ...]
    word: str = ""  # of some of its columns, where it is not the panel's


Mark = Line | Bar | Span | Cell | Table


@dataclasses.dataclass(frozen=True)
class Panel:
    """Marks of one kind on one pair of axes, and how they are known."""

    title: str
    word: str  # one of WORDS
    marks: tuple[Mark, ...]
    x: Axis = _UNSAID
    y: Axis = _UNSAID
    note: str = ""  # a sentence below it

    def __post_init__(self):
        for word in sorted(_words(self)):
            if word not in WORDS:
                raise ValueError(_unknown_word(word, self.title))
        kinds = {type(mark).__name__ for mark in self.marks}
        if len(kinds) > 1:
            raise TypeError(_mixed_kinds(sorted(kinds), self.title))

    @property
    def words(self) -> str:
        """The words of the panel and of its marks: measured and modelled."""
        return _listed(_words(self))


@dataclasses.dataclass(frozen=True, repr=False)
class Picture(Shown):
    """Panels under a title that says what was found."""

    title: str
    panels: tuple[Panel, ...]
    alt: str = ""  # what it shows, without a figure that varies from run to run
    columns: int = 1  # panels side by side

    def __post_init__(self):
        if not self.panels:
            raise ValueError(_no_panel(self.title))

    def __repr__(self):
        """Return the alt text, which is short and the same on every run."""
        titles = dict.fromkeys((self.title, *(panel.title for panel in self.panels)))
        return f"<{self.word}: {self.alt or '; '.join(filter(None, titles))}>"

    @property
    def word(self) -> str:
        """The words of all panels: counted, or measured and modelled."""
        return _listed(set().union(*map(_words, self.panels)))

    @property
    def text(self) -> str:
        """The picture for a terminal, a test or a screen reader."""
        return importlib.import_module("pdlkit.drawing.text").lower(self)

    @property
    def svg(self) -> str:
        """The picture as one SVG document."""
        return importlib.import_module("pdlkit.drawing.svg").lower(self)

    def save(self, path) -> None:
        """Write a file; its suffix says what: .png .svg .pdf .txt .csv .json."""
        importlib.import_module("pdlkit.drawing.files").save(self, path)


def _words(panel: Panel) -> set[str]:
    own = {getattr(mark, "word", "") for mark in panel.marks}
    return {panel.word} | own - {""}


def _listed(words: set[str]) -> str:
    *others, last = [word for word in WORDS if word in words]
    return f"{', '.join(others)} and {last}" if others else last


def _unknown_word(word: str, title: str) -> str:
    return lesson(
        f"{word!r} does not say how the panel {title!r} is known.",
        why=f"all that is shown is {WORDS[0]}, {WORDS[1]} or {WORDS[2]}; the three are not mixed.",
        fix='Panel(title, "measured", marks), if a clock or a profiler read it in this run.',
    )


def _no_panel(title: str) -> str:
    return lesson(
        f"the picture {title!r} has no panel.",
        why="it is the panel that says whether something was measured, counted or modelled.",
        fix='Picture(title, (Panel("loss", "measured", ()),)), which says that nothing was seen.',
    )


def _mixed_kinds(kinds: list[str], title: str) -> str:
    return lesson(
        f"the panel {title!r} holds marks of {len(kinds)} kinds: {', '.join(kinds)}.",
        why="each kind has its own axes, and some would be drawn on the wrong ones.",
        fix="a panel for each kind, in one Picture.",
    )
