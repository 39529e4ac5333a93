"""Where things lie: one device by itself, and states that lie in several places."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh


def alone_on(device) -> Mesh:
    """Return a mesh of one device."""
    return Mesh(np.array([device]), ("data",), axis_types=(AxisType.Auto,))


def copied(state):
    """Return a state of its own, each array where it lies; no single `jit` could."""
    leaves, tree = jax.tree.flatten(state)
    for places in _by_place(leaves):
        for i, leaf in zip(places, _copies([leaves[i] for i in places]), strict=True):
            leaves[i] = leaf
    return jax.tree.unflatten(tree, leaves)


def finite(params) -> bool:
    """Return whether all numbers in all arrays are finite."""
    leaves = [leaf for leaf in jax.tree.leaves(params) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    found = [_finite([leaves[i] for i in places]) for places in _by_place(leaves)]
    return all(map(bool, found))


def _by_place(leaves: list) -> list[list[int]]:
    """Return the numbers of the arrays that lie on the same devices, together."""
    places = {}
    for i, leaf in enumerate(leaves):
        sharding = getattr(leaf, "sharding", None)  # none on the host
        places.setdefault(sharding and frozenset(sharding.device_set), []).append(i)
    return list(places.values())


@jax.jit
def _copies(leaves):
    return [jnp.copy(leaf) for leaf in leaves]


@jax.jit
def _finite(leaves):
    return jnp.array([jnp.isfinite(leaf).all() for leaf in leaves]).all()
