"""How many times as fast more devices are: measured, and by the two laws."""

from collections.abc import Callable, Mapping

from pdlkit.drawing.scales import write
from pdlkit.pictures import Axis, Line, Panel, Picture, Table
from pdlkit.prediction.laws import amdahl, gustafson
from pdlkit.timings import Speedup, Timing

_DEVICES = Axis("devices", log=True)
_HEADER = (
    Axis("devices"),
    Axis("minimum step", "s"),
    Axis("median step", "s"),
    Axis("cores busy"),
    Axis("speedup"),
    Axis("efficiency"),
    Axis("serial share"),
)


def speedup(found: Speedup) -> Picture:
    """Return strong and weak scaling with their laws, and the figures as a table."""
    counts = _listed([timing.devices for timing in found.strong])
    return Picture(
        _found(found),
        (_strong(found), _weak(found), _figures(found)),
        alt=f"speedup of {found.name}, {counts}",
    )


def _strong(found: Speedup) -> Panel:
    law = _law("Amdahl", amdahl, found.amdahl, found.asked)
    title = "strong scaling: the same batch, cut among more devices"
    return _scaling(title, "speedup", found.speedups, found.median_speedups, law, found.asked)


def _weak(found: Speedup) -> Panel:
    law = _law("Gustafson", gustafson, found.gustafson, found.asked)
    title = "weak scaling: n devices, and a batch n times as large"
    gains = found.scaled_speedups, found.median_scaled_speedups
    return _scaling(title, "scaled speedup", *gains, law, found.asked)


def _scaling(title: str, gain: str, minimum, median, law, asked: tuple[int, ...]) -> Panel:
    lines, note = law
    return Panel(
        title,
        "measured",
        (*_measured(minimum, median), _ideal(asked), *lines),
        x=_DEVICES,
        y=Axis(gain, log=True),
        note=note,
    )


def _measured(minimum: Mapping[int, float], median: Mapping[int, float]) -> tuple[Line, ...]:
    return tuple(
        Line(f"{figure} step (measured)", tuple(gains), tuple(gains.values()))
        for figure, gains in (("minimum", minimum), ("median", median))
        if gains
    )


def _ideal(asked: tuple[int, ...]) -> Line:
    return Line("ideal", asked, asked, word="modelled")


def _law(
    name: str, law: Callable[[float, int], float], share: float | None, asked: tuple[int, ...]
) -> tuple[tuple[Line, ...], str]:
    """Return the line of a fitted law, and what is to be said of the fit."""
    if share is None:
        return (), "A law is fitted when two counts of devices have been measured."
    serial = min(max(share, 0.0), 1.0)
    gains = tuple(law(serial, n) for n in asked)
    line = Line(f"{name}, {_percent(serial)} serial", asked, gains, word="modelled")
    note = f"{name}'s law, fitted to the minimum: a serial share of {_percent(share)}."
    if share < 0:
        note += " That is more than ideal, as where smaller shares fit a cache; 0% is drawn."
    if share > 1:
        note += " One device is faster, for devices also talk, which the law leaves out;"
        note += " 100% is drawn."
    return (line,), note


def _figures(found: Speedup) -> Panel:
    rows = tuple(_row(found, timing) for timing in found.strong)
    past = [n for n in found.asked if n > found.cores]
    note = f"{found.how} Serial share: what a speedup stands for, by Karp and Flatt."
    if past:
        note += f" Not measured: {_listed(past)}, for they would take turns."
    title = "strong scaling in figures"
    return Panel(title, "measured", (Table(_HEADER, rows),) if rows else (), note=note)


def _row(found: Speedup, timing: Timing) -> tuple:
    n = timing.devices
    share = _percent(found.karp_flatt[n]) if n in found.karp_flatt else "–"
    busy = round(timing.cores_busy, 2)
    gain, efficiency = round(found.speedups[n], 2), _percent(found.efficiency[n])
    return n, timing.minimum, timing.median, busy, gain, efficiency, share


def _found(found: Speedup) -> str:
    gains = found.speedups
    if not gains:
        return f"{found.name}: nothing was measured yet"
    n = max(gains)
    if n == 1:
        return f"{found.name}: one device takes {write(found.strong[0].minimum, 's')} a step"
    if gains[n] >= 1:
        return f"{found.name}: {n} devices are {gains[n]:.2f} times as fast as one"
    return f"{found.name}: {n} devices take {1 / gains[n]:.2f} times as long as one"


def _listed(counts: list[int]) -> str:
    if not counts:
        return "no devices"
    *others, last = map(str, counts)
    devices = "device" if counts == [1] else "devices"
    return f"{', '.join(others)} and {last} {devices}" if others else f"{last} {devices}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"
