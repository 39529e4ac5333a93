"""The order in which stacked layers lie: each device's rows are its own layers."""

from collections.abc import Callable

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from pdlkit.models.parts import is_axes, param_shapes
from pdlkit.records import Model, State


def row_order(strategy, model: Model, mesh: Mesh) -> tuple[int, ...] | None:
    """Return which layer each row of the stacked blocks holds; None: as they come."""
    depth = _depth(model)
    order = strategy.order(depth, mesh) if depth else None
    return None if order is None or list(order) == list(range(depth)) else tuple(order)


def in_order(state: State, order, model: Model, optimizer, *, back: bool = False) -> State:
    """Return a state whose stacked rows lie in this order, or back as they were.

    Args:
        state: params and what the optimizer remembers of them.
        order: which layer each row is to hold; None leaves all as it is.
        model: names the axis `layers` of its stacked arrays.
        optimizer: knows which of its arrays belong to which params.
        back: undo it.
    """
    if order is None:
        return state
    moved = _moved(order, back)
    about = param_shapes(model), _layer_axes(model)
    memory = optax.tree_map_params(optimizer, moved, state.optimizer, *about)
    return state._replace(params=in_rows(state.params, order, model, back=back), optimizer=memory)


def in_rows(tree, order, model: Model, *, back: bool = False):
    """Return a tree like the params whose stacked rows lie in this order, or back."""
    if order is None:
        return tree
    return jax.tree.map(_moved(order, back), tree, param_shapes(model), _layer_axes(model))


def _moved(order, back: bool) -> Callable:
    rows = np.argsort(order) if back else np.array(order)

    def moved(array, shape, axis):
        # Adafactor keeps sums over the last dimensions alone; they belong to layers, too.
        along = axis >= 0 and array.shape[: axis + 1] == shape.shape[: axis + 1]
        return array.take(rows, axis) if along else array

    return moved


def _depth(model: Model) -> int:
    if model.axes is None:
        return 0
    pairs = zip(
        jax.tree.leaves(param_shapes(model)), jax.tree.leaves(_layer_axes(model)), strict=True
    )
    return next((shape.shape[axis] for shape, axis in pairs if axis >= 0), 0)


def _layer_axes(model: Model):
    """Return which dimension of each array is `layers`, or -1."""
    return jax.tree.map(
        lambda names: names.index("layers") if "layers" in names else -1,
        model.axes,
        is_leaf=is_axes,
    )
