"""A pipeline schedule: which device does what in each tick, and what it holds."""

from pdlkit.pictures import Axis, Bar, Cell, Panel, Picture
from pdlkit.schedules.table import Op, Table
from pdlkit.schedules.tasks import BACKWARD, BOTH, FORWARD, WEIGHT

_LETTERS = {FORWARD: "F", BACKWARD: "B", WEIGHT: "W", BOTH: "B"}
_MEANINGS = {
    FORWARD: "forward",
    BACKWARD: "backward (gradient of the input)",
    WEIGHT: "weight gradient",
    BOTH: "backward with weight gradient",
}
_MANY = 24  # ticks, past which their numbers would run into each other
_BELOW = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def schedule(table: Table) -> Picture:
    """Return the grid of devices and ticks, and what each device holds."""
    idle = max(table.idle_ticks)
    pieces = f"{table.microbatches} micro-batch{'es' * (table.microbatches != 1)}"
    waits = f"a device waits {idle} at most" if idle else "no device waits in between"
    return Picture(
        f"{table.name}: {pieces} through {table.stages} stages in {table.ticks} ticks; {waits}",
        (_grid(table), _held(table)),
        alt=f"{table.name}, {table.stages} stages, {pieces}: what each device does in each tick, "
        "and how many micro-batches it holds activations of",
    )


def _grid(table: Table) -> Panel:
    kinds = [kind for kind in _LETTERS if any(op.kind == kind for op in table.ops)]
    letters = _LETTERS | ({BOTH: "BW"} if {BACKWARD, BOTH} <= set(kinds) else {})
    # Kinds take their colours in the order in which they are met: the same in every table.
    ops = sorted(table.ops, key=lambda op: (op.chunk, kinds.index(op.kind)))
    said = ", ".join(f"{letters[kind]} {_MEANINGS[kind]}" for kind in kinds)
    chunk = ", the small one the chunk" if table.chunks > 1 else ""
    return Panel(
        "what each device does",
        "counted",
        tuple(_cell(op, letters, table.chunks) for op in ops),
        x=Axis("tick", names=_numbered(table.ticks)),
        y=Axis("device", names=_numbered(table.stages)),
        note=f"{said}; the number is the micro-batch{chunk}.",
    )


def _cell(op: Op, letters: dict[str, str], chunks: int) -> Cell:
    chunk = str(op.chunk).translate(_BELOW) if chunks > 1 else ""
    label = f"{letters[op.kind]}{op.microbatch}{chunk}"
    return Cell(op.device, op.tick, label, kind=f"{op.kind} {op.chunk}")


def _held(table: Table) -> Panel:
    bars = tuple(Bar(f"device {i}", peak) for i, peak in enumerate(table.peak_activations))
    of = f", each through 1/{table.chunks} of a device's layers" if table.chunks > 1 else ""
    title = "activations held at once, at most"
    return Panel(title, "counted", bars, x=Axis(f"micro-batches{of}"))


def _numbered(count: int) -> tuple[str, ...]:
    """Return the numbers from 0, or where they are many, every fifth of them."""
    return tuple(str(i) if count <= _MANY or i % 5 == 0 else "" for i in range(count))
