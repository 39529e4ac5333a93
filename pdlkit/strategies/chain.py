"""A loss as a chain of stages, each run on the device where its weights live."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, Sharding

from pdlkit.models.parts import param_shapes
from pdlkit.records import Collective, Model
from pdlkit.strategies.calls import example_of
from pdlkit.strategies.pieces import Recorder, Runner, on_one


@dataclasses.dataclass(frozen=True)
class Chain:
    """Stages one after another, as many as the mesh has devices.

    The x of the last one is the loss. Only the first and the last are given the batch.
    """

    stages: tuple[Callable, ...]  # as `stage` gives them
    homes: Mapping[str, Sharding]  # key of the params -> one device, or stacked over all
    mesh: Mesh

    @property
    def devices(self) -> list:
        """The device of each stage."""
        return list(self.mesh.devices.flat)

    def gradients(self, runner: Runner, params, batch):
        """Return the loss and its gradients: there and back, one device at a time."""
        places, owns = [on_one(device) for device in self.devices], self._apart(runner, params)
        x: Any = None
        came_from, pulls = None, []
        for forward, own, here in zip(self.stages, owns, places, strict=True):
            x = runner.send(x, came_from, here)
            read = runner.send(batch, None, here) if here in (places[0], places[-1]) else None
            x, pull = runner.run(forward, here, own, x, read)
            pulls.append(pull)
            came_from = here
        loss, gradient, of_params = x, np.ones((), x.dtype), []
        for pull, here in zip(reversed(pulls), reversed(places), strict=True):
            gradient = runner.send(gradient, came_from, here)
            own, gradient = runner.run(_backward, here, pull, gradient)
            of_params.insert(0, own)
            came_from = here
        return loss, self._together(runner, of_params)

    def _apart(self, runner: Runner, params) -> list[dict]:
        """Return for each device the params that live on it."""
        owns = [{} for _ in self.devices]
        for name, home in self.homes.items():
            if isinstance(home, NamedSharding):
                leaves, tree = jax.tree.flatten(params[name])
                rows = zip(*(runner.apart(leaf, self.devices) for leaf in leaves), strict=True)
                for own, leaves in zip(owns, rows, strict=True):
                    own[name] = jax.tree.unflatten(tree, leaves)
            else:
                (device,) = home.device_set
                owns[self.devices.index(device)][name] = params[name]
        return owns

    def _together(self, runner: Runner, owns: list[dict]) -> dict:
        """Return a tree like the params from the part that each device has of it."""
        whole = {}
        for name, home in self.homes.items():
            held = [own[name] for own in owns if name in own]
            if isinstance(home, NamedSharding):
                join = lambda *rows, home=home: runner.together(rows, home)  # noqa: E731
                whole[name] = jax.tree.map(join, *held)
            else:
                (whole[name],) = held
        return whole


def stage(function: Callable) -> Callable:
    """Return own params, x, batch -> x, and what turns its gradient into theirs.

    Args:
        function: own params, x, batch -> x.
    """

    @jax.jit
    def forward(own, x, batch):
        return jax.vjp(lambda own, x: function(own, x, batch), own, x)

    return forward


@jax.jit
def _backward(pull, gradient):
    return pull(gradient)


def chain_moves(chain: Chain, model: Model) -> tuple[Collective, ...]:
    """Return what a chain sends there and back, as data.

    Raises:
        ValueError: the model has no example of a batch, so the sizes are not known.
    """
    recorder = Recorder(chain.mesh)
    chain.gradients(recorder, param_shapes(model), example_of(model))
    return tuple(recorder.copies)
