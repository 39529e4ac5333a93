"""Every instruction of a compiled program, in loops and branches too."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from pdlkit.measure.hlo_text import Computation, Instruction, Module
from pdlkit.measure.loops import name_of, said_times, trip_count, warn_unknown
from pdlkit.measure.sources import asker


class Place(NamedTuple):
    """A computation, and what is known of how it came to be called."""

    module: Module
    mesh: Mapping[str, int]
    name: str = ""  # of the computation; "" is where the program begins
    times: int = 1
    source: str = ""
    in_branch: bool = False

    @property
    def computation(self) -> Computation:
        """Its instructions."""
        return self.module.computations[self.name or self.module.entry]


def walk(
    place: Place,
    visit: Callable[[Instruction, Place], list | None],
    weight: Callable,
    *,
    tell: bool,
) -> list:
    """Return all that a visitor finds, loops multiplied out by `place.times`.

    Args:
        place: where to begin.
        visit: instruction, place -> what it finds, or None to look into what is called.
        weight: what was found in a branch -> a number; the heaviest branch is taken.
        tell: whether to warn of a loop of unknown length, which counts as one turn.
    """

    def inside(**new) -> list:
        return walk(here._replace(**new), visit, weight, tell=tell)

    found = []
    for one in place.computation.values():
        if one.opcode.endswith(("-done", "-update")):  # their `-start` is visited
            continue
        here = place._replace(source=asker(place.module.callers(one)) or place.source)
        seen = visit(one, here)
        if seen is not None:
            found += seen
        elif one.opcode == "while":
            turns = _turns(one, here)
            times = here.times if turns is None else turns
            (body,) = one.calls("body")
            looped = inside(name=body, times=times) if times else []
            if tell and looped and turns is None:
                warn_unknown(here.source)
            found += looped
        elif one.opcode == "conditional":
            found += max((inside(name=each, in_branch=True) for each in _branches(one)), key=weight)
        else:
            for name in _called(one):
                found += inside(name=name)
    return found


def _turns(loop: Instruction, place: Place) -> int | None:
    """Return how often a loop's body runs in all, or None where its data says."""
    # What its name says goes first: of a loop of one turn or none, XLA writes one.
    said = said_times(name_of(loop), place.times)
    if said is not None:
        return said
    turns = trip_count(loop, place.computation, place.module)
    return None if turns is None else place.times * turns


def _branches(conditional: Instruction) -> list[str]:
    either = conditional.calls("true_computation") + conditional.calls("false_computation")
    return conditional.calls("branch_computations") or either


def _called(one: Instruction) -> Iterator[str]:
    for attribute in ("calls", "to_apply", "called_computations"):
        yield from one.calls(attribute)
