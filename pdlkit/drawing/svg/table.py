"""A table: words left, numbers right, a rule under the header."""

from pdlkit.drawing import marks
from pdlkit.drawing.svg.letters import END, SIZE, fit, width
from pdlkit.drawing.svg.scene import Drawing, Place
from pdlkit.drawing.svg.ticks import AXIS
from pdlkit.pictures import Panel

_ROW, _BETWEEN = 20.0, 20.0  # px
_BOLD = 1.12  # times as wide
_SMALLEST = 9.5  # px, of letters
_WORD = 30.0  # px, so much of a word is left to read


def draw(panel: Panel, place: Place) -> Drawing:
    """Return the cells in their places, column by column."""
    columns, numeric = marks.columns(panel), marks.numeric(panel)
    if not columns:
        return Drawing(0.0, "")
    whole = [max(_BOLD * width(column[0]), *map(width, column[1:]), 0.0) for column in columns]
    share = place.width / (sum(whole) + _BETWEEN * (len(columns) - 1))
    size = min(SIZE, max(SIZE * share, _SMALLEST))
    between = _BETWEEN * size / SIZE
    widths = _fitting(
        [wide * size / SIZE for wide in whole],
        numeric,
        place.width - between * (len(columns) - 1),
    )
    found, left = [f'<g font-size="{size:.1f}">'], place.left
    for column, wide, number in zip(columns, widths, numeric, strict=True):
        x, side = (left + wide, END) if number else (left, "")
        for row, text in enumerate(column):
            how = side if row else f'{side} font-weight="bold"'
            y = place.top + _ROW * (row + 0.5)
            # half a px more, for sums that differ in their last digit
            room = wide / (1 if row else _BOLD) + 0.5
            found.append(fit(x, y, text, room, how, size))
        left += wide + between
    found += ["</g>", *_rules(place, left - between, len(columns[0]))]
    return Drawing(_ROW * len(columns[0]), "".join(found))


def _rules(place: Place, right: float, rows: int) -> list[str]:
    """Return a rule under the header, and faint ones between the other rows."""
    rules = [
        f"M{place.left:.1f} {place.top + _ROW * row:.1f}H{right:.1f}" for row in range(1, rows)
    ]
    faint = 'fill="none" stroke="currentColor" stroke-opacity=".12"'
    under = [f'<path d="{rule}" {AXIS}/>' for rule in rules[:1]]
    return under + ([f'<path d="{"".join(rules[1:])}" {faint}/>'] if rules[1:] else [])


def _fitting(widths: list[float], numeric: list[bool], room: float) -> list[float]:
    """Return the widths that fit the room: words are cut before numbers are."""
    words = [wide for wide, number in zip(widths, numeric, strict=True) if not number]
    left = room - (sum(widths) - sum(words))
    if left < _WORD * len(words):
        most = _most(widths, room)
        return [min(wide, most) for wide in widths]
    most = _most(words, left)
    return [
        wide if number else min(wide, most) for wide, number in zip(widths, numeric, strict=True)
    ]


def _most(widths: list[float], room: float) -> float:
    """Return the width to which the widest are cut, so that all have room."""
    rest = sorted(widths)
    room = max(room, 0.0)
    while rest and rest[0] <= room / len(rest):
        room -= rest.pop(0)
    return room / len(rest) if rest else max(widths, default=0.0)
