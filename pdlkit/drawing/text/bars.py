"""Bars in text: a name, a length, and the number it stands for."""

import math

from pdlkit.drawing import marks
from pdlkit.drawing.scales import write
from pdlkit.pictures import Bar, Panel

WIDTH = 36
_FILLS = "█▒▓░"


def lower(panel: Panel) -> list[str]:
    """Return one line a bar, and a key where bars have parts."""
    whole = marks.wholes(panel)
    parts = marks.parts(panel)
    fills = {part: _FILLS[i % len(_FILLS)] for i, part in enumerate(parts)}
    longest = max(sum(bar.value for bar in each) for each in whole.values())
    margin = max(map(len, whole))
    lines = [
        f"{name:<{margin}}  {_length(each, longest, fills)} {_value(each, panel)}"
        for name, each in whole.items()
    ]
    key = "  ".join(f"{fills[part]} {part}" for part in parts if part)
    return [*lines, key] if key else lines


def _length(bars: list[Bar], longest: float, fills: dict[str, str]) -> str:
    text, upto = "", 0.0
    for bar in bars:
        upto += bar.value
        share = upto / longest if longest > 0 else 0.0
        cells = round(WIDTH * share) if math.isfinite(share) else 0
        # what is not nothing is seen
        cells = max(cells, len(text) + 1) if bar.value > 0 else cells
        text += fills[bar.part] * (cells - len(text))
    return text


def _value(bars: list[Bar], panel: Panel) -> str:
    return write(sum(bar.value for bar in bars), panel.x.unit)
