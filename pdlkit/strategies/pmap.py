"""Data parallelism as old code spells it: `jax.pmap`."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from pdlkit.devices import check_mesh, grid
from pdlkit.errors import lesson
from pdlkit.records import Collective, Program
from pdlkit.strategies.batch import batch_check
from pdlkit.strategies.calls import means_alone
from pdlkit.strategies.data import DataParallel
from pdlkit.strategies.listening import Ear, same_on_every_share
from pdlkit.strategies.placement import check_axes
from pdlkit.strategies.strategy import first_state, update


@dataclasses.dataclass(frozen=True)
class PmapDataParallel:
    """Cut the batch; average the gradients; every device keeps its own copy.

    For reading old code: `pmap` runs one function on each device, and every
    array has a leading axis, one row a device. New code uses `DataParallel`.

    Moves:  one all-reduce of the gradients a step; where `DataParallel` sums the total
            of a `layers.mean` once, one more going back.
    Keeps:  all parameters and optimizer state on every device.
    Source: JAX documentation, https://docs.jax.dev/en/latest/migrate_pmap.html
    """

    axis: str = "data"

    def moves(self, model, mesh):
        """What one step must send, as data: the line `Moves` of the docstring."""
        there, ways = DataParallel(self.axis).moves(model, mesh), mesh.shape[self.axis]
        totals = [total.bytes for total, _ in means_alone(model)] if ways > 1 else []
        back = (Collective.by_ring("all_reduce", (self.axis,), ways, size) for size in totals)
        return (*there, *back)

    def build(self, model, optimizer, mesh) -> Program:
        """Return the program; the mesh has one axis only, for `pmap` knows one.

        Raises:
            ValueError: another axis of the mesh is larger than 1.
        """
        check_mesh(mesh)
        check_axes(type(self).__name__, [self.axis], mesh)
        ways = mesh.shape[self.axis]
        if ways != mesh.size:
            raise ValueError(
                lesson(
                    f"PmapDataParallel works along `{self.axis}` alone, but this mesh is "
                    f"{grid(mesh.shape)}.",
                    why="pmap has one axis; a mesh of two is what shard_map came for.",
                    fix=f"pdl.mesh({self.axis}={mesh.size}), or DataParallel.",
                )
            )

        def on_each_device(state, batch):
            shares = jax.tree.map(lambda x: jax.ShapeDtypeStruct((ways, *x.shape), x.dtype), batch)
            same = same_on_every_share(model.loss, state.params, shares, self.axis)

            def objective(params):
                ear = Ear((self.axis,), same)
                loss = model.loss(params, batch, ear.layers({}))
                return loss, ear.metrics(loss)

            grads, metrics = jax.grad(objective, has_aux=True)(state.params)
            grads = lax.pmean(grads, self.axis)
            return update(optimizer, state, grads), jax.tree.map(lambda x: x[0], metrics)

        def spread(state):
            return jax.tree.map(lambda x: jnp.broadcast_to(x, (ways, *jnp.shape(x))), state)

        def whole(state):
            return jax.tree.map(lambda x: x[0], state)

        rows = NamedSharding(mesh, P(self.axis))
        run = jax.pmap(on_each_device, axis_name=self.axis, devices=list(mesh.devices.flat))
        return Program(
            init=jax.jit(lambda p: spread(first_state(optimizer, p)), out_shardings=rows),
            step=_Step(run, batch_check(model, {"batch": self.axis}, mesh), ways),
            gather=lambda state: jax.device_get(whole(state).params),
            on=lambda mesh, optimizer=optimizer: self.build(model, optimizer, mesh),
            mesh=mesh,
            whole=whole,
            spread=spread,
        )


class _Step:
    """A step that takes whole batches and hands each device its row."""

    def __init__(self, run, check, ways):
        self._run, self._check, self._ways = run, check, ways

    def __call__(self, state, batch):
        return self._run(state, self._rows(batch))

    def lower(self, state, batch):
        """Return the step lowered for these shapes, as a jitted one's `lower` does."""
        rows = jax.eval_shape(self._rows, batch)
        return self._run.lower(state, rows)

    def _rows(self, batch):
        self._check(batch)
        return jax.tree.map(lambda x: x.reshape(self._ways, -1, *x.shape[1:]), batch)
