"""Two networks of one training, each on a device of its own."""

import dataclasses
from collections.abc import Callable

import jax
from jax.extend.core import jaxpr_as_fun
from jax.sharding import Mesh

from pdlkit.devices import check_mesh, grid
from pdlkit.errors import lesson, names
from pdlkit.models.layers import ALONE
from pdlkit.models.parts import param_shapes
from pdlkit.records import Collective, Model, Program
from pdlkit.strategies.chain import Chain, chain_moves, stage
from pdlkit.strategies.chain_program import assemble_chain
from pdlkit.strategies.pieces import on_one
from pdlkit.strategies.pipeline.equations import (
    following_from,
    leading_to,
    made_by,
    taken_by,
    without,
)


@dataclasses.dataclass(frozen=True)
class NetworkPlacement:
    """Put two networks on two devices; send what the second reads of the first.

    A generator and its discriminator, a teacher and its student. The loss is cut by
    itself: what can be computed without the second network is computed on the first
    device. What a model notes is not handed out.

    Moves:  what the second network reads of the first, and its gradient on the way back.
    Keeps:  each network's weights and optimizer state on its own device.
    Source: Goodfellow et al. 2014, "Generative Adversarial Nets",
            https://arxiv.org/abs/1406.2661, for the networks; Dean et al. 2012, "Large
            Scale Distributed Deep Networks", for the placement
    """

    first: str = "generator"  # keys of the params
    second: str = "discriminator"
    axis: str = "network"

    def moves(self, model: Model, mesh: Mesh) -> tuple[Collective, ...]:
        """What one step must send, as data: the line `Moves` of the docstring."""
        return chain_moves(self.chain(model, mesh), model)

    def build(self, model: Model, optimizer, mesh: Mesh) -> Program:
        """Return the program on this mesh.

        Raises:
            ValueError: the params are not those of two networks, or the mesh has not
                two devices.
        """
        chain = self.chain(model, mesh)
        return assemble_chain(
            chain, model, optimizer, on=lambda mesh, opt: self.build(model, opt, mesh)
        )

    def chain(self, model: Model, mesh: Mesh) -> Chain:
        """Return the two stages and where their weights live."""
        check_mesh(mesh)
        if dict(mesh.shape) != {self.axis: 2}:
            raise ValueError(
                lesson(
                    f"two networks cannot be placed on a mesh of {grid(mesh.shape)}.",
                    why="each of them has one device.",
                    fix=f"pdl.mesh({self.axis}=2).",
                )
            )
        shapes = param_shapes(model)
        if not isinstance(shapes, dict) or set(shapes) != {self.first, self.second}:
            found = names(shapes) if isinstance(shapes, dict) else f"a {type(shapes).__name__}"
            raise ValueError(
                lesson(
                    f"`{self.first}` and `{self.second}` are not what the params hold: {found}.",
                    why="a network is all the params under one key.",
                    fix="NetworkPlacement(first, second), by the names of the model's networks.",
                )
            )
        homes = map(on_one, mesh.devices)
        cut = _cut(model, self.first, self.second)
        keys = (self.first, self.second)
        return Chain(tuple(map(stage, cut)), dict(zip(keys, homes, strict=True)), mesh)


def _cut(model: Model, first: str, second: str) -> tuple[Callable, Callable]:
    """Return a loss as two functions of own params, x, batch -> x."""
    shapes = param_shapes(model)

    def traced(batch):
        def loss(one, other, batch):
            return model.loss({first: one, second: other}, batch, ALONE)

        trace = jax.make_jaxpr(loss)(shapes[first], shapes[second], batch)
        sizes = [len(jax.tree.leaves(shapes[key])) for key in (first, second)]
        return _Halves(trace, *sizes)

    def before(own, x, batch):
        del x
        halves = traced(batch)
        return halves.first(*jax.tree.leaves((own, batch)))

    def after(own, x, batch):
        (loss,) = traced(batch).second(*jax.tree.leaves((own, x, batch)))
        return loss

    return before, after


class _Halves:
    """A traced loss, as what can be known without the second network, and the rest."""

    def __init__(self, trace, one: int, other: int):
        graph = trace.jaxpr
        given = graph.invars
        self._trace = trace
        ones, others, batch = given[:one], given[one : one + other], given[one + other :]
        # What follows from the batch alone is made where it is read, and not sent.
        common = following_from(graph.eqns, [*batch, *graph.constvars])
        early = without(following_from(graph.eqns, [*ones, *batch, *graph.constvars]), common)
        late = without(graph.eqns, [*common, *early])
        at_hand = {*others, *batch, *graph.constvars} | made_by(common)
        sent = taken_by(late, graph.outvars, but_for=at_hand)
        self.first = self._part([*common, *early], [*ones, *batch], sent)
        self.second = self._part([*common, *late], [*others, *sent, *batch], graph.outvars)

    def _part(self, equations, inputs, outputs) -> Callable:
        piece = self._trace.jaxpr.replace(
            invars=inputs, outvars=outputs, eqns=leading_to(equations, outputs)
        )
        return jaxpr_as_fun(self._trace.replace(jaxpr=piece))
