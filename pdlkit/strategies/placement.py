"""Where arrays live: from the names of their axes to places on a mesh."""

import math
from typing import Any, NamedTuple

import jax
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from pdlkit.errors import fitting_sizes, lesson, names
from pdlkit.models.parts import is_axes, param_shapes
from pdlkit.records import Model, State


class Places(NamedTuple):
    """Where each array of a model lives: trees like its params, of `PartitionSpec`s."""

    params: Any  # between steps
    kept: Any  # its gradient, and what the optimizer remembers of it


def axes_of(spec) -> frozenset[str]:
    """Return the mesh axes that a spec, or one entry of it, cuts over."""
    if spec is None or isinstance(spec, str):
        return frozenset(() if spec is None else (spec,))
    return frozenset().union(*map(axes_of, spec))


def param_specs(model: Model, rules: dict[str, str], mesh: Mesh):
    """Return a tree like the params, each array replaced by its `PartitionSpec`.

    Args:
        model: names the axes of its arrays.
        rules: array axis -> mesh axis.
        mesh: has the axes that the rules name.

    Raises:
        ValueError: `model.axes` does not fit the params, or an axis does not
            divide among the devices it is cut over.
    """
    shapes = param_shapes(model)
    if model.axes is None:  # arrays without names are kept whole
        return jax.tree.map(lambda _: P(), shapes)
    named = jax.tree_util.tree_leaves_with_path(model.axes, is_leaf=is_axes)
    axes = {jax.tree_util.keystr(path): names for path, names in named}
    specs = jax.tree_util.tree_map_with_path(
        lambda path, shape: _spec(jax.tree_util.keystr(path), shape.shape, axes, rules, mesh),
        shapes,
    )
    known = {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(shapes)}
    for path in axes.keys() - known:
        raise ValueError(
            lesson(
                f"axes{path} is {axes[path]}, but there is no params{path}.",
                why="a strategy finds each dimension of an array by its axis name.",
                fix="give model.axes the shape of the params, no array more.",
            )
        )
    return specs


def _spec(path, shape, axes, rules, mesh):
    if path not in axes or len(axes[path]) != len(shape):
        raise ValueError(
            lesson(
                f"params{path} has shape {list(shape)}, but axes{path} is {axes.get(path)}.",
                why="a strategy finds each dimension of an array by its axis name.",
                fix="give model.axes the shape of the params: one name, or None, a dimension.",
            )
        )
    cuts = [rules.get(name) for name in axes[path]]
    for axis in cuts:
        if axis is not None and cuts.count(axis) > 1:
            raise ValueError(
                lesson(
                    f"mesh axis `{axis}` would cut params{path} twice: its axes are "
                    f"{names(filter(None, axes[path]))}.",
                    why="the devices along one mesh axis can cut one dimension of an array.",
                    fix="a rule for only one of them.",
                )
            )
    spec = P(*cuts)
    check_divides(f"params{path}", shape, spec, mesh)
    return spec


def ways_of(spec, mesh: Mesh) -> int:
    """Return into how many parts a spec, or one entry of it, cuts an array."""
    return math.prod(mesh.shape[axis] for axis in axes_of(spec))


def check_axes(who: str, used, mesh: Mesh) -> None:
    """Raise if a strategy names a mesh axis that is not there."""
    for axis in sorted(frozenset().union(*map(axes_of, used))):
        if axis not in mesh.shape:
            raise ValueError(
                lesson(
                    f"{who} works along mesh axis `{axis}`, but this mesh has {names(mesh.shape)}.",
                    why="a strategy finds its devices by the name of their axis.",
                    fix=f"pdl.mesh({axis}={mesh.size}), or tell the strategy axis=...",
                )
            )


def check_divides(what: str, shape, spec, mesh: Mesh) -> None:
    """Raise if a cut dimension does not divide among its devices."""
    for size, axis in zip(shape, spec, strict=False):
        ways = ways_of(axis, mesh)
        if size % ways:
            fitting = [n for n in range(1, ways + 1) if size % n == 0]
            raise ValueError(
                lesson(
                    f"{what} has a dimension of {size}, which does not divide among {axis}={ways}.",
                    why="each device of an axis holds a share of the same size.",
                    fix=f"{axis}={fitting[-1]}, or a size of {fitting_sizes(size, ways)}.",
                )
            )


def state_shardings(model: Model, optimizer, places: Places, mesh: Mesh) -> State:
    """Return where a whole state lives: optimizer arrays lie beside the gradients."""
    params = param_shapes(model)
    memory = jax.eval_shape(optimizer.init, params)
    # Some optimizers keep arrays of other shapes (Adafactor): those stay whole.
    beside = optax.tree_map_params(
        optimizer,
        lambda kept, param, spec: spec if kept.shape == param.shape else P(),
        memory,
        params,
        places.kept,
        transform_non_params=lambda _: P(),
    )
    return State(*(shardings(tree, mesh) for tree in (P(), places.params, beside)))


def shardings(specs, mesh: Mesh):
    """Return a tree of specs as places on a mesh."""
    return jax.tree.map(
        lambda spec: NamedSharding(mesh, spec),
        specs,
        is_leaf=lambda node: isinstance(node, P),  # a tuple, on old JAX
    )
