"""Colours and dashes in the words of matplotlib."""

from matplotlib.colors import to_hex, to_rgb

from pdlkit.drawing.styles import TINT, Style, colour

INK, MUTED, FAINT = "#222222", "#888888", "#ececec"

_HATCHES = ("", "///", "...", "xxx", "---")


def ink(style: Style) -> dict:
    """Return how a line is drawn, as matplotlib is told."""
    return {
        "color": style.colour or INK,
        "lw": style.points,
        "ls": (0, style.dash) if style.dash else "-",
        "alpha": style.opacity,
    }


def thin(style: Style) -> dict:
    """Return the ink of what leads to a name: dotted, so that no line seems to go on."""
    return {"color": style.colour or INK, "lw": 0.7, "alpha": 0.7, "ls": (0, (1, 3))}


def tint(index: int) -> str:
    """Return the index-th colour as a background that black letters stand on."""
    red, green, blue = (1 - TINT * (1 - part) for part in to_rgb(colour(index)))
    return to_hex((red, green, blue))


def hatch(index: int) -> str:
    """Return the hatching of the index-th thing."""
    return _HATCHES[index % len(_HATCHES)]
