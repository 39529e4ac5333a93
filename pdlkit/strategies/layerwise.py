"""Layer-wise placement: whole layers on different devices, one at work at a time."""

import dataclasses
from collections.abc import Callable

import jax
from jax.sharding import Mesh, NamedSharding, Sharding
from jax.sharding import PartitionSpec as P

from pdlkit.devices import check_mesh, grid
from pdlkit.errors import fitting_sizes, lesson
from pdlkit.models.layers import ALONE
from pdlkit.models.parts import param_shapes, repeat
from pdlkit.records import Collective, Model, Parts, Program
from pdlkit.strategies.chain import Chain, chain_moves, stage
from pdlkit.strategies.chain_program import assemble_chain
from pdlkit.strategies.pieces import on_one
from pdlkit.strategies.placement import check_axes


@dataclasses.dataclass(frozen=True)
class LayerPlacement:
    """Put whole layers on different devices; send what goes from one to the next.

    The first layers are on the first device, the last on the last, blocks in runs
    of equal length between them. A model without blocks takes two devices: its
    convolutions are on one, its dense layers on the other. For a model that is too
    large for one device; it is not faster, for a device waits until the one before it
    is done. Pipelines are the answer. What a model notes is not handed out.

    Moves:  activations over every boundary, and their gradients on the way back.
    Keeps:  each layer's weights and optimizer state on one device.
    Source: Krizhevsky 2014, "One weird trick for parallelizing convolutional neural
            networks", https://arxiv.org/abs/1404.5997
    """

    axis: str = "stage"

    def moves(self, model: Model, mesh: Mesh) -> tuple[Collective, ...]:
        """What one step must send, as data: the line `Moves` of the docstring."""
        return chain_moves(self.chain(model, mesh), model)

    def build(self, model: Model, optimizer, mesh: Mesh) -> Program:
        """Return the program on this mesh.

        Raises:
            ValueError: the model cannot be cut between layers, or not among so many
                devices.
        """
        chain = self.chain(model, mesh)
        return assemble_chain(
            chain, model, optimizer, on=lambda mesh, opt: self.build(model, opt, mesh)
        )

    def chain(self, model: Model, mesh: Mesh) -> Chain:
        """Return the stages and where each one's weights live."""
        check_mesh(mesh)
        check_axes(type(self).__name__, [self.axis], mesh)
        _check_one_axis(self.axis, mesh)
        parts = _cuttable(model, mesh.size, self.axis)
        devices = mesh.devices.ravel()
        homes: dict[str, Sharding] = {
            "first": on_one(devices[0]),
            "last": on_one(devices[-1]),
        }
        if parts.block is not None:
            homes["blocks"] = NamedSharding(mesh, P(self.axis))
        return Chain((stage(_layers(parts, model.axes)),) * mesh.size, homes, mesh)


def _layers(parts: Parts, axes) -> Callable:
    """Return own params, x, batch -> x: it runs the layers whose params it is given."""

    def run(own, x, batch):
        if "first" in own:
            x = parts.first(own["first"], batch, ALONE)
        if parts.block is not None:
            x = repeat(parts.block, own["blocks"], x, axes=axes["blocks"], layers=ALONE)
        if "last" in own:
            x = parts.last(own["last"], x, batch, ALONE)
        return x

    return run


def _check_one_axis(axis: str, mesh: Mesh) -> None:
    if mesh.shape[axis] != mesh.size:
        raise ValueError(
            lesson(
                f"LayerPlacement works along `{axis}` alone, but this mesh is {grid(mesh.shape)}.",
                why="a layer is on one device, not on one of each row.",
                fix=f"pdl.mesh({axis}={mesh.size}), or a Pipeline, which can be joined to others.",
            )
        )


def _cuttable(model: Model, ways: int, axis: str) -> Parts:
    """Return the parts of a model, or raise if they cannot go on so many devices."""
    if model.parts is None:
        raise ValueError(
            lesson(
                "this model does not say where it can be cut between layers.",
                why="its loss is one function.",
                fix="pdl.models.from_parts(pdl.Parts(first, block, last), ...), as pdl.models do.",
            )
        )
    if model.parts.block is None:
        if ways != 2:
            raise ValueError(
                lesson(
                    f"this model has no repeated blocks, so its layers cannot go on {axis}={ways}.",
                    why="it is cut in one place: its first layers here, its last ones there.",
                    fix=f"pdl.mesh({axis}=2), or a model with blocks.",
                )
            )
        return model.parts
    depth = jax.tree.leaves(param_shapes(model)["blocks"])[0].shape[0]
    if depth % ways:
        raise ValueError(
            lesson(
                f"{depth} blocks do not divide among {axis}={ways}.",
                why="stacked blocks are cut evenly: every device has as many.",
                fix=f"a model with {fitting_sizes(depth, ways)} blocks, or fewer devices.",
            )
        )
    return model.parts
