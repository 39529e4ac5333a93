"""Colours and dashes, told apart by readers who see colours differently."""

import matplotlib
from matplotlib.colors import to_hex, to_rgb

INK, MUTED, FAINT = "#222222", "#888888", "#ececec"

# of all palettes tried, petroff10 keeps its colours furthest apart for every
# kind of colour vision; dashes and names beside the lines say the same again
_DASHES = ("-", (0, (6, 1.5)), (0, (3, 1)), (0, (6, 1.5, 1, 1.5)), (0, (1.5, 1)))
_HATCHES = ("", "///", "...", "xxx", "---")


def colour(index: int) -> str:
    """Return the colour of the index-th thing."""
    colours = matplotlib.color_sequences["petroff10"]
    return to_hex(colours[index % len(colours)])


def tint(index: int) -> str:
    """Return that colour as a background that black letters stand on."""
    red, green, blue = (1 - 0.35 * (1 - part) for part in to_rgb(colour(index)))
    return to_hex((red, green, blue))


def dash(index: int):
    """Return the line style of the index-th thing."""
    return _DASHES[index % len(_DASHES)]


def hatch(index: int) -> str:
    """Return the hatching of the index-th thing."""
    return _HATCHES[index % len(_HATCHES)]
