"""What a compiled program sends: the collectives of its optimised HLO."""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pdlkit.measure import groups
from pdlkit.measure.hlo_text import Computation, Instruction, Module, read, shape_bytes
from pdlkit.measure.loops import name_of, said_times, trip_count, warn_unknown
from pdlkit.measure.sources import asker
from pdlkit.records import Collective

_KINDS = {
    "all-reduce": "all_reduce",
    "all-gather": "all_gather",
    "reduce-scatter": "reduce_scatter",
    "all-to-all": "all_to_all",
    "ragged-all-to-all": "all_to_all",
    "collective-permute": "permute",
    "collective-broadcast": "copy",
}
_TPU_REDUCE_SCATTER = "all-reduce-scatter"  # a fusion: an all-reduce, and a slice of it


def collectives(text: str, mesh: Mapping[str, int]) -> tuple[Collective, ...]:
    """Return what one device sends in one run of a compiled program.

    One entry an instruction: where the compiler merged several sums into one
    all-reduce, its payload is that of all its operands together. Loops are
    multiplied out; of a conditional the branch that sends most is counted. A group
    of one device sends nothing and is left out. Sizes are those of the compiled
    program, which may pad arrays, or sum bfloat16 as float32.

    Args:
        text: what `compiled.as_text()` gives.
        mesh: axis -> size; device i of the program is the i-th in mesh order.

    Raises:
        ValueError: the compiler wrote the groups in a way that is not known.
    """
    found = _sent(_Place(read(text), mesh))
    return tuple(each for each in found if each.group > 1)


class _Place(NamedTuple):
    """A computation, and what is known of how it came to be called."""

    module: Module
    mesh: Mapping[str, int]
    name: str = ""  # of the computation; "" is where the program begins
    times: int = 1
    source: str = ""
    in_branch: bool = False

    @property
    def computation(self) -> Computation:
        return self.module.computations[self.name or self.module.entry]


def _sent(place: _Place) -> list[Collective]:
    return [each for one in place.computation.values() for each in _sent_by(one, place)]


def _sent_by(one: Instruction, place: _Place) -> list[Collective]:
    """Return what one instruction sends, itself or by what it calls."""
    if one.opcode.endswith(("-done", "-update")):  # their `-start` is counted
        return []
    here = place._replace(source=asker(place.module.callers(one)) or place.source)
    if one.opcode.removesuffix("-start") in _KINDS:
        return [_collective(one, here)]
    if one.opcode == "while":
        return _looped(one, here)
    if one.opcode == "conditional":
        each = (here._replace(name=name, in_branch=True) for name in _branches(one))
        return max(map(_sent, each), key=_bytes)
    return [each for name in _called(one) for each in _sent(here._replace(name=name))]


def _looped(loop: Instruction, place: _Place) -> list[Collective]:
    # What its name says goes first: of a loop of one turn or none, XLA writes one.
    known = said_times(name_of(loop), place.times)
    if known is None and (turns := trip_count(loop, place.computation, place.module)) is not None:
        known = place.times * turns
    times = place.times if known is None else known
    (body,) = loop.calls("body")
    sent = _sent(place._replace(name=body, times=times)) if times else []
    if sent and known is None:
        warn_unknown(place.source)
    return sent


def _bytes(sent: list[Collective]) -> int:
    return sum(each.wire_bytes * each.times for each in sent)


def _branches(conditional: Instruction) -> list[str]:
    either = conditional.calls("true_computation") + conditional.calls("false_computation")
    return conditional.calls("branch_computations") or either


def _called(one: Instruction) -> Iterator[str]:
    for attribute in ("calls", "to_apply", "called_computations"):
        yield from one.calls(attribute)


def _collective(one: Instruction, place: _Place) -> Collective:
    kind = _KINDS[one.opcode.removesuffix("-start")]
    if place.name.startswith(_TPU_REDUCE_SCATTER):
        kind = "reduce_scatter"
    axes, group = _members(one, kind, place.mesh)
    payload = _payload(one, place.computation)
    rest = place.times, place.source, place.in_branch
    return Collective.by_ring(kind, axes, group, payload, *rest)


def _members(one: Instruction, kind: str, mesh: Mapping[str, int]) -> tuple[tuple[str, ...], int]:
    """Return the mesh axes a collective runs along, and how many devices take part."""
    if kind == "permute":
        axes = groups.axes_along(groups.source_target_pairs(one.attributes), mesh)
        return axes, math.prod(mesh[axis] for axis in axes)
    members = groups.replica_groups(one.attributes, math.prod(mesh.values()))
    return groups.axes_along(members, mesh), max(len(each) for each in members)


def _payload(one: Instruction, computation: Computation) -> int:
    """Return the bytes that go in on one device."""
    # After the first, operands of a ragged all-to-all say where rows begin and end.
    operands = one.operands[:1] if one.opcode.startswith("ragged") else one.operands
    return sum(shape_bytes(computation[name].shape) for name in operands)
