"""The few names that moved between JAX 0.7.2 and 0.12."""

import jax
from jax import lax


def vary(x, axes: tuple[str, ...]):
    """Mark `x` as differing along mesh axes; only inside `shard_map`.

    Autodiff sums the gradient of a value that is the same on every device, by
    itself; of a varying one it leaves each device its own part.
    """
    missing = tuple(axis for axis in axes if axis not in varying_axes(x))
    if not missing:
        return x
    if hasattr(lax, "pcast"):  # 0.8 and later
        return lax.pcast(x, missing, to="varying")
    return lax.pvary(x, missing)


def varying_axes(x) -> frozenset[str]:
    """Return the mesh axes along which `x` differs; only inside `shard_map`."""
    kind = jax.typeof(x)
    if hasattr(kind, "manual_axis_type"):  # 0.10 and later
        return frozenset(kind.manual_axis_type.varying)
    return frozenset(kind.vma)
