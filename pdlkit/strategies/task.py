"""Task parallelism: many trainings of one shape at once, so many on each device."""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from pdlkit.compat import vary
from pdlkit.devices import check_mesh
from pdlkit.errors import fitting_sizes, lesson
from pdlkit.models.parts import param_shapes
from pdlkit.records import Collective, Metrics, Model, Program, State
from pdlkit.strategies.one_device import OneDevice
from pdlkit.strategies.placement import check_axes
from pdlkit.strategies.strategy import first_state


@dataclasses.dataclass(frozen=True)
class TaskParallel:
    """Train many members at once, each as on one device and without the others.

    For an ensemble, a sweep or cross-validation. Members of one device are trained by
    `vmap`, as one program. `init` takes the params of one, from which all begin, or
    [members, ...] of them; the state and what `gather` gives are [members, ...].

    Moves:  nothing.
    Keeps:  the weights and optimizer state of members / n on each of n devices.
    Source: Lakshminarayanan et al. 2017, "Simple and Scalable Predictive Uncertainty
            Estimation using Deep Ensembles", https://arxiv.org/abs/1612.01474
    """

    members: int
    settings: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)
    own_batches: bool = False  # whether a batch is [members, examples, ...], one for each
    axis: str = "task"

    def moves(self, model: Model, mesh: Mesh) -> tuple[Collective, ...]:
        """What one step must send, as data: nothing."""
        del model, mesh
        return ()

    def build(self, model: Model, optimizer, mesh: Mesh) -> Program:
        """Return the program on this mesh.

        Raises:
            ValueError: the members do not divide among the devices, or a setting is not
                one figure for each member, or is none that the optimizer keeps.
        """
        check_mesh(mesh)
        check_axes(type(self).__name__, [self.axis], mesh)
        self._check_divides(mesh.shape[self.axis])
        self._check_settings(jax.eval_shape(optimizer.init, param_shapes(model)))
        batches = P(self.axis) if self.own_batches else P()
        if self.own_batches and model.example is not None:
            model = model._replace(example=_of_one_member(model.example))
        alone = OneDevice().build(model, optimizer, mesh).step

        def on_each_device(state, batch):
            batch = jax.tree.map(lambda x: vary(x, (self.axis,)), batch)
            state, metrics = jax.vmap(alone, (0, 0 if self.own_batches else None))(state, batch)
            return state, _of_device(metrics)

        on_all = jax.shard_map(
            on_each_device,
            mesh=mesh,
            in_specs=(P(self.axis), batches),
            out_specs=(P(self.axis), P(mesh.axis_names)),
        )
        rows = NamedSharding(mesh, P(self.axis))
        return Program(
            init=jax.jit(lambda params: self._first(model, optimizer, params), out_shardings=rows),
            step=jax.jit(on_all),
            gather=lambda state: jax.device_get(state.params),
            on=lambda mesh, optimizer=optimizer: self.build(model, optimizer, mesh),
            mesh=mesh,
            place=lambda batch: jax.device_put(batch, NamedSharding(mesh, batches)),
        )

    def _first(self, model: Model, optimizer, params) -> State:
        """Return [members, ...], the state of each before any update."""

        def each(param, shape):
            rows = (self.members, *shape.shape)
            if param.shape not in (shape.shape, rows):
                raise ValueError(
                    lesson(
                        f"an array of the params has shape {list(param.shape)}.",
                        why=f"one of the model has {list(shape.shape)}, and {self.members} members "
                        f"of their own have {list(rows)}.",
                        fix="the params of one, or of all members, stacked.",
                    )
                )
            return jnp.broadcast_to(param, rows)

        params = jax.tree.map(each, params, param_shapes(model))
        state = jax.vmap(lambda params: first_state(optimizer, params))(params)
        own = {name: jnp.array(figures, jnp.float32) for name, figures in self.settings.items()}
        return state._replace(optimizer=optax.tree_utils.tree_set(state.optimizer, **own))

    def _check_divides(self, ways: int) -> None:
        if self.members < 1 or self.members % ways:
            raise ValueError(
                lesson(
                    f"{self.members} members do not divide among {self.axis}={ways}.",
                    why="each device trains as many.",
                    fix=f"{fitting_sizes(self.members, ways)} members; pdl.run_tasks takes any "
                    "number, one after another.",
                )
            )

    def _check_settings(self, memory) -> None:
        for name, figures in self.settings.items():
            if not optax.tree_utils.tree_get_all_with_path(memory, name):
                raise ValueError(
                    lesson(
                        f"this optimizer keeps no `{name}` that each member could have its own of.",
                        why="it is a constant of the compiled step.",
                        fix="optax.inject_hyperparams(optax.sgd)(learning_rate=0.1).",
                    )
                )
            if len(figures) != self.members:
                raise ValueError(
                    lesson(
                        f"`{name}` has {len(figures)} figures for {self.members} members.",
                        why="each member has its own.",
                        fix=f"{self.members} figures, or members={len(figures)}.",
                    )
                )


def _of_one_member(example):
    """[members, examples, ...] -> [examples, ...], shapes alone."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), example)


def _of_device(metrics: Metrics) -> Metrics:
    """[members, 1, ...] -> [1, ...]: the mean loss of the members; each is noted."""
    notes = {name: jnp.moveaxis(note, 0, 1) for name, note in metrics.notes.items()}
    losses = metrics.device_loss
    return Metrics(losses.mean(0), {**notes, "member_loss": losses.T})
