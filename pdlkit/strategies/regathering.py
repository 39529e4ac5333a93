"""Params that were updated in parts, together again on every device."""

import jax
from jax import lax
from jax.sharding import Mesh

from pdlkit.strategies.placement import Places, axes_of


def regather(params, places: Places, mesh: Mesh):
    """Return the params as they live between steps.

    Each part is sent to all who need it; what is kept as it lives is left alone.
    Written out, rather than left to the compiler, so that the program says so.
    """
    leaves, tree = jax.tree.flatten(params)
    kept, homes = (jax.tree.leaves(specs) for specs in (places.kept, places.params))
    moving = [i for i, pair in enumerate(zip(kept, homes, strict=True)) if pair[0] != pair[1]]
    if not moving:
        return params

    def gather(arrays):
        return [_whole(x, kept[i], homes[i]) for x, i in zip(arrays, moving, strict=True)]

    together = jax.shard_map(
        gather,
        mesh=mesh,
        in_specs=([kept[i] for i in moving],),
        out_specs=[homes[i] for i in moving],
        check_vma=False,  # it does not see that what all have gathered is the same
    )([leaves[i] for i in moving])
    for i, array in zip(moving, together, strict=True):
        leaves[i] = array
    return jax.tree.unflatten(tree, leaves)


def _whole(part, kept, home):
    for dimension, entry in reversed(list(enumerate(kept))):  # what was scattered last
        for axis in axes_of(entry) - axes_of(home):
            part = lax.all_gather(part, axis, axis=dimension, tiled=True)
    return part
