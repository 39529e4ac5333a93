"""One program on every device: a strategy as its differences from one device."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from jax.sharding import Mesh

from pdlkit.errors import lesson
from pdlkit.models.parts import param_shapes
from pdlkit.records import Collective, Model, Program
from pdlkit.strategies.calls import Call, local_calls
from pdlkit.strategies.disagreeing import collision, no_part, out_of_step
from pdlkit.strategies.everywhere import each_device
from pdlkit.strategies.layout import Layout, assemble, lay_out
from pdlkit.strategies.meeting import (
    gradient_moves,
    mean_moves,
    meet,
    whole_share,
)
from pdlkit.strategies.placement import Places, axes_of


@dataclasses.dataclass(frozen=True)
class Spmd:
    """A strategy that is at most four differences from one device.

    Subclasses override any of `rules`, `cuts`, `layers` and `gradients`; how gradients
    meet follows from `cuts`. The rest is rarer.
    """

    accumulate = 1  # micro-batches that a device takes its share in, one after another
    early = False  # whether the gradients of each micro-batch meet, or only their sum
    apart = ()  # mesh axes, beside the cuts, along which gradients differ
    by_permutes = False  # whether layers send to neighbours, which all devices must do at once

    @property
    def name(self) -> str:
        """What errors call it."""
        return type(self).__name__

    def rules(self) -> dict[str, str]:
        """Where parameters live: array axis -> mesh axis."""
        return {}

    def cuts(self) -> Mapping[str, str | tuple[str, ...]]:
        """How the batch is cut: batch axis -> mesh axis, or several."""
        return {}

    def layers(self, mesh: Mesh) -> dict[str, Callable]:
        """How layers talk: names of layer operations -> what replaces them."""
        del mesh
        return {}

    def gradients(self, model: Model, layers: dict[str, Callable], mesh: Mesh) -> Callable:
        """How gradients come about: params, batch -> gradients, metrics.

        Run on each device with its own share; see `meeting.whole_share`.
        """
        layout = lay_out(self, model, None, mesh)
        around, settle = partial(self.around, layout=layout), partial(meet, places=layout.places)
        return whole_share(
            model,
            layers,
            mesh,
            around=around,
            times=self.accumulate,
            settle=settle if self.early else None,
        )

    def around(self, loss: Callable, layout: Layout) -> Callable:
        """What stands round the loss on each device.

        Args:
            loss: params, batch[, `Micro`] -> loss, `Heard`; so is what is returned.
            layout: where everything lives.
        """
        del layout
        return loss

    def homes(self, places: Places, model: Model, mesh: Mesh) -> Places:
        """Where arrays live, beyond what their axes' names and `rules` say."""
        del model, mesh
        return places

    def order(self, depth: int, mesh: Mesh) -> Sequence[int] | None:
        """Which layer each row of the stacked blocks holds; None: as they come."""
        del depth, mesh
        return None

    def layer_moves(self, layout: Layout, calls: tuple[Call, ...]) -> tuple[Collective, ...]:
        """What is sent beside the gradients in one pass, there and back.

        Args:
            layout: where everything lives.
            calls: of layer operations, as one device makes them.
        """
        del layout, calls
        return ()

    def step_moves(self, layout: Layout, calls: tuple[Call, ...]) -> tuple[Collective, ...]:
        """What else is sent, once a step."""
        del layout, calls
        return ()

    def moves(self, model: Model, mesh: Mesh) -> tuple[Collective, ...]:
        """What one step must send, as data: the line `Moves` of the docstring."""
        layout = lay_out(self, model, None, mesh)
        shapes, times = param_shapes(model), self.accumulate if self.early else 1
        return (
            *gradient_moves(
                shapes, layout.places, (*layout.cut_axes, *self.apart), mesh, times=times
            ),
            *self.other_moves(layout),
        )

    def other_moves(self, layout: Layout) -> tuple[Collective, ...]:
        """What one step must send beside the gradients, as data."""
        calls = local_calls(self, layout)
        between = self.layer_moves(layout, calls)
        return (
            *self.step_moves(layout, calls),
            *(each._replace(times=each.times * self.accumulate) for each in between),
            *mean_moves(calls, layout.cut_axes, layout.mesh, times=self.accumulate),
        )

    def __or__(self, other: "Spmd") -> "Spmd":
        if isinstance(other, Spmd):
            return Hybrid((*self.split(), *other.split()))
        if hasattr(other, "__ror__"):  # Compressed
            return NotImplemented
        raise TypeError(no_part(f"{self.name} | {type(other).__name__}", other))

    def __ror__(self, other) -> "Spmd":
        raise TypeError(no_part(f"{type(other).__name__} | {self.name}", other))

    def split(self) -> "tuple[Spmd, ...]":
        """The strategies it is made of; of most, itself."""
        return (self,)

    def build(self, model: Model, optimizer, mesh: Mesh) -> Program:
        """Return the program on this mesh.

        Raises:
            ValueError: model, strategy and mesh do not fit; nothing was run.
        """
        layout = lay_out(self, model, optimizer, mesh)
        on_all = each_device(self, layout)

        def gradients(state, batch):
            return *on_all(state.params, batch), state.memory

        return assemble(layout, gradients, on=lambda mesh, opt: self.build(model, opt, mesh))


def check_inner(who: str, inner) -> None:
    """Raise if `who` cannot change a strategy, which builds its program itself.

    Raises:
        ValueError: it does; what it does then would be left out without a word.
    """
    if not isinstance(inner, Spmd) or type(inner).build is not Spmd.build:
        name = type(inner).__name__
        raise ValueError(
            lesson(
                f"{who}({name}(...)) cannot be.",
                why=f"{name} puts its steps together itself, and so does {who}.",
                fix=f"{who} round DataParallel, TensorParallel or a hybrid of such; or {name} "
                "alone.",
            )
        )


@dataclasses.dataclass(frozen=True)
class Hybrid(Spmd):
    """Several strategies at once, each on a mesh axis of its own: `a | b`."""

    parts: tuple[Spmd, ...]

    def __post_init__(self):
        self._join("rules")
        self.cuts()
        self._check_axes()
        self._one("how many micro-batches there are", lambda part: part.accumulate > 1)

    def _check_axes(self):
        owner: dict[str, Spmd] = {}
        for part in self.parts:
            for axis in sorted(axes_of((*part.rules().values(), *part.cuts().values()))):
                if axis in owner:
                    raise ValueError(collision(owner[axis], part, f"what mesh axis `{axis}` cuts"))
                owner[axis] = part

    def split(self):
        return self.parts

    @property
    def name(self):
        return " | ".join(part.name for part in self.parts)

    @property
    def accumulate(self):
        return max(part.accumulate for part in self.parts)

    @property
    def early(self):
        return any(part.early for part in self.parts) and not self.apart  # a pipeline's meet once

    @property
    def apart(self):
        return tuple(axis for part in self.parts for axis in part.apart)

    def rules(self):
        return self._join("rules")

    def cuts(self):
        joined: dict[str, tuple[str, ...]] = {}
        owner: dict[tuple[str, str], Spmd] = {}
        for part in self.parts:
            for name, axes in part.cuts().items():
                for axis in sorted(axes_of(axes)):
                    if (name, axis) in owner:
                        raise ValueError(
                            collision(owner[name, axis], part, f"`{name}` of its cuts")
                        )
                    owner[name, axis] = part
                    joined[name] = (*joined.get(name, ()), axis)
        return joined

    def layers(self, mesh):
        return self._join("layers", mesh)

    def gradients(self, model, layers, mesh):
        what = "how gradients come about"
        own = self._one(what, lambda p: type(p).gradients is not Spmd.gradients)
        if own is None:
            return super().gradients(model, layers, mesh)
        layout = lay_out(self, model, None, mesh)
        for part in self.parts:
            if part.by_permutes:
                raise ValueError(out_of_step(own, part))
            # It would have to stand round a loss that a pipeline never takes in one piece.
            wraps = part.around(abs, layout) is not abs
            if part is not own and (part.accumulate > 1 or wraps):
                raise ValueError(collision(own, part, what))
        return own.gradients(model, layers, mesh)

    def around(self, loss, layout):
        for part in self.parts:
            loss = part.around(loss, layout)
        return loss

    def homes(self, places, model, mesh):
        for part in self.parts:
            places = part.homes(places, model, mesh)
        return places

    def order(self, depth, mesh):
        what = "the order of layers"
        own = self._one(what, lambda part: part.order(depth, mesh) is not None)
        return own and own.order(depth, mesh)

    def step_moves(self, layout, calls):
        return tuple(move for part in self.parts for move in part.step_moves(layout, calls))

    def layer_moves(self, layout, calls):
        return tuple(move for part in self.parts for move in part.layer_moves(layout, calls))

    def _one(self, what, says):
        """Return the one part that says something; None if none does."""
        own = [part for part in self.parts if says(part)]
        if len(own) > 1:
            raise ValueError(collision(own[0], own[1], what))
        return own[0] if own else None

    def _join(self, table, *arguments):
        joined, owner = {}, {}
        for part in self.parts:
            for name, value in getattr(part, table)(*arguments).items():
                if name in joined:
                    raise ValueError(collision(owner[name], part, f"`{name}` of its {table}"))
                joined[name], owner[name] = value, part
        return joined
