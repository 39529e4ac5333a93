"""The program that goes through a chain there and back, then updates in place."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from pdlkit.models.parts import param_shapes
from pdlkit.records import Metrics, Model, Program, State
from pdlkit.strategies.batch import batch_check
from pdlkit.strategies.chain import Chain
from pdlkit.strategies.owners import owner_computes
from pdlkit.strategies.pieces import Recorder, Runner
from pdlkit.strategies.strategy import first_state, update


def assemble_chain(chain: Chain, model: Model, optimizer, *, on: Callable) -> Program:
    """Return the program that goes through a chain there and back, then updates.

    The arrays lie in several places, so the optimizer runs by `owner_computes`: where
    the weights are, each array whole.

    Args:
        chain: the stages.
        model: what is trained.
        optimizer: an optax transformation.
        on: mesh, optimizer -> the same program elsewhere.
    """
    params = param_shapes(model)
    shapes = jax.eval_shape(partial(first_state, optimizer), params)
    places = _state_places(chain, optimizer, shapes)
    change = owner_computes(
        partial(update, optimizer),
        (shapes, params),
        places=(places, places.params),
        results=places,
        everywhere=NamedSharding(chain.mesh, P()),
    )
    return Program(
        init=_Init(optimizer, places),
        step=_Step(chain, change, batch_check(model, {}, chain.mesh)),
        gather=lambda state: jax.device_get(state.params),
        on=lambda mesh, optimizer=optimizer: on(mesh, optimizer),
        mesh=chain.mesh,
    )


class _Init:
    """Makes the first state, and says where it will lie."""

    def __init__(self, optimizer, places: State):
        self._fresh, self._places = partial(first_state, optimizer), places

    def __call__(self, params) -> State:
        return jax.device_put(self._fresh(params), self._places)

    def eval_shape(self, params) -> State:
        """Return the shapes of the first state and its places; nothing is run."""
        shapes = jax.eval_shape(self._fresh, params)
        return jax.tree.map(
            lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
            shapes,
            self._places,
        )


class _Step:
    """One step through a chain: many pieces, so that no one `jit` can hold it."""

    def __init__(self, chain: Chain, change: Callable, check: Callable):
        self._chain, self._change, self._check = chain, change, check

    def __call__(self, state: State, batch) -> tuple[State, Metrics]:
        self._check(batch)
        state, loss = self.through(Runner(), state, batch)
        return state, Metrics(jnp.broadcast_to(loss, (self._chain.mesh.size,)))

    def record(self, state: State, batch) -> Recorder:
        """Return the pieces and copies of a step; nothing is run.

        Args:
            state: shapes, as `placed_shapes` gives them.
            batch: likewise.
        """
        self._check(batch)
        recorder = Recorder(self._chain.mesh)
        self.through(recorder, state, batch)
        return recorder

    def through(self, runner: Runner, state: State, batch) -> tuple[State, jax.Array]:
        """Return the next state and the loss."""
        loss, grads = self._chain.gradients(runner, state.params, batch)
        return self._change(runner, state, grads), loss


def _state_places(chain: Chain, optimizer, shapes: State) -> State:
    """Return where each array of a state lies: optimizer arrays beside their weights."""
    everywhere = NamedSharding(chain.mesh, P())
    params = {
        name: jax.tree.map(lambda _, home=chain.homes[name]: home, tree)
        for name, tree in shapes.params.items()
    }

    def beside(kept, shape, home):
        # Arrays of other shapes (Adafactor's) are not cut as the stacked weights are.
        same = kept.shape == shape.shape or not isinstance(home, NamedSharding)
        return home if same else everywhere

    memory = optax.tree_map_params(
        optimizer,
        beside,
        shapes.optimizer,
        shapes.params,
        params,
        transform_non_params=lambda _: everywhere,
    )
    return State(everywhere, params, memory)
