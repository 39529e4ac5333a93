"""In how many bits real numbers are kept."""

import jax
import jax.numpy as jnp


def at_least_float32(x):
    """Return an array of real numbers with no fewer bits than float32 has."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def is_real(leaf) -> bool:
    """Return whether a leaf is an array of real numbers."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)


def cast(tree, dtype):
    """Return a tree with its arrays of real numbers in another precision."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype) if is_real(leaf) else leaf, tree)
