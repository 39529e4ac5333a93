"""How often a step fetches each weight, where it is forgotten after use."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import ClosedJaxpr, Jaxpr

from pdlkit.models.layers import Layers
from pdlkit.models.parts import param_shapes
from pdlkit.records import Model
from pdlkit.strategies.calls import example_of


class Fetched(NamedTuple):
    """How often a step fetches one array of the params, and the bytes of a number."""

    times: int
    itemsize: int


def fetches(model: Model, layers: dict, around: Callable) -> list[Fetched]:
    """Return how often each array of the params is fetched in one step.

    Once going forward; once more going back if its value is needed there, which
    that of a bias is not. Traced on one device, with a mark in the place of a fetch.

    Args:
        model: with an example of a batch.
        layers: the layer operations that the strategy replaces.
        around: loss -> loss, with `mark` for each fetch.
    """
    shapes = param_shapes(model)

    def loss(params, batch, micro=None):
        del micro
        return model.loss(params, batch, Layers(**layers)), ()

    traced = jax.make_jaxpr(jax.grad(around(loss), has_aux=True))(shapes, example_of(model))
    marks = list(_marks(traced))

    def found(place: int) -> Fetched:
        sizes = [size for name, size in marks if name == str(place)]
        return Fetched(len(sizes), sizes[0] if sizes else 0)

    return [found(i) for i in range(len(jax.tree.leaves(shapes)))]


def mark(array, place: int):
    """Return the array, marked as fetched: the one at this place among the params."""
    return checkpoint_name(array, str(place))


def _marks(jaxpr) -> Iterator[tuple[str, int]]:
    """Yield each fetch of one turn of every loop: its mark, the bytes of a number."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "name":
            yield equation.params["name"], equation.outvars[0].aval.dtype.itemsize
        for value in jax.tree.leaves(
            equation.params, is_leaf=lambda node: isinstance(node, (ClosedJaxpr, Jaxpr))
        ):
            if isinstance(value, (ClosedJaxpr, Jaxpr)):
                yield from _marks(value)
