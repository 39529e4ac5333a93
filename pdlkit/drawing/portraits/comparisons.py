"""Strategies side by side: are they right, what do they send, hold and take."""

import math

from pdlkit.pictures import Axis, Bar, Panel, Picture, Table
from pdlkit.timings import Compared, Comparison

_HEADER = (Axis("strategy"), Axis("mesh"), Axis("devices"), Axis("updates off by"))


def comparison(compared: Comparison) -> Picture:
    """Return a table of what is right, and bars of bytes, memory and seconds."""
    rows = compared.rows
    note = "The largest difference from one device's updates, relative to their size."
    table = Table(_HEADER, tuple(map(_row, rows)))
    sent = tuple(Bar(row.name, row.wire_bytes) for row in rows)
    held = tuple(Bar(row.name, row.memory) for row in rows)
    taken = tuple(Bar(row.name, row.seconds) for row in rows)
    return Picture(
        f"{compared.name}: {_found(rows)}",
        (
            Panel("updates beside those of one device", "measured", (table,), note=note),
            Panel("what each device sends in one step", "counted", sent, x=Axis("", "B")),
            Panel("what each device holds in one step", "counted", held, x=Axis("", "B")),
            Panel("how long one step takes", "measured", taken, x=Axis("", "s"), note=compared.how),
        ),
        alt=f"{compared.name} by {', '.join(row.name for row in rows)}",
    )


def _found(rows: tuple[Compared, ...]) -> str:
    worst = max(rows, key=lambda row: math.inf if math.isnan(row.error) else row.error)
    if math.isnan(worst.error):
        return f"the updates of {worst.name} are not numbers"
    return f"updates differ from one device's by {_off(worst)} at most ({worst.name})"


def _row(row: Compared) -> tuple:
    grid = ", ".join(f"{axis}={size}" for axis, size in row.mesh.items())
    return row.name, grid, row.devices, _off(row)


def _off(row: Compared) -> str:
    """Return a difference of rounding as such, and an error in percent."""
    if row.error == 0:
        return "0"
    return f"{row.error:.0e}" if row.error < 1e-3 else f"{100 * row.error:.3g}%"
