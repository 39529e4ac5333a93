"""Which layer operations a model calls, and with what."""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from jax.sharding import PartitionSpec as P

from pdlkit.compat import trace_now, varying_axes
from pdlkit.errors import lesson, names
from pdlkit.models.layers import Layers
from pdlkit.models.parts import param_shapes
from pdlkit.records import Model
from pdlkit.strategies.layout import Layout
from pdlkit.strategies.listening import Ear
from pdlkit.strategies.meeting import vary_params


class Argument(NamedTuple):
    """An array that a layer operation was given, on one device."""

    shape: tuple[int, ...]
    bytes_each: int  # of one number
    axes: frozenset[str]  # the mesh axes along which devices were given different ones

    @property
    def bytes(self) -> int:
        """The size of the whole array."""
        return math.prod(self.shape) * self.bytes_each


class Call(NamedTuple):
    """One call of a layer operation, as one device makes it."""

    operation: str
    arguments: tuple  # an `Argument` for each array
    options: Mapping[str, Any]
    times: int  # how often one pass runs it: a block's calls, once for each layer


# Not every model of images has these; where one has none, there is nothing to replace.
_SPARE = frozenset({"pool", "flatten"})


def check_calls(who: str, model: Model, replaced: Mapping, batch) -> None:
    """Raise if the model never calls an operation that the strategy replaces.

    The model is traced once, on the shapes of a batch alone; nothing runs.
    """
    if not replaced:
        return
    called = {call.operation for call in calls_alone(model, batch)}
    for name in replaced:
        if name not in called | _SPARE:
            raise ValueError(
                lesson(
                    f"{who} replaces `layers.{name}`, but this model never calls it; "
                    f"it calls {names(sorted(called))}.",
                    why="the strategy would leave the model as it was, and wrong.",
                    fix=f"call layers.{name} in the loss where the model does that by hand, "
                    "or choose another strategy.",
                )
            )


def calls_alone(model: Model, batch) -> tuple[Call, ...]:
    """Return the calls that one device would make, traced on shapes alone."""
    found: list[Call] = []

    def loss(params, batch):
        return model.loss(params, batch, recording(Layers(), found))

    jax.eval_shape(loss, param_shapes(model), batch)
    return tuple(found)


def means_alone(model: Model) -> list[tuple]:
    """Return the total and the weight of each `layers.mean`; none without an example."""
    calls = () if model.example is None else calls_alone(model, model.example)
    return [call.arguments for call in calls if call.operation == "mean"]


def local_calls(strategy, layout: Layout) -> tuple[Call, ...]:
    """Return the calls that one device makes in one pass over one micro-batch.

    The loss is traced as the strategy runs it, on shapes alone.
    """
    model, mesh = layout.model, layout.mesh
    replaced = strategy.layers(mesh)
    if model.example is None and not replaced:
        return ()
    found: list[Call] = []

    def on_each_device(params, batch):
        def loss(params, batch, micro=None):
            del micro
            ear = Ear(layout.cut_axes)
            layers = recording(ear.layers(replaced), found, depth=_depth(params))
            return model.loss(params, batch, layers), ()

        own = vary_params(params, layout.places.params, layout.cut_axes)
        return strategy.around(loss, layout)(own, batch)[0][None]

    specs = layout.places.params, layout.batch
    on_all = jax.shard_map(on_each_device, mesh=mesh, in_specs=specs, out_specs=P(mesh.axis_names))
    jax.eval_shape(on_all, param_shapes(model), _part(example_of(model), strategy.accumulate))
    return tuple(found)


def _depth(params) -> int:
    blocks = jax.tree.leaves(params.get("blocks")) if isinstance(params, dict) else ()
    return len(blocks[0]) if blocks else 1


def example_of(model: Model):
    """Return the shapes of one batch.

    Raises:
        ValueError: the model has no example of one.
    """
    if model.example is None:
        raise ValueError(
            lesson(
                "this model has no example of a batch, so what a step sends is not known.",
                why="it depends on the shapes of a batch.",
                fix="work = pdl.Workload(name, model, optimizer, batches), then work.model.",
            )
        )
    return model.example


def _part(batch, times: int):
    part = lambda x: jax.ShapeDtypeStruct((x.shape[0] // times, *x.shape[1:]), x.dtype)  # noqa: E731
    return jax.tree.map(part, batch)


def recording(layers: Layers, found: list[Call], *, depth: int = 1) -> Layers:
    """Return layers that do the same, and add every call of them to a list.

    Args:
        layers: the operations.
        found: where calls are added, in order.
        depth: how many blocks a scan runs, so how often what is called in it.
    """
    outside = trace_now()

    def listen(name: str, operation: Callable):
        known = inspect.signature(getattr(Layers(), name))  # an array may be given by name

        def call(*given, **options):
            times = 1 if trace_now() == outside else depth
            bound = known.bind(*given, **options)
            found.append(Call(name, tuple(map(_argument, bound.args)), bound.kwargs, times))
            return operation(*given, **options)

        return call

    return Layers(**{name: listen(name, each) for name, each in layers._asdict().items()})


def _argument(value):
    if not hasattr(value, "dtype"):
        return value
    return Argument(value.shape, value.dtype.itemsize, varying_axes(value))
