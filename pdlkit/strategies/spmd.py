"""One program on every device: a strategy as its differences from one device."""

import dataclasses
from collections.abc import Callable

import jax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from pdlkit.errors import lesson
from pdlkit.models.parts import param_shapes
from pdlkit.records import Collective, Model, Program
from pdlkit.strategies.calls import check_calls
from pdlkit.strategies.layout import assemble, lay_out
from pdlkit.strategies.meeting import gradient_moves, meet, vary_params, whole_share
from pdlkit.strategies.placement import param_specs


@dataclasses.dataclass(frozen=True)
class Spmd:
    """A strategy that is at most four differences from one device.

    Subclasses override any of them; how gradients meet follows from `cuts`.
    """

    @property
    def name(self) -> str:
        """What errors call it."""
        return type(self).__name__

    def rules(self) -> dict[str, str]:
        """Where parameters live: array axis -> mesh axis."""
        return {}

    def cuts(self) -> dict[str, str]:
        """How the batch is cut: batch axis -> mesh axis."""
        return {}

    def layers(self, mesh: Mesh) -> dict[str, Callable]:
        """How layers talk: names of layer operations -> what replaces them."""
        del mesh
        return {}

    def gradients(self, model: Model, layers: dict[str, Callable], mesh: Mesh) -> Callable:
        """How loss and gradients come about: params, batch -> gradients, metrics.

        Run on each device with its own share; see `meeting.whole_share`.
        """
        return whole_share(model, layers, mesh)

    def layer_moves(self, model: Model, mesh: Mesh) -> tuple[Collective, ...]:
        """What the replaced layer operations send in one step, there and back."""
        del model, mesh
        return ()

    def moves(self, model: Model, mesh: Mesh) -> tuple[Collective, ...]:
        """What one step must send, as data: the line `Moves` of the docstring."""
        shapes = param_shapes(model)
        specs = param_specs(model, self.rules(), mesh)
        gradients = gradient_moves(shapes, specs, tuple(self.cuts().values()), mesh)
        return gradients + self.layer_moves(model, mesh)

    def __or__(self, other: "Spmd") -> "Spmd":
        return Hybrid((*self.split(), *other.split()))

    def split(self) -> "tuple[Spmd, ...]":
        """The strategies it is made of; of most, itself."""
        return (self,)

    def build(self, model: Model, optimizer, mesh: Mesh) -> Program:
        """Return the program on this mesh.

        Raises:
            ValueError: model, strategy and mesh do not fit; nothing was run.
        """
        layers = self.layers(mesh)
        if model.example is not None:
            check_calls(self.name, model, layers, model.example)
        layout = lay_out(self, model, optimizer, mesh)
        share, cut = self.gradients(model, layers, mesh), tuple(self.cuts().values())

        def on_each_device(params, batch):
            own = vary_params(params, layout.params, cut)
            grads, metrics = share(own, batch)
            return meet(grads, layout.params, cut), metrics

        on_all = jax.shard_map(
            on_each_device,
            mesh=mesh,
            in_specs=(layout.params, layout.batch),
            out_specs=(layout.params, P(mesh.axis_names)),
        )

        def gradients(params, batch):
            if model.example is None:  # outside a Workload, the first batch is the first to show
                check_calls(self.name, model, layers, batch)
            return on_all(params, batch)

        return assemble(layout, gradients, on=lambda mesh, opt: self.build(model, opt, mesh))


@dataclasses.dataclass(frozen=True)
class Hybrid(Spmd):
    """Several strategies at once, each on a mesh axis of its own: `a | b`."""

    parts: tuple[Spmd, ...]

    def __post_init__(self):
        for table in ("rules", "cuts"):
            self._join(table)

    def split(self):
        return self.parts

    @property
    def name(self):
        return " | ".join(part.name for part in self.parts)

    def rules(self):
        return self._join("rules")

    def cuts(self):
        return self._join("cuts")

    def layers(self, mesh):
        return self._join("layers", mesh)

    def gradients(self, model, layers, mesh):
        own = [p for p in self.parts if type(p).gradients is not Spmd.gradients]
        if len(own) > 1:
            raise ValueError(_collision(own[0], own[1], "how gradients come about"))
        if own:
            return own[0].gradients(model, layers, mesh)
        return super().gradients(model, layers, mesh)

    def layer_moves(self, model, mesh):
        return tuple(move for part in self.parts for move in part.layer_moves(model, mesh))

    def _join(self, table, *arguments):
        joined, owner = {}, {}
        for part in self.parts:
            for name, value in getattr(part, table)(*arguments).items():
                if name in joined:
                    raise ValueError(_collision(owner[name], part, f"`{name}` of its {table}"))
                joined[name], owner[name] = value, part
        return joined


def _collision(one, other, what) -> str:
    return lesson(
        f"{one.name} | {other.name} cannot be: both say {what}.",
        why="in a hybrid each part changes something else.",
        fix="give one of them another axis, or leave one out.",
    )
