"""A function of arrays that lie in several places, each part run by the owner.

One `jit` cannot take arrays from here and from there. So the function is traced once,
and each equation of the trace runs where the largest array lies that it reads: weights
stay, and what is said of them, their norms, travels.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Literal, jaxpr_as_fun
from jax.sharding import NamedSharding, Sharding
from jax.sharding import PartitionSpec as P

from pdlkit.strategies.pieces import Runner
from pdlkit.strategies.pipeline.equations import (
    following_from,
    leading_to,
    made_by,
    taken_by,
    without,
)


class _Part(NamedTuple):
    """Equations that one place runs in one go."""

    function: Callable  # jitted: what it takes -> what it gives
    place: Sharding
    taken: list  # variables
    given: list  # variables


def owner_computes(
    function: Callable, shapes: tuple, *, places: tuple, results, everywhere: Sharding
) -> Callable:
    """Return runner, *arguments -> what the function gives, each array in its place.

    Args:
        function: to be run.
        shapes: of its arguments.
        places: trees like them, where each array lies.
        results: a tree like what it gives, where each array is to lie.
        everywhere: the place of what no owner has more of than another.
    """
    with jax.disable_jit():  # opens inner jits, which may read arrays of several places at once
        trace, out = jax.make_jaxpr(function, return_shape=True)(*shapes)
    graph = trace.jaxpr
    homes = dict(zip(graph.invars, map(_home, jax.tree.leaves(places)), strict=True))
    wanted = list(zip(graph.outvars, jax.tree.leaves(results), strict=True))
    places_of = {v: place for v, place in wanted if not isinstance(v, Literal)}
    parts = _parts(trace, homes, places_of, everywhere)

    def run(runner: Runner, *arguments):
        values = dict(zip(graph.invars, jax.tree.leaves(arguments), strict=True))

        def bring(variable, place):
            if isinstance(variable, Literal):
                return runner.send(jnp.asarray(variable.val), None, place)
            if homes[variable] == _home(place):
                return values[variable]
            return runner.send(values[variable], homes[variable], place)

        for part in parts:
            taken = [bring(variable, part.place) for variable in part.taken]
            values.update(
                zip(part.given, runner.run(part.function, part.place, *taken), strict=True)
            )
        return jax.tree.unflatten(jax.tree.structure(out), [bring(*each) for each in wanted])

    return run


def _home(place: Sharding) -> Sharding:
    """Return the place of all arrays that one `jit` can take together with this one."""
    return NamedSharding(place.mesh, P()) if isinstance(place, NamedSharding) else place


def _parts(trace, homes: dict, results: dict, everywhere: Sharding) -> list[_Part]:
    """Return what each place runs, in an order in which it can be run.

    Args:
        trace: the equations.
        homes: where each of its arguments lies; what it makes is added.
        results: variable -> where it is to lie.
        everywhere: where equations run whose largest arrays lie apart.
    """
    graph = trace.jaxpr
    # What follows from no argument is made anew wherever it is read, and never sent.
    constants = following_from(graph.eqns, graph.constvars)
    moving = without(graph.eqns, constants)
    turns = _in_turns(moving, homes, everywhere)
    fresh = {v: (0, _home(place)) for v, place in results.items() if v not in homes}
    for variable, (turn, place) in fresh.items():
        homes[variable] = place
        turns.setdefault((turn, place), [])
    parts = []
    for when, equations in sorted(turns.items(), key=lambda each: each[0][0]):
        own = made_by(equations).union(v for v in fresh if fresh[v] == when)
        read = set(taken_by(without(moving, equations), results, but_for=set()))
        given = [variable for variable in homes if variable in own & read]
        parts.append(_part(trace, [*constants, *equations], given, when[1], results))
    return parts


def _part(trace, equations: Sequence, given: list, place: Sharding, results: dict) -> _Part:
    graph = trace.jaxpr
    needed = leading_to(equations, given)
    taken = taken_by(needed, [], but_for=set(graph.constvars))
    piece = graph.replace(invars=taken, outvars=given, eqns=needed)
    here = {variable: goal for variable, goal in results.items() if _home(goal) == place}
    run = jax.jit(jaxpr_as_fun(trace.replace(jaxpr=piece)), out_shardings=[*map(here.get, given)])
    return _Part(run, place, taken, given)


def _in_turns(equations, homes: dict, everywhere: Sharding) -> dict[tuple[int, Sharding], list]:
    """Return the equations by turn and place; a turn needs only the turns before it."""
    turns, made_in = {}, {}
    for each in equations:
        read = [v for v in taken_by([each], [], but_for=set()) if v in homes]
        place = _owner(read, homes, everywhere)
        turn = max((made_in[v] + (homes[v] != place) for v in read if v in made_in), default=0)
        turns.setdefault((turn, place), []).append(each)
        homes.update(dict.fromkeys(each.outvars, place))
        made_in.update(dict.fromkeys(each.outvars, turn))
    return turns


def _owner(variables: Sequence, homes: dict, everywhere: Sharding) -> Sharding:
    """Return where the largest of these lie, if they lie in one place."""
    most = max(variable.aval.size for variable in variables)
    owners = {homes[variable] for variable in variables if variable.aval.size == most}
    return owners.pop() if len(owners) == 1 else everywhere
