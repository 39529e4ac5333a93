"""What a compiled program sends: the collectives of its optimised HLO."""

import math
from collections.abc import Mapping

from pdlkit.measure import groups
from pdlkit.measure.hlo_text import Computation, Instruction, read, shape_bytes
from pdlkit.measure.places import Place, walk
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
    found = walk(Place(read(text), mesh), _visit, _bytes, tell=True)
    return tuple(each for each in found if each.group > 1)


def _visit(one: Instruction, place: Place) -> list[Collective] | None:
    return [_collective(one, place)] if is_message(one) else None


def is_message(one: Instruction) -> bool:
    """Return whether an instruction sends something by itself."""
    return one.opcode.removesuffix("-start") in _KINDS


def _bytes(sent: list[Collective]) -> int:
    return sum(each.wire_bytes * each.times for each in sent)


def _collective(one: Instruction, place: Place) -> Collective:
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
