"""What all devices do together in one step, each with its own share."""

from collections.abc import Callable

import jax
from jax.sharding import PartitionSpec as P

from pdlkit.strategies.calls import check_calls
from pdlkit.strategies.layout import Layout
from pdlkit.strategies.meeting import meet, vary_params


def each_device(strategy, layout: Layout, meeting: Callable = meet) -> Callable:
    """Return params, batch -> gradients, metrics: what all devices do together.

    Args:
        strategy: what each of them does.
        layout: where everything lives; gradients end where it says they are kept.
        meeting: params, gradients, places -> gradients, how those of the devices meet.
    """
    model, mesh, places = layout.model, layout.mesh, layout.places
    layers = strategy.layers(mesh)
    if model.example is not None:
        check_calls(strategy.name, model, layers, model.example)
    share = strategy.gradients(model, layers, mesh)

    def on_each_device(params, batch):
        own = vary_params(params, places.params, layout.cut_axes)
        grads, metrics = share(own, batch)
        return meeting(own, grads, places), metrics

    on_all = jax.shard_map(
        on_each_device,
        mesh=mesh,
        in_specs=(places.params, layout.batch),
        out_specs=(places.kept, P(mesh.axis_names)),
    )

    def gradients(params, batch):
        if model.example is None:  # outside a Workload, the first batch is the first to show
            check_calls(strategy.name, model, layers, batch)
        return on_all(params, batch)

    return gradients
