"""Letters in an SVG: escaped, and cut or wrapped where they have no room.

Which font the reader has is not known, so widths are those of a wide one.
"""

import functools
import re
import textwrap
import unicodedata

SIZE = 12.0  # px, of all letters that say nothing else
END, MIDDLE = ' text-anchor="end"', ' text-anchor="middle"'
MUTED = ' fill-opacity=".75"'
_WIDE, _NARROW = "mwMW%@=+<>#", " .,:;'|!()[]/ijlftrI"

# all that XML must see escaped, and what it may not hold in any form
_SPECIAL = re.compile("[&<>\"'\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_ESCAPED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}


def escape(text: str) -> str:
    """Return text as it may stand in an element or an attribute."""
    return _SPECIAL.sub(lambda found: _ESCAPED.get(found[0], "\ufffd"), text)


# a live picture asks for the same words many times a second
@functools.lru_cache(4096)
def width(text: str, size: float = SIZE) -> float:
    """Return how wide text is at most, in px."""
    letters = 0.64 * len(text) + 0.34 * sum(map(text.count, _WIDE))
    letters -= 0.22 * sum(map(text.count, _NARROW))
    if not text.isascii():
        letters += 0.4 * sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return letters * size


def shorten(text: str, room: float, size: float = SIZE) -> str:
    """Return as much of the text as fits, an ellipsis behind it where it is cut."""
    if width(text, size) <= room:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (
            (middle, high) if width(text[:middle] + "…", size) <= room else (low, middle - 1)
        )
    return text[:low].rstrip() + "…"


def wrap(text: str, room: float, size: float = SIZE, most: int = 99) -> list[str]:
    """Return the text in lines that fit the room; the last of `most` may be cut."""
    whole = width(text, size)
    if whole <= room:
        return [text]
    lines = textwrap.wrap(text, max(int(len(text) * room / whole), 1))
    last = " ".join(lines[most - 1 :])
    return [*lines[: most - 1], *([shorten(last, room, size)] if last else [])]


def put(x: float, y: float, text: str, how: str = "") -> str:
    """Return text whose middle line is at y."""
    return f'<text x="{x:.1f}" y="{y:.1f}" dy=".35em"{how}>{escape(text)}</text>'


def fit(x: float, y: float, text: str, room: float, how: str = "", size: float = SIZE) -> str:
    """Return text cut to its room; where it is cut, the pointer shows the whole."""
    if width(text, size) <= room:
        return put(x, y, text, how)
    words = f"<title>{escape(text)}</title>{escape(shorten(text, room, size))}"
    return f'<text x="{x:.1f}" y="{y:.1f}" dy=".35em"{how}>{words}</text>'
