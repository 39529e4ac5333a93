"""Filled rectangles, told apart by colour and by stripes, and their key.

An SVG has patterns for this, but they need ids, and two pictures in one
notebook would share them. A wide dashed line makes stripes without.
"""

from pdlkit.drawing.styles import colour
from pdlkit.drawing.svg.letters import fit, width

ROW = 18.0  # px, of the key
_BOX, _GAP = 12.0, 18.0  # px, a box of the key, and between two entries
_STRIPES = ("", "1.5 4.5", "3 3", "1 2", "6 2 1 2")  # ink and gaps, in px


def box(left: float, top: float, wide: float, high: float, fill: str) -> str:
    """Return a rectangle; `fill` says how it is filled."""
    size = f'width="{wide:.1f}" height="{high:.1f}"'
    return f'<rect x="{left:.1f}" y="{top:.1f}" {size} {fill}/>'


def filled(
    left: float, top: float, *, wide: float, high: float, index: int, opacity: float = 1
) -> str:
    """Return a rectangle in the index-th colour, with the stripes of that index."""
    fill = f'fill="{colour(index)}"' + (f' fill-opacity="{opacity}"' if opacity < 1 else "")
    stripes = _STRIPES[index % len(_STRIPES)]
    if not stripes:
        return box(left, top, wide, high, fill)
    # under letters the stripes are of the same hue, in a light and a dark page
    ink = f'stroke="{"#fff" if opacity == 1 else colour(index)}" stroke-opacity=".4"'
    across = f"M{left:.1f} {top + high / 2:.1f}h{wide:.1f}"
    return (
        f"{box(left, top, wide, high, fill)}"
        f'<path d="{across}" {ink} stroke-width="{high:.1f}" stroke-dasharray="{stripes}"/>'
    )


def key(names: list[str], left: float, top: float, room: float, opacity: float = 1) -> list[str]:
    """Return the rows of the key: an entry for each name that is one."""
    rows, x = [""], left
    for i, name in enumerate(names):
        if not name:
            continue
        wide = min(_BOX + 6 + width(name) + _GAP, room)
        if x + wide > left + room and rows[-1]:
            rows.append("")
            x = left
        y = top + ROW * len(rows) - ROW / 2
        rows[-1] += filled(x, y - _BOX / 2, wide=_BOX, high=_BOX, index=i, opacity=opacity)
        rows[-1] += fit(x + _BOX + 6, y, name, room - _BOX - 6)
        x += wide
    return [row for row in rows if row]
