"""Sharded data parallelism: what can be kept once is not kept twice."""

import dataclasses
from functools import partial

import jax
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from pdlkit.errors import lesson
from pdlkit.models.parts import is_axes, param_shapes
from pdlkit.records import Collective, Model
from pdlkit.strategies.fetching import Fetched, fetches, mark
from pdlkit.strategies.placement import Places, axes_of, ways_of
from pdlkit.strategies.spmd import Spmd

# What only moves numbers about, or names them, is done again going back, not kept.
_MOVING = (
    "reshape",
    "transpose",
    "squeeze",
    "broadcast_in_dim",
    "slice",
    "convert_element_type",
    "name",
)


@dataclasses.dataclass(frozen=True)
class ZeRO(Spmd):
    """Cut the batch; of each array keep the optimizer's state of 1/n on each device.

    Stage 1 sums each gradient where its part is kept, updates the part and sends the
    new weights to all. Stage 2 never adds up whole gradients: with `accumulate` it
    scatters those of each micro-batch. Stage 3 keeps the weights cut too; it gathers
    the whole tree going forward, forgets it, and gathers it again going back. An
    array that no dimension of divides is kept whole and its gradient all-reduced.

    Moves:  stages 1 and 2, a reduce-scatter of gradients and an all-gather of weights;
            stage 3, two all-gathers of weights and a reduce-scatter of gradients.
    Keeps:  1/n of the optimizer's state; at stage 3, of the weights as well.
    Source: Rajbhandari et al. 2020, "ZeRO", https://arxiv.org/abs/1910.02054
    """

    stage: int = 1
    axis: str = "data"
    accumulate: int = 1

    def __post_init__(self):
        if self.stage not in (1, 2, 3):
            raise ValueError(
                lesson(
                    f"there is no stage {self.stage} of ZeRO.",
                    why="stage 1 cuts the optimizer's state, 2 the gradients, 3 the weights.",
                    fix="ZeRO(stage=1), 2 or 3.",
                )
            )

    @property
    def early(self):
        return self.stage == 2

    def cuts(self):
        return {"batch": self.axis}

    def homes(self, places, model, mesh):
        shapes = param_shapes(model)
        leaves, tree = jax.tree.flatten(shapes)
        trees = zip(jax.tree.leaves(places.kept), leaves, _names(model, leaves), strict=True)
        kept = tree.unflatten(
            _cut(spec, shape.shape, names, self.axis, mesh) for spec, shape, names in trees
        )
        return Places(kept if self.stage == 3 else places.params, kept)

    def around(self, loss, layout):
        if self.stage < 3:
            return loss
        return self.forgetting(loss, self.dimensions(layout.places.params), self.gather)

    def forgetting(self, loss, ways, fetch):
        """Return the loss of cut params, which fetches them whole, there and back.

        Args:
            loss: params, batch, `Micro` -> loss, `Heard`.
            ways: like the params, what `fetch` is told of each.
            fetch: this device's part, way -> the whole.
        """

        def on_parts(params, batch, micro=None):
            def on_whole(params):
                return loss(self.fetched(params, ways, fetch), batch, micro)

            return jax.checkpoint(on_whole, policy=self.forget)(params)

        return on_parts

    def fetched(self, params, ways, fetch):
        """Return what the loss is given, from this device's part of each array."""
        return jax.tree.map(fetch, params, ways)

    def gather(self, part, dimension: int):
        """Return an array whole, from this device's part along a dimension (-1: it is)."""
        if dimension < 0:
            return part
        return lax.all_gather(part, self.axis, axis=dimension, tiled=True)

    def forget(self, primitive, *_, **params) -> bool:
        """Return whether a result is kept for going back: whole weights are not."""
        ours = self.axis in axes_of(params.get("axis_name"))
        whole = primitive.name.startswith("all_gather") and ours
        return not whole and primitive.name not in _MOVING

    def dimensions(self, specs):
        """Return like the params: the dimension of each that is cut over the axis, or -1."""

        def found(spec):
            cut = [i for i, entry in enumerate(spec) if self.axis in axes_of(entry)]
            return cut[0] if cut else -1

        return jax.tree.map(found, specs, is_leaf=lambda node: isinstance(node, P))

    def layer_moves(self, layout, calls):
        ways = layout.mesh.shape[self.axis]
        if self.stage < 3 or ways == 1:
            return ()
        model, shapes = layout.model, param_shapes(layout.model)
        places = jax.tree.unflatten(jax.tree.structure(shapes), range(len(jax.tree.leaves(shapes))))
        around = partial(self.forgetting, ways=places, fetch=mark)
        fetched_each = fetches(model, self.layers(layout.mesh), around)
        return tuple(
            move
            for shape, spec, turns, fetched in zip(
                *map(jax.tree.leaves, (shapes, layout.places.params, self.turns(shapes))),
                fetched_each,
                strict=True,
            )
            if self.axis in axes_of(spec)
            for move in self._of_one(shape, ways_of(spec, layout.mesh), ways, turns, fetched)
        )

    def turns(self, shapes):
        """Return like the params: in how many turns each array is fetched."""
        return jax.tree.map(lambda _: 1, shapes)

    def _of_one(self, shape, parts: int, ways: int, turns: int, fetched: Fetched):
        """Yield what one array sends: itself each time it is fetched, and its gradient."""
        part = shape.size * fetched.itemsize // parts // turns
        along = (self.axis,)
        yield Collective.by_ring("all_gather", along, ways, part, fetched.times * turns)
        yield Collective.by_ring("reduce_scatter", along, ways, part * ways, turns)


def _names(model: Model, shapes: list) -> list:
    """Return the names of the axes of each array, None where they have none."""
    if model.axes is None:
        return [(None,) * len(shape.shape) for shape in shapes]
    return jax.tree.leaves(model.axes, is_leaf=is_axes)


def _cut(spec: P, shape, names, axis: str, mesh: Mesh) -> P:
    """Return a spec that also cuts the largest whole dimension that divides.

    Never the stacked layers: a scan takes one after another, each from all devices.
    """
    entries = [*spec, *[None] * (len(shape) - len(spec))]
    free = [
        i
        for i, size in enumerate(shape)
        if entries[i] is None and names[i] != "layers" and size and size % mesh.shape[axis] == 0
    ]
    if free:
        entries[max(free, key=lambda i: shape[i])] = axis
    return P(*entries)
