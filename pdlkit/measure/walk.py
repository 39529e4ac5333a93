"""A walk over every equation that a traced program runs, and how often."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from jax.extend.core import ClosedJaxpr, Jaxpr

from pdlkit.measure.loops import said_times, warn_unknown
from pdlkit.measure.sources import asker_in_trace


class Scope(NamedTuple):
    """What is known where an equation stands."""

    devices: int  # among which the work on one array is shared
    mesh: Mapping[str, int] = {}  # axes of the `shard_map`s round it: axis -> size
    times: int = 1  # how often it runs
    in_branch: bool = False  # of a `cond`


def walk(jaxpr, scope: Scope, count: Callable, weight: Callable) -> list:
    """Return what `count` finds in every equation, and in all that they call.

    Of the branches of a `cond` only the heaviest is kept, for one of them runs. A
    loop whose length depends on data counts as one turn, and a warning says so, unless
    the scope it stands in is named after it: "8 of 22 turns".

    Args:
        jaxpr: a `Jaxpr` or `ClosedJaxpr`.
        scope: where it stands.
        count: equation, scope -> list of what is counted.
        weight: one of what is counted -> how much it is.
    """
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "cond":
            branches = equation.params["branches"]
            inside = scope._replace(in_branch=True)
            counted = [walk(branch, inside, count, weight) for branch in branches]
            found += max(counted, key=lambda branch: sum(map(weight, branch)))
            continue
        found += count(equation, scope)
        inner = _inner_scope(equation, scope)
        bodies = _called(equation.params.values())
        called = [each for body in bodies for each in walk(body, inner, count, weight)]
        if called and equation.primitive.name == "while" and _said(equation, scope) is None:
            warn_unknown(asker_in_trace(equation))
        found += called
    return found


def _inner_scope(equation, scope: Scope) -> Scope:
    """Return the scope of what an equation calls."""
    name, params = equation.primitive.name, equation.params
    if name == "scan":
        return scope._replace(times=scope.times * params["length"])
    if name == "pallas_call":  # a size that is known only when it runs counts as one
        grid = [size for size in params["grid_mapping"].grid if isinstance(size, int)]
        return scope._replace(times=scope.times * math.prod(grid))
    if name == "while" and (times := _said(equation, scope)) is not None:
        return scope._replace(times=times)
    if name == "shard_map":
        sizes = dict(params["mesh"].shape)
        # `newly_manual_axes` since JAX 0.8
        manual = params.get("newly_manual_axes", params.get("manual_axes", ()))
        return _shared_out(scope, sizes, math.prod(sizes[axis] for axis in manual))
    if name == "xla_pmap":  # before JAX 0.8; later it is a `shard_map`
        size = params["global_axis_size"]
        return _shared_out(scope, {params["axis_name"]: size}, size)
    return scope


def _said(equation, scope: Scope) -> int | None:
    """Return how often a loop's body runs, where the scope it stands in says so."""
    return said_times(str(equation.source_info.name_stack), scope.times)


def _shared_out(scope: Scope, sizes: Mapping[str, int], ways: int) -> Scope:
    """Return the scope inside a map, where shapes are those of one device's share."""
    mesh = {**scope.mesh, **sizes}
    return scope._replace(mesh=mesh, devices=max(1, scope.devices // ways))


def _called(values) -> Iterator[Any]:
    for value in values:
        if isinstance(value, (ClosedJaxpr, Jaxpr)):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _called(value)
