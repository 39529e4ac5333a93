"""Strategies side by side: are they right, what do they send, hold and take."""

import statistics
from collections.abc import Mapping
from typing import NamedTuple

from jax.sharding import Mesh

from pdlkit.cores import allowed_cores, within_quota
from pdlkit.errors import lesson
from pdlkit.measure import inspect
from pdlkit.measure.parity import Reference, gradient_gap, reference, update_gap
from pdlkit.records import Program, Report
from pdlkit.strategies import Strategy
from pdlkit.timings import Compared, Comparison
from pdlkit.training.stopwatch import check_steps, stepper


def compare(work, ways: Mapping[str, tuple[Strategy, Mesh]], *, steps: int = 30) -> Comparison:
    """Set strategies beside each other on one workload, a row for each.

    Whether a strategy is right stands in its row, with how far its gradients and
    updates are from one device's; a wrong one does not raise. The programs take turns step by step,
    so what slows the machine slows all. Simulated devices share this machine's
    cores: what more of them gain is what `pdl.speedup` measures.

    Args:
        work: the workload.
        ways: name -> strategy and mesh.
        steps: timed, of each.

    Raises:
        ValueError: nothing to compare, or model, strategy and mesh do not fit.
        TypeError: an entry is no pair of a strategy and a mesh.
    """
    check_steps(steps)
    _check(ways)
    programs = {
        name: strategy.build(work.model, work.optimizer, mesh)
        for name, (strategy, mesh) in ways.items()
    }
    one = reference(work, next(iter(programs.values())).mesh)
    gaps = {name: _gaps(program, one) for name, program in programs.items()}
    seconds = _in_turns(programs, work, steps)
    rows = tuple(
        _row(name, program, inspect(program, work), gaps[name], seconds[name])
        for name, program in programs.items()
    )
    return Comparison(work.name, rows, _how(programs, steps))


class _Gaps(NamedTuple):
    gradient: float
    update: float
    agree: bool


def _gaps(program: Program, one: Reference) -> _Gaps:
    gradient, update = gradient_gap(program, one), update_gap(program, one)
    near = gradient <= one.gradient_tolerance and update <= one.update_tolerance  # NaN is not
    return _Gaps(gradient, update, near)


def _row(name: str, program: Program, report: Report, gaps: _Gaps, seconds: float) -> Compared:
    return Compared(
        name=name,
        devices=program.mesh.size,
        mesh=dict(program.mesh.shape),
        gradient_error=gaps.gradient,
        update_error=gaps.update,
        agrees=gaps.agree,
        wire_bytes=report.wire_bytes,
        memory=report.memory.total,
        seconds=seconds,
    )


def _in_turns(programs: Mapping[str, Program], work, steps: int) -> dict[str, float]:
    """Return the median seconds a step of each program."""
    ticks = {name: stepper(program, work) for name, program in programs.items()}
    seconds = {name: [] for name in ticks}
    for _ in range(steps):
        for name, tick in ticks.items():
            seconds[name].append(tick().seconds)
    return {name: statistics.median(each) for name, each in seconds.items()}


def _how(programs: Mapping[str, Program], steps: int) -> str:
    how = f"The median of {steps} steps of each, in turns, each waited for."
    platforms = {program.mesh.devices.flat[0].platform for program in programs.values()}
    if "cpu" not in platforms:
        return how
    cores = within_quota(allowed_cores())
    share = (
        f"Simulated devices share this machine's {cores} cores"
        if cores > 1
        else ("Simulated devices share this machine's one core")
    )
    return f"{how} {share}: more of them are not faster here; pdl.speedup measures that."


def _check(ways: Mapping[str, tuple[Strategy, Mesh]]) -> None:
    if not ways:
        raise ValueError(
            lesson(
                "there is nothing to compare.",
                why="each entry becomes a row.",
                fix='pdl.compare(work, {"data": (pdl.DataParallel(), pdl.mesh(data=8))}).',
            )
        )
    for name, way in ways.items():
        if not (isinstance(way, tuple) and len(way) == 2 and isinstance(way[1], Mesh)):
            raise TypeError(
                lesson(
                    f"{name!r} is a {type(way).__name__}, no strategy with its mesh.",
                    why="a strategy says how, a mesh on which devices.",
                    fix=f"{{{name!r}: (pdl.DataParallel(), pdl.mesh(data=8))}}.",
                )
            )
