"""A schedule played in seconds: who does what when, or how busy each device is."""

import numpy as np

from pdlkit.drawing.scales import write
from pdlkit.pictures import Axis, Bar, Panel, Picture, Span
from pdlkit.prediction.playing import Timeline
from pdlkit.schedules.tasks import BACKWARD, BOTH, FORWARD, WEIGHT

_WORDS = {
    FORWARD: "forward",
    BACKWARD: "input gradient",
    WEIGHT: "weight gradient",
    BOTH: "backward",
}
_MANY = 1500  # ops, past which each would be thinner than a line


def timeline(played: Timeline) -> Picture:
    """Return a lane for each device, or where there are too many ops, a bar."""
    table = played.table
    never = np.count_nonzero(~np.isfinite(played.end))
    found = (
        f"never ends: {never} of {len(table.ops)} ops wait for ever"
        if never
        else f"through {table.stages} stages takes {write(played.seconds, 's')}, "
        f"{played.bubble:.0%} of it bubble"
    )
    few = len(table.ops) <= _MANY
    return Picture(
        f"{table.name} {found}",
        (_lanes(played) if few else _bars(played),),
        alt=f"{table.name}, {table.stages} stages, {table.microbatches} micro-batches: "
        + ("what each device does when" if few else "how long each device works and waits"),
    )


def _lanes(played: Timeline) -> Panel:
    lanes = tuple(f"device {i}" for i in range(played.table.stages))
    spans = tuple(
        Span(lanes[event.device], event.start, event.end, event.label, _WORDS[event.kind])
        for event in played.events
    )
    axes = {"x": Axis("time", "s"), "y": Axis("device", names=lanes)}
    note = "The number is the micro-batch."
    return Panel("what each device does", "modelled", spans, **axes, note=note)


def _bars(played: Timeline) -> Panel:
    waits = np.where(np.isfinite(played.occupied), played.occupied - played.busy, 0)
    both = zip(played.busy.tolist(), waits.tolist(), strict=True)
    bars = tuple(
        Bar(f"device {i}", value, part)
        for i, values in enumerate(both)
        for part, value in zip(("busy", "waiting"), values, strict=True)
    )
    title = "from each device's first op to its last"
    return Panel(title, "modelled", bars, x=Axis("time", "s"))
