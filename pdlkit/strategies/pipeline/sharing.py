"""One device's share of a step, with the model cut into stages."""

from collections.abc import Callable, Mapping

import jax
from jax import lax
from jax.sharding import Mesh

from pdlkit.compat import vary, varying_axes
from pdlkit.errors import lesson
from pdlkit.models.layers import ALONE, Layers
from pdlkit.models.parts import is_axes
from pdlkit.records import Model, Parts
from pdlkit.schedules import Table
from pdlkit.strategies.accumulating import divided, together, whole_weights
from pdlkit.strategies.listening import Ear, Heard, Micro
from pdlkit.strategies.meeting import cut_over
from pdlkit.strategies.pipeline.plan import plan
from pdlkit.strategies.pipeline.running import Network, get, run, zeros_of
from pdlkit.strategies.placement import ways_of


def staged_share(
    model: Model, replaced: Mapping[str, Callable], mesh: Mesh, table: Table, *, axis: str
) -> Callable:
    """Return params, batch -> gradients, metrics: one device's share of a step.

    Args:
        model: with its parts.
        replaced: the layer operations that a strategy puts in place of the model's.
        mesh: the devices.
        table: the schedule.
        axis: the mesh axis of the stages.

    Raises:
        ValueError: the model cannot be cut into stages; or, where the share is traced,
            does not divide into micro-batches, or its loss is not the sum of theirs.
    """
    schedule, times, parts = plan(table), table.microbatches, cuttable(model)
    replaced = {**replaced, "note": ALONE.note}

    def share(params, batch):
        axes = cut_over(batch, mesh)
        batches = divided(batch, times)
        params = with_own_ends(params, axis)
        # An ear from outside: a mean over the batch cannot be had within a stage.
        layers = Ear(axes, micro=Micro(times)).layers(replaced)

        def first(params, microbatch):
            return _own(parts.first(params, get(batches, microbatch), layers), axis)

        def end(params, x, batch, micro):
            ear = Ear(axes, micro=micro)
            loss = parts.last(params, x, batch, ear.layers(replaced))
            # As in data parallelism: where it differs, it is a mean over a share.
            ways = ways_of(varying_axes(loss) - {axis}, mesh)
            return loss / ways, Heard(ear.metrics(loss), ear.weights)

        x = zeros_of(first, params["first"], 0)
        weigh = lambda params, batch, micro: end(params, x, batch, micro)  # noqa: E731
        micro = Micro(times, whole_weights(weigh, params["last"], batches, axes))

        def last(params, x, microbatch):
            loss, heard = end(params, x, get(batches, microbatch), micro)
            return loss / times, _own(heard.metrics, axis)

        network = Network(first, _stage(model, layers), last)
        grads, metrics = run(schedule, network, params, axis=axis)
        # Zeros on every stage but the last, so the sum is what the last one heard.
        return grads, jax.tree.map(lambda x: lax.psum(x, axis), together(metrics))

    return share


def cuttable(model: Model) -> Parts:
    """Return the parts of a model that has blocks; raise if it has none."""
    if model.parts is None or model.parts.block is None:
        raise ValueError(
            lesson(
                "this model has no blocks to put on different devices.",
                why="a pipeline cuts between blocks, which a model names in its `parts`.",
                fix="pdl.models.from_parts(pdl.Parts(first, block, last), ...), or a model with "
                "blocks: pdl.models.mlp(64, 10, blocks=8).",
            )
        )
    return model.parts


def with_own_ends(params, axis: str):
    """Mark the weights of both ends as each stage's own: `meet` sums them, once."""
    return params | {name: _own(params[name], axis) for name in ("first", "last")}


def _own(tree, axis: str):
    return jax.tree.map(lambda x: vary(x, (axis,)), tree)


def _stage(model: Model, layers: Layers) -> Callable:
    """Return [params of a block, ...], x -> x: blocks one after another.

    Written out, for what a loop does cannot be cut into its two gradients.
    """
    inner = jax.tree.map(lambda names: names[1:], model.axes["blocks"], is_leaf=is_axes)
    one = cuttable(model).block
    assert one is not None, "which `cuttable` has seen to"
    block = layers.block(lambda params, x: one(params, x, layers), inner)

    def stage(blocks, x):
        for params in blocks:
            x = block(params, x)
        return x

    return stage
