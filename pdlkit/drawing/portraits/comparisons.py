"""Strategies side by side: are they right, what do they send, hold and take."""

from pdlkit.pictures import Axis, Bar, Panel, Picture, Table
from pdlkit.timings import Compared, Comparison

_HEADER = (
    Axis("strategy"),
    Axis("mesh"),
    Axis("as one device"),
    Axis("gradients off by"),
    Axis("updates off by"),
)


def comparison(compared: Comparison) -> Picture:
    """Return a table of what is right, and bars of bytes, memory and seconds."""
    rows = compared.rows
    note = (
        "Largest difference from one device, relative to its size: gradients array by array, "
        "updates by the workload's own optimizer, which may magnify the last digit."
    )
    table = Table(_HEADER, tuple(map(_row, rows)))
    sent = tuple(Bar(row.name, row.wire_bytes) for row in rows)
    held = tuple(Bar(row.name, row.memory) for row in rows)
    taken = tuple(Bar(row.name, row.seconds) for row in rows)
    return Picture(
        f"{compared.name}: {_found(rows)}",
        (
            Panel("beside one device", "measured", (table,), note=note),
            Panel("what each device sends in one step", "counted", sent, x=Axis("", "B")),
            Panel("what each device holds in one step", "counted", held, x=Axis("", "B")),
            Panel("how long one step takes", "measured", taken, x=Axis("", "s"), note=compared.how),
        ),
        alt=f"{compared.name} by {', '.join(row.name for row in rows)}",
    )


def _found(rows: tuple[Compared, ...]) -> str:
    wrong = [row.name for row in rows if not row.agrees]
    if wrong:
        return f"not as one device: {', '.join(wrong)}"
    return "as one device" if len(rows) == 1 else f"all {len(rows)} as one device"


def _row(row: Compared) -> tuple:
    grid = ", ".join(f"{axis}={size}" for axis, size in row.mesh.items())
    agrees = "yes" if row.agrees else "NO"
    return row.name, grid, agrees, _off(row.gradient_error), _off(row.update_error)


def _off(error: float) -> str:
    return f"{error:.0e}" if error else "0"
