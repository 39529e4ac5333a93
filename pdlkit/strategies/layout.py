"""Where everything lives on one mesh, and the program that keeps it there."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import lax
from jax.sharding import Mesh

from pdlkit.devices import check_mesh
from pdlkit.records import Model, Program, State
from pdlkit.strategies.batch import batch_check, batch_specs
from pdlkit.strategies.placement import check_axes, param_specs, shardings, state_shardings
from pdlkit.strategies.strategy import first_state, update


class Layout(NamedTuple):
    """One model and optimizer, laid out on a mesh."""

    model: Model
    optimizer: Any
    mesh: Mesh
    cuts: dict[str, str]  # batch axis -> mesh axis
    params: Any  # like params, a PartitionSpec for each array
    batch: Any  # one PartitionSpec, or a tree of them like the batch
    states: State  # a NamedSharding for each array of the state


def lay_out(strategy, model: Model, optimizer, mesh: Mesh) -> Layout:
    """Return where a strategy's rules and cuts put everything.

    Raises:
        ValueError: the mesh has gone or lacks an axis, or an array does not fit.
    """
    rules, cuts = strategy.rules(), strategy.cuts()
    check_mesh(mesh)
    check_axes(strategy.name, {**rules, **cuts}.values(), mesh)
    params = param_specs(model, rules, mesh)
    states = state_shardings(model, optimizer, params, mesh)
    return Layout(model, optimizer, mesh, cuts, params, batch_specs(model, cuts), states)


def assemble(layout: Layout, gradients: Callable, *, on: Callable) -> Program:
    """Return the program that takes gradients, then updates, and stays laid out.

    The optimizer runs here, outside of any `shard_map` but in the same `jit`, so
    that one which looks across arrays (clipping by the global norm, LAMB) sees
    them whole.

    Args:
        layout: where everything lives.
        gradients: params, batch -> gradients laid out like the params, metrics.
        on: mesh, optimizer -> the same program elsewhere.
    """
    model, optimizer, mesh = layout.model, layout.optimizer, layout.mesh

    check = batch_check(model, layout.cuts, mesh)
    places = shardings(layout.batch, mesh)

    @jax.jit
    def step(state, batch):
        check(batch)
        grads, metrics = gradients(state.params, batch)
        new = update(optimizer, state, grads)
        return lax.with_sharding_constraint(new, layout.states), metrics

    def place(batch):
        check(batch)
        return jax.device_put(batch, places)

    return Program(
        init=jax.jit(lambda params: first_state(optimizer, params), out_shardings=layout.states),
        step=step,
        gather=lambda state: jax.device_get(state.params),
        on=lambda mesh, optimizer=optimizer: on(mesh, optimizer),
        mesh=mesh,
        place=place,
    )
