"""A picture that has its places: what is where, in px, before it is written."""

from typing import NamedTuple

import numpy as np


class Curve(NamedTuple):
    """A line in its place."""

    panel: int  # index of the Frame it is drawn in
    label: str  # "device 3"; every curve has its own, also those of a crowd
    colour: str  # "#3f90da", or "currentColor" for the line that stands for the whole
    dash: str  # a stroke-dasharray such as "10.4 2.6", or ""
    width: float  # px
    opacity: float
    dot: float  # px across of the dot at each point, or 0
    points: np.ndarray  # float32 [n, 2], px in the scene; NaN is a gap


class Scale(NamedTuple):
    """What one side of a frame stands for, from end to end."""

    low: float
    high: float
    log: bool
    unit: str
    label: str


class Frame(NamedTuple):
    """Where the curves of a panel are drawn, and what its axes stand for."""

    left: float  # px, as are the next three
    top: float
    width: float
    height: float
    x: Scale  # low at the left
    y: Scale  # low at the bottom
    title: str
    word: str


class Scene(NamedTuple):
    """A picture laid out."""

    width: float  # px
    height: float
    markup: str  # everything but the curves, as SVG elements
    frames: tuple[Frame, ...]  # one a panel of lines, in order
    curves: tuple[Curve, ...]  # in the order in which they lie on each other
    alt: str


class Place(NamedTuple):
    """Where a panel may be drawn: as wide as this, and as high as it needs."""

    left: float  # px
    top: float
    width: float
    frames: int = 0  # that stand before it


class Drawing(NamedTuple):
    """A panel in its place, without its title and its note."""

    height: float  # px
    markup: str
    frames: tuple[Frame, ...] = ()
    curves: tuple[Curve, ...] = ()
