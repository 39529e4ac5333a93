"""One stage cut in three: forward, input gradient and weight gradient.

`jax.vjp` gives both gradients in one piece; asked for one at a time, it would go
back through the layers twice. So forward and backward are traced together once, and
each equation of the trace goes to the first part that needs its result.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun

from pdlkit.strategies.pipeline.equations import (
    following_from,
    leading_to,
    made_by,
    taken_by,
    touched_by,
    without,
)


class Split(NamedTuple):
    """A stage in three parts, which together do each operation of it once."""

    forward: Callable  # params, x -> y, saved
    backward: Callable  # params, saved, gradient of y -> gradient of x, kept
    weight: Callable  # params, saved, kept -> gradient of params
    saved: list  # types of the arrays that both gradients read of the forward
    kept: list  # types of those that the weight gradient reads of the backward


def split(stage: Callable, params, x) -> Split:
    """Return a stage in three parts.

    What follows from the params alone is done again where it is read, never saved.
    A piece that JAX keeps whole, as under `jax.checkpoint`, goes to `backward` with
    all that it does.

    Args:
        stage: params, x -> y, of the same structure and types as x.
        params: of one stage; only their types matter here.
        x: likewise. Leaves that are no floats get zeros for a gradient.
    """
    trace, size = _traced(stage, params, x), len(jax.tree.leaves(x))
    graph = trace.jaxpr
    weights, x_in, gradient = _cut(graph.invars, -2 * size, -size)
    y, of_x, of_params = _cut(graph.outvars, size, 2 * size)

    fixed = following_from(graph.eqns, [*weights, *graph.constvars])
    free = {*weights, *graph.constvars} | made_by(fixed)
    moving = without(graph.eqns, fixed)
    after = touched_by(moving, gradient)
    chain = leading_to(after, of_x)
    rest = leading_to(without(after, chain), of_params)
    saved = taken_by([*chain, *rest], [*of_x, *of_params], but_for=free.union(gradient))
    kept = taken_by(rest, of_params, but_for=free.union(saved))

    def part(equations, inputs, outputs) -> Callable:
        needed = leading_to([*fixed, *equations], outputs)
        piece = graph.replace(invars=[*weights, *inputs], outvars=outputs, eqns=needed)
        run = jaxpr_as_fun(trace.replace(jaxpr=piece))
        return lambda *arguments: run(*jax.tree.leaves(arguments))

    run_forward = part(without(moving, after), x_in, [*y, *saved])
    run_backward = part(chain, [*saved, *gradient], [*of_x, *kept])
    run_weight = part(rest, [*saved, *kept], of_params)

    def forward(params, x):
        out = run_forward(params, x)
        return jax.tree.unflatten(jax.tree.structure(x), out[:size]), out[size:]

    def backward(params, saved, gradient):
        out = run_backward(params, saved, gradient)
        return jax.tree.unflatten(jax.tree.structure(gradient), out[:size]), out[size:]

    def weight(params, saved, kept):
        return jax.tree.unflatten(jax.tree.structure(params), run_weight(params, saved, kept))

    return Split(forward, backward, weight, [v.aval for v in saved], [v.aval for v in kept])


def _traced(stage: Callable, params, x):
    """Return the equations of params, x, gradient of y -> y, its gradients."""

    def there_and_back(params, x, gradient):
        y, pull = jax.vjp(stage, params, x)
        of_params, of_x = pull(as_cotangent(gradient))
        return y, as_message(of_x, x), of_params

    with jax.disable_jit():  # opens inner jits, so that every equation stands alone
        return jax.make_jaxpr(there_and_back)(params, x, x)


def _cut(variables: list, first: int, second: int) -> tuple[list, list, list]:
    return variables[:first], variables[first:second], variables[second:]


def as_cotangent(tree):
    """Put what JAX wants as the gradient of a whole number in place of our zeros."""
    return jax.tree.map(lambda g: g if _is_float(g) else np.zeros(g.shape, jax.dtypes.float0), tree)


def as_message(tree, like):
    """And the other way round, for what is sent looks like what was sent forward."""
    return jax.tree.map(lambda g, x: g if _is_float(x) else jnp.zeros_like(x), tree, like)


def _is_float(array) -> bool:
    return jnp.issubdtype(array.dtype, jnp.inexact)
