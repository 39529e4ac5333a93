"""Who sends which chunk to whom, when, and what every device then holds."""

import dataclasses

import numpy as np

from pdlkit.collectives import Hop, Hops, Played
from pdlkit.drawing.scales import write
from pdlkit.pictures import Axis, Cell, Panel, Picture
from pdlkit.units import write_bytes

_FEW = 4  # numbers of a chunk that are all written, and chunks of a narrow grid


def hops(hops: Hops) -> Picture:
    """Return one row a tick, one column a device: what it sends, and to whom."""
    sent = _count(max(hops.sent), "chunk")
    return Picture(_found(hops, sent), (_timetable(hops),), alt=f"hops of {_name(hops)}")


def played(played: Played) -> Picture:
    """Return what is held at first, the result, and the hops between; or one tick."""
    if played.tick is not None:
        return _moment(played, played.tick)
    hops = played.hops
    first = _grid("at first", played.states[0], played.held[0])
    ends = played.result.reshape(hops.devices, len(hops.end[0]), -1)
    result = _grid("the result", ends, np.ones(ends.shape[:2], bool))
    result = dataclasses.replace(result, x=Axis("part of the result"))
    return Picture(
        _found(hops, write_bytes(max(hops.sent) * played.chunk_bytes)),
        (first, result, _timetable(hops)),
        alt=f"{_name(hops)}, played",
        columns=_beside(hops),
    )


def _moment(played: Played, tick: int) -> Picture:
    """Return what the last of so many ticks sends, and what there is after it."""
    hops, states, held = played.hops, played.states, played.held
    title = f"{_name(hops)}: after {tick} of {_count(hops.ticks, 'tick')}"
    if tick == 0:
        return Picture(title, (_grid("at first", states[0], held[0]),), alt=title)
    leaving: dict[tuple[int, int], list[int]] = {}
    came = {}
    for hop in hops.by_tick[tick - 1]:
        leaving.setdefault((hop.source, hop.chunk), []).append(hop.target)
        came[hop.target, hop.slot] = f"← {hop.source}{' +' * hop.reduces}"
    goes = {place: f"→ {_listed(targets)}" for place, targets in leaving.items()}
    before = f"before tick {tick}; → 1: a copy goes to device 1"
    after = f"after tick {tick}; ← 1: from device 1, + added"
    panels = (
        _grid(before, states[tick - 1], held[tick - 1], goes),
        _grid(after, states[tick], held[tick], came),
    )
    return Picture(title, panels, alt=title, columns=_beside(hops))


def _grid(title: str, state: np.ndarray, shown: np.ndarray, remarks=None) -> Panel:
    """Return one row a device, one column a slot, and a remark under some of them.

    Args:
        title: of the panel.
        state: [devices, slots, chunk].
        shown: [devices, slots], where there is anything to be read.
        remarks: (device, slot) -> what to write; None leaves no room for them.
    """
    cells = []
    for device, slot in np.ndindex(shown.shape):
        label = _numbers(state[device, slot]) if shown[device, slot] else ""
        remark = (remarks or {}).get((device, slot), "")
        label = label if remarks is None else f"{label}\n{remark}"
        cells.append(Cell(device, slot, label, kind="moves" if remark else ""))
    devices, slots = shown.shape
    across = Axis("chunk", names=tuple(f"c{slot}" for slot in range(slots)))
    down = Axis("device", names=_numbered(devices))
    return Panel(title, "counted", _still_first(cells), x=across, y=down)


def _timetable(hops: Hops) -> Panel:
    cells = [
        _stop(tick, device, [hop for hop in leaving if hop.source == device])
        for tick, leaving in enumerate(hops.by_tick)
        for device in range(hops.devices)
    ]
    return Panel(
        "what each device sends",
        "counted",
        _still_first(cells),
        x=Axis("device", names=_numbered(hops.devices)),
        y=Axis("tick", names=_numbered(hops.ticks, first=1)),
        note="c3 → 1: chunk 3 goes to device 1; c3 → 1 +: there it is added.",
    )


def _stop(tick: int, device: int, leaving: list[Hop]) -> Cell:
    letters: dict[tuple[int, bool], list[int]] = {}
    for hop in leaving:
        letters.setdefault((hop.target, hop.reduces), []).append(hop.chunk)
    lines = [
        f"c{_listed(chunks)} → {target}{' +' * reduces}"
        for (target, reduces), chunks in letters.items()
    ]
    adds = any(hop.reduces for hop in leaving)
    return Cell(tick, device, "\n".join(lines), kind="moves" if adds else "")


def _still_first(cells: list[Cell]) -> tuple[Cell, ...]:
    """Return the cells in an order in which those of no kind have the first colour."""
    return tuple(sorted(cells, key=lambda cell: cell.kind))


def _beside(hops: Hops) -> int:
    return 2 if hops.slots <= _FEW else 1


def _found(hops: Hops, sent: str) -> str:
    most = "" if len(set(hops.sent)) == 1 else "up to "
    return f"{_name(hops)}: {_count(hops.ticks, 'tick')}, a device sends {most}{sent}"


def _name(hops: Hops) -> str:
    return f"{hops.name} on {_count(hops.devices, 'device')}"


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _numbered(size: int, first: int = 0) -> tuple[str, ...]:
    return tuple(map(str, range(first, first + size)))


def _numbers(chunk: np.ndarray) -> str:
    written = [write(number) for number in chunk.tolist()]
    if len(written) > _FEW:
        written[_FEW // 2 : -1] = ["…"]
    return " ".join(written)


def _listed(numbers: list[int]) -> str:
    """Return numbers in short: 0, 1 or 4–7."""
    first, last = numbers[0], numbers[-1]
    if len(numbers) > 2 and numbers == list(range(first, last + 1)):
        return f"{first}–{last}"
    return ", ".join(map(str, numbers))
