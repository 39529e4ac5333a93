"""The law, asked of any program: one device's weights, and nothing more sent."""

import dataclasses
from collections.abc import Mapping, Set

import numpy as np

from pdlkit.errors import lesson, names
from pdlkit.measure import inspect, parity
from pdlkit.records import Program
from pdlkit.units import write_bytes


@dataclasses.dataclass(frozen=True, repr=False)
class Passed:
    """A check that held. Prints as one line that never varies."""

    claim: str
    error: float = 0.0  # the largest relative difference found

    def __repr__(self) -> str:
        return f"passed: {self.claim}"


def same_update(program: Program, work, *, steps: int = 3) -> Passed:
    """Check that a program makes the updates that one device would.

    Twice: the gradients, by plain SGD from the same weights on `steps` batches,
    for Adam divides out a gradient that is n times too large; then `steps`
    updates in a row with the workload's own optimizer.

    Raises:
        AssertionError: an array moved otherwise; says which, and by how much.
        ValueError: fewer than one step.
    """
    one, worst = parity.reference(work, program.mesh, steps=steps), 0.0
    for gap in parity.gradient_gaps(program, one):
        if not gap.error <= one.gradient_tolerance:  # NaN is an error too
            raise AssertionError(_difference(gap))
        worst = max(worst, gap.error)
    off = parity.update_gap(program, one)
    if not off <= one.update_tolerance:
        raise AssertionError(
            lesson(
                f"with its own optimizer the weights end {off:.1%} of the way off.",
                why="the gradients of a first step agree, so it is another optimizer, copies that "
                "have not met, or an optimizer that does not see whole arrays.",
                fix="build with work.optimizer, take the strategy at its exact setting, or run "
                "the optimizer outside of shard_map, since clipping looks across arrays.",
            )
        )
    return Passed(f"same updates as one device, over {steps} batches", worst)


def moves_only(program: Program, work, allowed: Set | Mapping[str, int]) -> Passed:
    """Check that one step sends only these kinds of collective.

    Args:
        program: what a strategy built.
        work: the workload.
        allowed: kinds such as {"all_reduce"}, or with the most payload bytes
            that one step may send of each: {"all_reduce": 218_664}.

    Raises:
        AssertionError: something else was sent, or more of it; says which line asked.
    """
    sent: dict[str, int] = {}
    asked_by = {}
    for each in inspect(program, work).collectives:
        sent[each.kind] = sent.get(each.kind, 0) + each.payload_bytes * each.times
        asked_by.setdefault(each.kind, each.source)
    for kind, count in sent.items():
        most = allowed.get(kind, 0) if isinstance(allowed, Mapping) else count
        if kind not in allowed or count > most:
            limit = f"at most {most:,}" if kind in allowed else "none of it"
            raise AssertionError(
                lesson(
                    f"one step sends {count:,} bytes by {kind}, but {limit} is allowed.",
                    why=f"counted in the compiled program; {asked_by[kind] or 'the compiler'} "
                    "asked for it.",
                    fix="pdl.inspect(program, work) shows every collective and its line.",
                )
            )
    only = f"{names(sorted(sent))}, and nothing else" if sent else "nothing"
    return Passed(f"one step sends {only}")


def fits_in(program: Program, work, *, bytes: int) -> Passed:
    """Check that one step fits into so many bytes on each device.

    Raises:
        AssertionError: it takes more; says how much of it is what.
    """
    memory = inspect(program, work).memory
    if memory.total > bytes:
        raise AssertionError(
            lesson(
                f"one step takes {memory.total:,} bytes on each device, but only {bytes:,} "
                "are there.",
                why=f"counted: arguments {write_bytes(memory.arguments)}, outputs (not in place) "
                f"{write_bytes(memory.outputs - memory.aliased)}, temporaries "
                f"{write_bytes(memory.temporaries)}.",
                fix="a smaller batch, or a strategy that keeps less on each device.",
            )
        )
    return Passed(f"one step fits into {write_bytes(bytes)} a device")


def _difference(gap: parity.Gap) -> str:
    path, error, here, there = gap
    size = np.vdot(there, there)
    times = np.vdot(here, there) / size if size else 0.0
    along = np.linalg.norm(here - times * there) <= 1e-2 * np.linalg.norm(here)
    ways = max(times, 1 / times) if times > 0 else 0.0
    if along and ways > 1.5 and abs(ways - round(ways)) < 1e-2 * ways:
        what = f"the gradient of params{path} is {times:.3g} times that of one device."
        why = "it was summed where it should be averaged, or the other way round."
    else:
        what = f"the gradient of params{path} differs from one device's by {error:.1%}."
        why = "a sum over devices is missing, or the loss is no plain mean over examples."
    fix = "sum gradients once, by the strategy's cuts; send weighted means through layers.mean."
    return lesson(what, why=why, fix=fix)
