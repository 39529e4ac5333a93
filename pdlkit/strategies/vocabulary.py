"""A vocabulary cut over devices: tokens looked up, and the loss of guessing them."""

import jax.numpy as jnp
from jax import lax


def rows_of_part(tokens, table, axis: str):
    """Return the rows of the tokens that this device holds, zero for the others.

    Args:
        tokens: [...] whole numbers.
        table: [vocabulary / n, embed], this device's part.
        axis: the mesh axis that the table is cut over.
    """
    here = tokens - lax.axis_index(axis) * len(table)
    inside = (here >= 0) & (here < len(table))
    rows = table[jnp.clip(here, 0, len(table) - 1)]
    return jnp.where(inside[..., None], rows, 0)


def cross_entropy_of_part(logits, labels, axis: str):
    """[..., classes / n], [...] whole numbers -> [...], the same on every device.

    The largest logit, the sum of exponentials and the true class's logit are put
    together from the parts; no device ever has a whole row. A label that is no
    class gives NaN.

    Source: Shoeybi et al. 2019, "Megatron-LM", section 3, https://arxiv.org/abs/1909.08053
    """
    part = logits.shape[-1]
    top = lax.pmax(lax.stop_gradient(logits).max(-1), axis)
    total = lax.psum(jnp.exp(logits - top[..., None]).sum(-1), axis)
    hit = labels[..., None] == lax.axis_index(axis) * part + jnp.arange(part)
    true = lax.psum(jnp.where(hit, logits, 0).sum(-1), axis)
    known = (labels >= 0) & (labels < part * lax.axis_size(axis))
    return jnp.where(known, jnp.log(total) + top - true, jnp.nan)
