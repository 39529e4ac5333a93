"""What a traced program asks to be sent, before a compiler changes it."""

import math

from pdlkit.measure.sources import asker_in_trace
from pdlkit.measure.walk import Scope, walk
from pdlkit.records import Collective

# `pcast` and `pvary` are not here: they say something of an array, and send nothing.
_KINDS = {
    "psum": "all_reduce",
    "psum_invariant": "all_reduce",
    "unreduced_psum": "all_reduce",
    "pmax": "all_reduce",
    "pmin": "all_reduce",
    "all_gather": "all_gather",
    "all_gather_invariant": "all_gather",
    "all_gather_reduced": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "unreduced_reduce_scatter": "reduce_scatter",
    "all_to_all": "all_to_all",
    "ragged_all_to_all": "all_to_all",
    "ppermute": "permute",
    "pbroadcast": "copy",
}


def asked(jaxpr) -> tuple[Collective, ...]:
    """Return what one device is asked to send in one run of a traced program.

    One entry for each array of each collective that is written out in a `shard_map`
    or `pmap`. Loops are multiplied out; of a `cond` the branch that sends most is
    counted. A group of one device sends nothing and is left out. What the compiler
    adds itself, where arrays are cut but no collective is written, is not here.

    Args:
        jaxpr: what `jax.make_jaxpr` gives.
    """
    found = walk(jaxpr, Scope(devices=1), _sent_by, _bytes)
    return tuple(found)


def _sent_by(equation, scope: Scope) -> list[Collective]:
    kind = _KINDS.get(equation.primitive.name.removesuffix("_start"))
    if kind is None:
        return []
    axes, group = _group(equation.params, scope)
    if group == 1 or _stays(equation.params):
        return []
    source = asker_in_trace(equation)
    sizes = [_size(operand.aval) for operand in _operands(equation)]
    return [
        Collective.by_ring(kind, axes, group, size, scope.times, source, scope.in_branch)
        for size in sizes
    ]


def _group(params, scope: Scope) -> tuple[tuple[str, ...], int]:
    """Return the mesh axes a collective runs along, in mesh order, and its devices."""
    named = params.get("axes", params.get("axis_name"))
    named = named if isinstance(named, (tuple, list)) else (named,)
    axes = tuple(axis for axis in scope.mesh if axis in named)
    if parts := params.get("axis_index_groups"):
        return axes, max(len(part) for part in parts)
    return axes, math.prod(scope.mesh[axis] for axis in axes)


def _stays(params) -> bool:
    """Tell whether a permute leaves every array where it is."""
    return all(source == target for source, target in params.get("perm", ((0, 1),)))


def _operands(equation) -> list:
    # After the first, operands of a ragged all-to-all say where rows begin and end.
    ragged = equation.primitive.name.startswith("ragged")
    return equation.invars[:1] if ragged else equation.invars


def _size(array) -> int:
    return math.prod(array.shape) * array.dtype.itemsize


def _bytes(sent: Collective) -> int:
    return sent.wire_bytes * sent.times
