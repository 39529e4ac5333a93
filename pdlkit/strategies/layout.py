"""Where everything lives on one mesh, and the program that keeps it there."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from jax import lax
from jax.sharding import Mesh

from pdlkit.devices import check_mesh
from pdlkit.records import Model, Program, unchanged
from pdlkit.strategies.batch import batch_check, batch_specs, check_counted, check_cuts
from pdlkit.strategies.placement import (
    Places,
    axes_of,
    check_axes,
    param_specs,
    shardings,
    state_shardings,
)
from pdlkit.strategies.regathering import regather
from pdlkit.strategies.rows import in_order, row_order
from pdlkit.strategies.strategy import first_state, placed_shapes, update


class Layout(NamedTuple):
    """One model and optimizer, laid out on a mesh."""

    model: Model
    optimizer: Any
    mesh: Mesh
    cuts: Mapping[str, str | tuple[str, ...]]  # batch axis -> mesh axes
    places: Places  # of the params
    batch: Any  # one PartitionSpec, or a tree of them like the batch
    order: tuple[int, ...] | None  # which layer each row of the stacked blocks holds
    micro_batches: int  # that each device takes its share in

    @property
    def cut_axes(self) -> tuple[str, ...]:
        """The mesh axes that the batch is cut over, in mesh order."""
        cut = axes_of(tuple(self.cuts.values()))
        return tuple(axis for axis in self.mesh.axis_names if axis in cut)


class Remembered(NamedTuple):
    """What a strategy itself remembers from step to step: `State.memory`."""

    first: Callable = lambda params: ()  # params, laid out -> before any step
    specs: Any = ()  # a tree of `PartitionSpec`s like it, or the upper part of one
    whole: Callable = unchanged  # memory -> memory, as one device would keep it
    spread: Callable = unchanged  # the way back


def lay_out(strategy, model: Model, optimizer, mesh: Mesh) -> Layout:
    """Return where a strategy's rules and cuts put everything.

    Raises:
        ValueError: the mesh has gone or lacks an axis, or an array does not fit.
    """
    rules, cuts = strategy.rules(), strategy.cuts()
    check_mesh(mesh)
    check_axes(strategy.name, (*rules.values(), *cuts.values()), mesh)
    check_cuts(strategy.name, model, cuts)
    specs = param_specs(model, rules, mesh)
    places = strategy.homes(Places(specs, specs), model, mesh)
    order, cut = row_order(strategy, model, mesh), batch_specs(model, cuts)
    check_counted(strategy.name, strategy.accumulate)  # a pipeline's table has its own words
    return Layout(model, optimizer, mesh, cuts, places, cut, order, strategy.accumulate)


def assemble(
    layout: Layout, gradients: Callable, *, on: Callable, memory: Remembered | None = None
) -> Program:
    """Return the program that takes gradients, then updates, and stays laid out.

    The optimizer runs here, outside of any `shard_map` but in the same `jit`, so
    that one which looks across arrays (clipping by the global norm, LAMB) sees
    them whole.

    Args:
        layout: where everything lives.
        gradients: state, batch -> gradients laid out as they are kept, metrics, memory.
        on: mesh, optimizer -> the same program elsewhere.
        memory: what the strategy itself remembers; nothing, where it does not say.
    """
    memory = Remembered() if memory is None else memory
    model, optimizer, mesh, places = layout.model, layout.optimizer, layout.mesh, layout.places
    check = batch_check(model, layout.cuts, mesh)
    states = state_shardings(model, optimizer, places, mesh)
    states = states._replace(memory=shardings(memory.specs, mesh))
    kept, cut = shardings(places.kept, mesh), shardings(layout.batch, mesh)

    @jax.jit
    def step(state, batch):
        check(batch)
        grads, metrics, remembered = gradients(state, batch)
        # Each device updates what it keeps the optimizer's arrays of, and no more.
        own = lax.with_sharding_constraint(state.params, kept)
        new = update(optimizer, state._replace(params=own, memory=remembered), grads)
        new = new._replace(params=regather(new.params, places, mesh))
        return lax.with_sharding_constraint(new, states), metrics

    def place(batch):
        check(batch)
        return jax.device_put(batch, cut)

    def begin(params):
        state = in_order(first_state(optimizer, params), layout.order, model, optimizer)
        return state._replace(memory=memory.first(state.params))

    def spread(state):
        state = state._replace(memory=memory.spread(state.memory))
        return in_order(state, layout.order, model, optimizer)

    def whole(state):
        state = state._replace(memory=memory.whole(state.memory))
        return in_order(state, layout.order, model, optimizer, back=True)

    program = Program(
        init=jax.jit(begin, out_shardings=states),
        step=step,
        gather=lambda state: jax.device_get(whole(state).params),
        on=lambda mesh, optimizer=optimizer: on(mesh, optimizer),
        mesh=mesh,
        place=place,
        whole=whole,
        spread=spread,
    )
    _trace(program, model, check)
    return program


def _trace(program: Program, model: Model, check: Callable) -> None:
    """Trace a step, so that a layer that cannot be cut says so now; nothing is run.

    The first step of this shape then need not be traced. A batch that does not divide
    is let pass: another may come.
    """
    if model.example is None:
        return
    try:
        check(model.example)
    except ValueError:
        return
    jax.eval_shape(program.step, placed_shapes(program, model), model.example)
