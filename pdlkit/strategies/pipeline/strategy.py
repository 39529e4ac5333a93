"""Pipeline parallelism: micro-batches pass through devices with some layers each."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from pdlkit.errors import fitting_sizes, lesson
from pdlkit.models.layers import ALONE
from pdlkit.models.parts import param_shapes
from pdlkit.records import Collective
from pdlkit.schedules import Table, check, one_f_one_b
from pdlkit.strategies.batch import specs_of_arrays
from pdlkit.strategies.calls import example_of
from pdlkit.strategies.layout import Layout
from pdlkit.strategies.pipeline.plan import plan
from pdlkit.strategies.pipeline.sharing import cuttable, staged_share, with_own_ends
from pdlkit.strategies.spmd import Spmd


@dataclasses.dataclass(frozen=True)
class Pipeline(Spmd):
    """Cut the model between layers; send micro-batches through it, there and back.

    All devices keep step: a tick lasts as long as its longest op. What a model notes
    is not handed out.

    Moves:  the activations of one micro-batch, or their gradients, on every hop and in
            every tick in which any stage has some to send (on a hop that hardly ever
            rests, in every tick); one all-reduce of the gradients of the weights before
            and after the blocks; one of the loss.
    Keeps:  1/n of the blocks on each of n devices, and the activations of as many
            micro-batches as the schedule needs.
    Source: Huang et al. 2019, "GPipe", https://arxiv.org/abs/1811.06965
    """

    schedule: Callable[[int, int], Table] | Table = one_f_one_b  # of stages and micro-batches
    microbatches: int = 8  # in one step; a table says itself
    axis: str = "stage"

    @property
    def accumulate(self):
        return self.schedule.microbatches if isinstance(self.schedule, Table) else self.microbatches

    @property
    def apart(self):
        return (self.axis,)  # a stage that does not use the ends has no part in their gradient

    def rules(self):
        return {"layers": self.axis}

    def table(self, mesh: Mesh) -> Table:
        """Return the schedule on this mesh.

        Raises:
            ValueError: it is made for another number of stages, or cannot be run.
        """
        stages, table = mesh.shape[self.axis], self.schedule
        if not isinstance(table, Table):
            table = table(stages, self.microbatches)
        check(table)
        if table.stages != stages:
            raise ValueError(
                lesson(
                    f"{table.name} is a schedule for {table.stages} stages, but this mesh has "
                    f"{self.axis}={stages}.",
                    why="each stage is one device along that axis.",
                    fix=f"pdl.mesh({self.axis}={table.stages}), or a schedule for {stages}.",
                )
            )
        return table

    def order(self, depth, mesh):
        placement = self.table(mesh).placement
        if depth % len(placement):
            raise ValueError(_indivisible(depth, len(placement)))
        rows = depth // len(placement)
        by_device = sorted(range(len(placement)), key=lambda virtual: placement[virtual])
        return [virtual * rows + row for virtual in by_device for row in range(rows)]

    def gradients(self, model, layers, mesh):
        return staged_share(model, layers, mesh, self.table(mesh), axis=self.axis)

    def around(self, loss, layout):
        del layout  # for those who trace the loss in one piece, over one stage's blocks
        return lambda params, *rest: loss(with_own_ends(params, self.axis), *rest)

    def step_moves(self, layout, calls):
        if layout.mesh.shape[self.axis] == 1:
            return ()
        table = self.table(layout.mesh)
        ready = plan(table)
        times = [int(n.sum()) for n, hop in zip(ready.sends, ready.hops, strict=True) if hop]
        messages = jax.tree.leaves(_message(layout, table.microbatches))
        loss = jax.ShapeDtypeStruct((), jnp.float32)
        weighted = any(call.operation == "mean" for call in calls)  # by how much the loss counts
        return (
            *(self._move("permute", each, layout.mesh, n) for n in times for each in messages),
            *[self._move("all_reduce", loss, layout.mesh)] * (2 if weighted else 1),
        )

    def _move(self, kind: str, shape, mesh: Mesh, times: int = 1) -> Collective:
        size = shape.size * shape.dtype.itemsize
        return Collective.by_ring(kind, (self.axis,), mesh.shape[self.axis], size, times)


def _message(layout: Layout, microbatches: int):
    """Return the shapes of what one device sends on: x of one micro-batch."""
    model, mesh = layout.model, layout.mesh
    parts = cuttable(model)

    def part(shape, spec):
        rows, *rest = NamedSharding(mesh, spec).shard_shape(shape.shape)
        return jax.ShapeDtypeStruct((rows // microbatches, *rest), shape.dtype)

    example = example_of(model)
    batch = jax.tree.map(part, example, specs_of_arrays(layout.batch, example))
    first = lambda params, batch: parts.first(params, batch, ALONE)  # noqa: E731
    return jax.eval_shape(first, param_shapes(model)["first"], batch)


def _indivisible(depth: int, ways: int) -> str:
    return lesson(
        f"{depth} blocks do not divide among {ways} stages, chunks counted.",
        why="every chunk of every device runs as many blocks.",
        fix=f"a model with {fitting_sizes(depth, ways)} blocks, or fewer stages or chunks.",
    )
