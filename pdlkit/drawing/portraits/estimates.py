"""What a plan would cost: where the step's time and the device's memory go."""

import dataclasses

from pdlkit.drawing.scales import write
from pdlkit.pictures import Axis, Bar, Panel, Picture, Table
from pdlkit.prediction.estimates import Estimate
from pdlkit.prediction.plans import Plan
from pdlkit.prediction.searching import Search

_SHORT = {
    "micro_batch": "micro-batch",
    "virtual_stages": "virtual",
    "sequence_parallel": "sequence",
    "recompute": "remat",
    "zero": "ZeRO",
}


def estimate(found: Estimate) -> Picture:
    """Return bars of the seconds of a step, and of the bytes of a device."""
    has = found.cluster.hardware.memory_bytes
    held = write(found.memory, "B")
    verdict = (
        f"{held} of {write(has, 'B')} are taken"
        if found.fits
        else f"{held} do not fit into {write(has, 'B')}, most of it {found.largest}"
    )
    return Picture(
        f"{found.llm.name or 'The model'} on {found.cluster.devices} "
        f"{found.cluster.hardware.name}: a step takes {write(found.seconds, 's')}, "
        f"{found.mfu:.0%} of the peak; {verdict}",
        (
            _bars("what a step is spent on", found.breakdown, "s", "time"),
            _bars("what the fullest device holds", found.memory_parts, "B", "memory"),
        ),
        alt=f"{found.llm.name or 'a model'} by {found.plan}: seconds of a step and bytes of a "
        "device, by part",
    )


def _bars(title: str, parts, unit: str, label: str) -> Panel:
    bars = tuple(Bar(name, value) for name, value in parts.items() if value)
    return Panel(title, "modelled", bars, x=Axis(label, unit))


def search(found: Search) -> Picture:
    """Return the best plans, a row each."""
    title = f"{found.evaluated:,} plans, of which {found.fitting:,} fit"
    if not found.best:
        return Picture(f"{title}: none", (_table(found.pareto),), alt="no plan that fits")
    first = found.best[0]
    return Picture(
        f"{title}; the fastest takes {write(first.seconds, 's')} a step: {first.plan}",
        (_table(found.best),),
        alt=f"the best plans for {found.llm.name or 'a model'}, by the seconds of a step",
    )


def _table(rows: tuple[Estimate, ...]) -> Panel:
    """Return a row for each plan, with the ways that any of them takes."""
    default, several = Plan(), len({repr(each.cluster) for each in rows}) > 1
    ways = [
        field.name
        for field in dataclasses.fields(Plan)
        if field.name != "flash"
        and any(getattr(each.plan, field.name) != getattr(default, field.name) for each in rows)
    ]
    header = (
        *((Axis("cluster"),) if several else ()),
        *(Axis(_SHORT.get(way, way)) for way in ways),
        *(Axis("a step", "s"), Axis("MFU"), Axis("a device", "B")),
    )
    lines = tuple(
        (
            *((repr(each.cluster)[1:-1],) if several else ()),
            *(_said(getattr(each.plan, way)) for way in ways),
            *(each.seconds, f"{each.mfu:.1%}", each.memory),
        )
        for each in rows
    )
    return Panel("fastest first", "modelled", (Table(header, lines),))


def _said(value):
    return ("yes" if value else "no") if isinstance(value, bool) else value
