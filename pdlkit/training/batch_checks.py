"""Whether a batch can be learned from, asked on the host."""

from typing import NamedTuple

import jax
import numpy as np

from pdlkit.errors import lesson
from pdlkit.models.layers import ALONE
from pdlkit.models.parts import param_shapes
from pdlkit.records import Model


class Fault(NamedTuple):
    """What is wrong with a batch, without the full stops."""

    what: str
    why: str
    fix: str


def check_values(batch, model: Model, k: int) -> None:
    """Raise ValueError if batch `k` cannot be learned from; see `find_fault`."""
    fault = find_fault(batch, model, k)
    if fault:
        raise ValueError(lesson(f"{fault.what}.", why=f"{fault.why}.", fix=f"{fault.fix}."))


def find_fault(batch, model: Model, k: int) -> Fault | None:
    """Return whether a batch holds NaN, infinity, or labels that are no class.

    Args:
        batch: host arrays.
        model: knows its number of classes where it can predict.
        k: the batch's number, for the message.
    """
    for path, array in jax.tree_util.tree_leaves_with_path(batch):
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            return Fault(
                f"batch {k} holds {np.asarray(array)[place]} in array "
                f"{jax.tree_util.keystr(path)}, at {list(place)}",
                "one such number makes every weight NaN within a step",
                "drop or fill those examples, say with np.nan_to_num",
            )
    return _labels_out_of_range(batch, model, k)


def _labels_out_of_range(batch, model: Model, k: int) -> Fault | None:
    predict = model.predict
    if predict is None or not isinstance(batch, tuple) or len(batch) != 2:
        return None
    labels = np.asarray(batch[1])
    params = param_shapes(model)
    outputs = jax.eval_shape(lambda p, b: predict(p, b, ALONE), params, batch).shape
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != outputs[:-1]:
        return None  # numbers to come near to, not classes
    counted = labels[labels != model.padding]
    if not counted.size:
        return None
    classes, low, high = outputs[-1], int(counted.min()), int(counted.max())
    if low >= 0 and high < classes:
        return None
    return Fault(
        f"batch {k} has labels from {low} to {high}, but the model tells {classes} "
        f"classes apart: 0 to {classes - 1}",
        "a label is the place of the true class among the model's outputs",
        f"labels from 0 on, or a model with {max(high + 1, 1)} outputs",
    )
