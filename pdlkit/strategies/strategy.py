"""What a strategy is, and the update that every one of them ends in."""

from functools import partial
from typing import Protocol

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from pdlkit.models.parts import param_shapes
from pdlkit.records import Model, Program, State


class Strategy(Protocol):
    """A way to train one model on many devices."""

    def build(self, model: Model, optimizer, mesh: Mesh) -> Program:
        """Return a program whose steps leave the weights that one device would."""
        ...


def first_state(optimizer, params) -> State:
    """Return the state before any update."""
    return State(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def placed_shapes(program: Program, model: Model) -> State:
    """Return the shapes of a program's state, each with the place where it lies.

    An `init` that is not one jitted function says itself, by an `eval_shape`.
    """
    ask = getattr(program.init, "eval_shape", partial(jax.eval_shape, program.init))
    return ask(param_shapes(model))


def donating(step):
    """Return the step that gives its state away, as training runs it.

    A step that is not one jitted function (pmap's) keeps it.
    """
    return jax.jit(step, donate_argnums=0) if isinstance(step, jax.stages.Wrapped) else step


def update(optimizer, state: State, grads) -> State:
    """Return the state after one optimizer step."""
    change, memory = optimizer.update(grads, state.optimizer, state.params)
    params = optax.apply_updates(state.params, change)
    return state._replace(step=state.step + 1, params=params, optimizer=memory)
