"""Whether a model calls the layer operations that a strategy replaces."""

import jax

from pdlkit.errors import lesson, names
from pdlkit.models.layers import Layers, recording
from pdlkit.models.parts import param_shapes
from pdlkit.records import Model


def check_calls(who: str, model: Model, replaced: dict, batch) -> None:
    """Raise if the model never calls an operation that the strategy replaces.

    The model is traced once, on the shapes of a batch alone; nothing runs.
    """
    if not replaced:
        return
    layers, called = recording(Layers())
    params = param_shapes(model)
    jax.eval_shape(lambda params, batch: model.loss(params, batch, layers), params, batch)
    for name in replaced:
        if name not in called:
            raise ValueError(
                lesson(
                    f"{who} replaces `layers.{name}`, but this model never calls it; "
                    f"it calls {names(sorted(called))}.",
                    why="the strategy would leave the model as it was, and wrong.",
                    fix=f"call layers.{name} in the loss where the model does that by hand, "
                    "or choose another strategy.",
                )
            )
