"""What a compiled program reads and writes, and how many operations it starts."""

from collections.abc import Iterator
from typing import NamedTuple

from pdlkit.measure.hlo import is_message
from pdlkit.measure.hlo_text import Computation, Instruction, Module, read, root, shape_bytes
from pdlkit.measure.places import Place, walk

# Names for what is there already: nothing runs.
_NAMES = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "iota", "after-all"),
    *("partition-id", "replica-id", "domain", "opt-barrier"),
}
_CALLS = {"while", "conditional", "call"}


class Traffic(NamedTuple):
    """Counted: of one device in one run."""

    operations: int  # fusions and what stands for itself, messages apart
    bytes_accessed: int  # that they read and write


def traffic(text: str) -> Traffic:
    """Return what one device reads and writes in one run of a compiled program.

    An operation reads its operands and writes its result; what is fused into it stays
    where it is. Of an array of which a slice is taken, or one that a slice is written
    into, only the slice counts. Loops are multiplied out, those of unknown length count
    once, and of a conditional the branch that accesses most.

    Args:
        text: what `compiled.as_text()` gives.
    """
    found = walk(Place(read(text), {}), _visit, _bytes, tell=False)
    return Traffic(sum(each.operations for each in found), _bytes(found))


def _visit(one: Instruction, place: Place) -> list[Traffic] | None:
    if one.opcode in _CALLS:
        return None
    if one.opcode in _NAMES or is_message(one):
        return []
    touched = _read(place.module, place.computation, one)
    touched += _written(place.module, place.computation, one)
    return [Traffic(place.times, place.times * touched)]


def _bytes(found: list[Traffic]) -> int:
    return sum(each.bytes_accessed for each in found)


def _read(module: Module, here: Computation, one: Instruction) -> int:
    whole = [shape_bytes(here[name].shape) for name in one.operands if name in here]
    if one.opcode in ("dynamic-slice", "slice", "gather"):
        return min(whole[0], shape_bytes(one.shape))
    if one.opcode == "dynamic-update-slice":
        return whole[1]
    inside = _fused(module, one)
    return sum(whole) if inside is None else sum(map(min, whole, _taken(inside)))


def _taken(inside: Computation) -> Iterator[int]:
    """Yield of each parameter of a fusion the bytes that it reads, in order."""
    given = [one for one in inside.values() if one.opcode == "parameter"]
    for one in sorted(given, key=lambda one: int(one.arguments)):
        users = [user for user in inside.values() if one.name in user.operands]
        yield sum(_part(user, one.name, inside) for user in users)


def _part(user: Instruction, name: str, inside: Computation) -> int:
    """Return the bytes of an array that one of its users reads."""
    first = user.operands[0] == name
    if user.opcode == "dynamic-slice" and first:
        return shape_bytes(user.shape)
    if user.opcode == "dynamic-update-slice" and first:
        return 0  # what is not overwritten stays
    return shape_bytes(inside[name].shape)


def _written(module: Module, here: Computation, one: Instruction) -> int:
    inside = _fused(module, one)
    last, around = (one, here) if inside is None else (root(inside), inside)
    if last.opcode == "dynamic-update-slice":
        return shape_bytes(around[last.operands[1]].shape)
    return shape_bytes(one.shape)


def _fused(module: Module, one: Instruction) -> Computation | None:
    return module.computations[one.calls("calls")[0]] if one.opcode == "fusion" else None
