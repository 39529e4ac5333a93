"""Whether a batch can be learned from, asked on the host before a step."""

import jax
import numpy as np

from pdlkit.errors import lesson
from pdlkit.records import Model


def check_values(batch, model: Model, k: int) -> None:
    """Raise if a batch holds NaN, infinity, or labels that are no class.

    Args:
        batch: host arrays.
        model: knows its number of classes where it can predict.
        k: the batch's number, for the message.
    """
    for path, array in jax.tree_util.tree_leaves_with_path(batch):
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise ValueError(
                lesson(
                    f"batch {k} holds {np.asarray(array)[place]} in array "
                    f"{jax.tree_util.keystr(path)}, at {list(place)}.",
                    why="one such number makes every weight NaN within a step.",
                    fix="drop or fill those examples, say with np.nan_to_num.",
                )
            )
    if model.predict is None or not isinstance(batch, tuple) or len(batch) != 2:
        return
    labels = np.asarray(batch[1])
    if not np.issubdtype(labels.dtype, np.integer) or not labels.size:
        return
    params = jax.eval_shape(model.init, jax.random.key(0))
    classes = jax.eval_shape(model.predict, params, batch).shape[-1]
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise ValueError(
            lesson(
                f"batch {k} has labels from {low} to {high}, but the model tells {classes} "
                f"classes apart: 0 to {classes - 1}.",
                why="a label is the place of the true class among the model's outputs.",
                fix=f"labels from 0 on, or a model with {max(high + 1, 1)} outputs.",
            )
        )
