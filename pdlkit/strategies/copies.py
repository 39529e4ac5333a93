"""Copies that drift apart: each device trains its own; now and then they meet."""

import abc
import math

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from optax import tree_utils as trees

from pdlkit.devices import check_mesh
from pdlkit.models.parts import param_shapes
from pdlkit.records import Collective, Model, Program, State
from pdlkit.strategies.batch import batch_check, batch_specs
from pdlkit.strategies.listening import Ear
from pdlkit.strategies.meeting import gradient_moves
from pdlkit.strategies.placement import Places, check_axes, shardings
from pdlkit.strategies.strategy import first_state, update


class Copies(abc.ABC):
    """A strategy that lets every device train a copy of its own.

    A copy has its own weights and its own optimizer, and sees its share of the batch
    only; a mean that goes through `layers.mean` is over that share. Each step notes
    `pulled`: how far the meeting moved this device's copy, as the root mean square
    over its weights; 0 where the copies did not meet. No message is sent for it.
    """

    axis: str

    @abc.abstractmethod
    def settle(self, state: State) -> State:
        """Return what one device goes on with, from what its own step has left.

        Run inside `shard_map`; params and optimizer are of this device's copy.
        """

    def remember(self, params):
        """Return what all copies have in common, from the first weights."""
        del params
        return ()

    def moves(self, model: Model, mesh: Mesh) -> tuple[Collective, ...]:
        """What a step in which the copies meet must send, as data; others: nothing."""
        shapes = param_shapes(model)
        whole = jax.tree.map(lambda _: P(), shapes)
        return gradient_moves(shapes, Places(whole, whole), (self.axis,), mesh)

    def build(self, model: Model, optimizer, mesh: Mesh) -> Program:
        """Return the program on this mesh; params have a row for each device.

        Raises:
            ValueError: the mesh has gone, or lacks the axis.
        """
        check_mesh(mesh)
        check_axes(type(self).__name__, [self.axis], mesh)
        ways, cuts = mesh.shape[self.axis], {"batch": self.axis}
        check, batch_places = batch_check(model, cuts, mesh), batch_specs(model, cuts)
        places = State(P(), P(self.axis), P(self.axis), P())

        # Nothing is summed while gradients are taken, so types need not say what varies.
        on_all = jax.shard_map(
            lambda state, batch: self._step(model, optimizer, state, batch),
            mesh=mesh,
            in_specs=(places, batch_places),
            out_specs=(places, P(mesh.axis_names)),
            check_vma=False,
        )

        @jax.jit
        def step(state, batch):
            check(batch)
            return on_all(state, batch)

        def place(batch):
            check(batch)
            return jax.device_put(batch, shardings(batch_places, mesh))

        def spread(state):
            rows = lambda x: jnp.broadcast_to(x, (ways, *jnp.shape(x)))  # noqa: E731
            return _of_copies(rows, state)

        def begin(params):
            return spread(first_state(optimizer, params)._replace(memory=self.remember(params)))

        return Program(
            init=jax.jit(begin, out_shardings=shardings(places, mesh)),
            step=step,
            gather=lambda state: jax.device_get(jax.tree.map(_mean, state.params)),
            on=lambda mesh, optimizer=optimizer: self.build(model, optimizer, mesh),
            mesh=mesh,
            place=place,
            whole=lambda state: _of_copies(_mean, state),
            spread=spread,
        )

    def _step(self, model: Model, optimizer, state: State, batch):
        own = _of_copies(lambda x: x[0], state)

        def objective(params):
            ear = Ear((), same=False)
            loss = model.loss(params, batch, ear.layers({}))
            return loss, ear.metrics(loss)

        grads, metrics = jax.grad(objective, has_aux=True)(own.params)
        moved = update(optimizer, own, grads)
        settled = self.settle(moved)
        notes = {**metrics.notes, "pulled": _distance(settled.params, moved.params)[None]}
        return _of_copies(lambda x: x[None], settled), metrics._replace(notes=notes)


def _of_copies(change, state: State) -> State:
    """Return a state whose params and optimizer, which each copy has, are changed."""
    params, optimizer = (jax.tree.map(change, tree) for tree in (state.params, state.optimizer))
    return state._replace(params=params, optimizer=optimizer)


def _mean(rows):
    """[copies, ...] -> [...]; counts are the same in every copy."""
    return rows.mean(0) if jnp.issubdtype(rows.dtype, jnp.floating) else rows[0]


def _distance(tree, other):
    """Return the root mean square of a difference, over all numbers of a tree."""
    return trees.tree_norm(trees.tree_sub(tree, other)) / math.sqrt(trees.tree_size(tree))
