"""What one step moves and holds, as counted in the compiled program."""

from pdlkit.pictures import Axis, Bar, Panel, Picture, Table
from pdlkit.records import Collective, Memory, Report
from pdlkit.units import write_bytes, write_flops

_HEADER = (
    Axis("collective"),
    Axis("along"),
    Axis("devices"),
    Axis("times"),
    Axis("payload", "B"),
    Axis("sends", "B"),
    Axis("asked for at"),
)


_LEGEND = "payload: the operand on one device, each time; sends: all times"


def report(report: Report) -> Picture:
    """Return the collectives of one step, what they send, and the memory held."""
    sizes = ", ".join(f"{name}={size}" for name, size in report.mesh.items()) or "one device"
    sent = write_bytes(report.wire_bytes) if report.collectives else "nothing"
    sent = f"up to {sent}" if _varies(report.collectives) else sent
    moves = _moves(report.collectives, _rewritten(report)) if report.collectives else ()
    flops, most = write_flops(report.flops), write_bytes(report.memory.total)
    title = f"Each device, each step: {sent} sent, {flops}, {most} held"
    if _copied(report.collectives):
        title = f"Each step: {sent} sent by all devices; the busiest does {flops} and holds {most}"
    return Picture(
        title,
        (*moves, held(report.memory)),
        alt=f"what one step sends and holds on each device, {sizes}",
    )


def messages(collectives: tuple[Collective, ...]) -> Picture:
    """Return collectives as a table, and what each kind of them sends."""
    sent = write_bytes(sum(each.wire_bytes * each.times for each in collectives))
    who = "All devices send" if _copied(collectives) else "Each device sends"
    return Picture(f"{who} {sent}", _moves(collectives), alt="collectives of one step")


def memory(memory: Memory) -> Picture:
    """Return what one device holds, by its use."""
    return Picture(
        f"Each device holds {write_bytes(memory.total)}",
        (held(memory),),
        alt="memory of one device",
    )


def _moves(collectives: tuple[Collective, ...], note: str = "") -> tuple[Panel, Panel]:
    times: dict[Collective, int] = {}  # of those that are alike
    for each in collectives:
        one = each._replace(times=1)
        times[one] = times.get(one, 0) + each.times
    rows = tuple(
        (
            *(each.kind, " ".join(each.axes), each.group, count),
            *(each.payload_bytes, each.wire_bytes * count, _short(each.source)),
        )
        for each, count in times.items()
    )
    columns = len(_HEADER) if any(each.source for each in collectives) else len(_HEADER) - 1
    table = Table(_HEADER[:columns], tuple(row[:columns] for row in rows))
    how = "" if all(each.kind == "copy" for each in collectives) else ", by the ring algorithm"
    return (
        Panel("collectives of one step", "counted", (table,), note=f"{_LEGEND}{how}.{note}"),
        sent(collectives),
    )


def _copied(collectives: tuple[Collective, ...]) -> bool:
    """Return whether devices work one after another, and are counted together."""
    return any(each.kind == "copy" for each in collectives)


def _varies(collectives: tuple[Collective, ...]) -> bool:
    """Return whether some steps send less: what stands in a branch need not run."""
    return any(each.in_branch for each in collectives)


def sent(collectives: tuple[Collective, ...]) -> Panel:
    """Return what is sent in one step, by kind of collective and mesh axis."""
    sums: dict[str, int] = {}
    for each in collectives:
        name = f"{each.kind} along {' '.join(each.axes)}"
        sums[name] = sums.get(name, 0) + each.wire_bytes * each.times
    bars = tuple(Bar(name, count) for name, count in sums.items())
    who = "all devices send" if _copied(collectives) else "each device sends"
    most = " at most" if _varies(collectives) else ""
    return Panel(f"what {who} in one step{most}", "counted", bars, x=Axis("", "B"))


def _rewritten(report: Report) -> str:
    """Return what the compiler made of what was asked for, where it differs."""
    if sorted(each[:6] for each in report.asked) == sorted(each[:6] for each in report.collectives):
        return ""
    asked, compiled = (
        f"{sum(each.times for each in these)} that send "
        f"{write_bytes(sum(each.wire_bytes * each.times for each in these))}"
        for these in (report.asked, report.collectives)
    )
    return f" The program asked for {asked}; the compiler made them {compiled}."


def held(memory: Memory) -> Panel:
    """Return what one device holds in one step, by its use."""
    bars = (
        Bar("arguments", memory.arguments),
        Bar("outputs (not in place)", memory.outputs - memory.aliased),
        Bar("temporaries", memory.temporaries),
    )
    return Panel("what each device holds in one step", "counted", bars, x=Axis("", "B"))


def _short(source: str) -> str:
    """Return file:line without the folders, which differ from machine to machine."""
    return source.replace("\\", "/").rpartition("/")[2]
