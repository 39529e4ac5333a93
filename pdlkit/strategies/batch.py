"""How a batch is cut, and what it must look like."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from pdlkit.errors import fitting_sizes, is_count, lesson, names
from pdlkit.models.parts import is_axes
from pdlkit.records import Model
from pdlkit.strategies.placement import axes_of, ways_of


def batch_specs(model: Model, cuts: Mapping):
    """Return how a batch is cut: one spec for all, or a tree like the batch."""
    if model.batch_axes is None:
        return P(cuts.get("batch"))
    return jax.tree.map(
        lambda axes: P(*(cuts.get(name) for name in axes)), model.batch_axes, is_leaf=is_axes
    )


def specs_of_arrays(specs, batch):
    """Return a spec for each array of a batch, where there may be one for all."""
    return jax.tree.map(lambda _: specs, batch) if isinstance(specs, P) else specs


def check_cuts(who: str, model: Model, cuts: Mapping) -> None:
    """Raise if a strategy cuts an axis that no array of the model's batches has."""
    trees = () if model.batch_axes is None else jax.tree.leaves(model.batch_axes, is_leaf=is_axes)
    there = {"batch"}.union(*trees) - {None}
    for name in cuts:
        if name not in there:
            raise ValueError(
                lesson(
                    f"{who} cuts batches along `{name}`, but this model's have "
                    f"{names(sorted(there))}.",
                    why="model.batch_axes names the axes of each array of a batch.",
                    fix=f"a model that names `{name}` there, or another strategy.",
                )
            )


def check_counted(who: str, micro_batches: int) -> None:
    """Raise if a device cannot take its share in so many micro-batches."""
    if not is_count(micro_batches):
        raise ValueError(
            lesson(
                f"{who} cannot take a share of the batch in {micro_batches} micro-batches.",
                why="they are counted, and one, the whole share, is the fewest.",
                fix="accumulate=1, or another whole number from there on.",
            )
        )


def batch_check(model: Model, cuts: Mapping, mesh: Mesh) -> Callable:
    """Return a check of batches that looks once at each set of shapes it meets.

    It raises ValueError for a batch that is not what the model was made for, or
    that cannot be cut.

    Raises:
        ValueError: the model names an array of a batch that has no row for each example.
    """
    for axes in jax.tree.leaves(model.batch_axes, is_leaf=is_axes):
        if axes[:1] != ("batch",):
            raise ValueError(
                lesson(
                    f"model.batch_axes names the axes of an array {axes}.",
                    why="example i of a batch is row i of every array in it.",
                    fix='("batch", ...); what all examples share belongs into the params or the '
                    "loss itself.",
                )
            )
    seen = set()

    def check(batch) -> None:
        leaves, tree = jax.tree.flatten(batch)
        shapes = (tree, *((leaf.shape, leaf.dtype) for leaf in leaves))
        if shapes not in seen:
            _check(batch, model, cuts, mesh)
            seen.add(shapes)

    return check


def _check(batch, model: Model, cuts: Mapping, mesh: Mesh) -> None:
    if model.example is not None:
        _check_like(batch, model.example)
    first = jax.tree.leaves(batch)[0]
    for path, array in jax.tree_util.tree_leaves_with_path(batch):
        if array.shape[:1] != first.shape[:1]:
            raise ValueError(
                lesson(
                    f"batch{_at(path)} has shape {list(array.shape)}, the first array "
                    f"{list(first.shape)}.",
                    why="example i of a batch is row i of every array in it.",
                    fix="arrays whose first dimensions are equal.",
                )
            )
    specs = specs_of_arrays(batch_specs(model, cuts), batch)
    for array, spec in zip(jax.tree.leaves(batch), jax.tree.leaves(specs), strict=True):
        for size, axis in zip(array.shape, spec, strict=False):
            if size % ways_of(axis, mesh):
                raise ValueError(_indivisible(size, axis, mesh, cuts))


def _check_like(batch, example) -> None:
    here, expected = (jax.tree_util.tree_flatten_with_path(tree) for tree in (batch, example))
    if here[1] != expected[1]:
        raise ValueError(
            lesson(
                f"the batch is {_structure(here[1])}, but this workload's batches are "
                f"{_structure(expected[1])}.",
                why="the loss takes its batch apart by this structure.",
                fix="a batch like work.batch(0).",
            )
        )
    for (path, array), (_, like) in zip(here[0], expected[0], strict=True):
        if array.shape[1:] != like.shape[1:] or _kind(array.dtype) != _kind(like.dtype):
            raise ValueError(
                lesson(
                    f"batch{_at(path)} is {array.dtype.name} {list(array.shape)}, but this "
                    f"workload's is {like.dtype.name} {list(like.shape)}.",
                    why="only the number of examples, the first dimension, may differ.",
                    fix="reshape or convert it to be like work.batch(0).",
                )
            )


def _structure(tree) -> str:
    """Write a tree's structure with a star for each array: (*, *)."""
    return str(tree).removeprefix("PyTreeDef(").removesuffix(")")


def _kind(dtype):
    return next(k for k in (jnp.floating, jnp.integer, jnp.generic) if jnp.issubdtype(dtype, k))


def _indivisible(size: int, axis, mesh: Mesh, cuts: Mapping) -> str:
    name = next(name for name, where in cuts.items() if axes_of(where) == axes_of(axis))
    what = f"a batch of {size} examples" if name == "batch" else f"a `{name}` of {size}"
    ways = ways_of(axis, mesh)
    among = " x ".join(f"{each}={mesh.shape[each]}" for each in mesh.shape if each in axes_of(axis))
    return lesson(
        f"{what} does not divide among {among}.",
        why="each device takes a share of the same size.",
        fix=f"a size of {fitting_sizes(size, ways)}, or another number of devices.",
    )


def _at(path) -> str:
    return jax.tree_util.keystr(path)
