"""Stale gradients: taken with weights that have moved on since."""

import abc
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from pdlkit.errors import lesson
from pdlkit.models.parts import param_shapes
from pdlkit.records import Collective, Model
from pdlkit.strategies.clocks import Clocks, clock_table, drawn_seconds
from pdlkit.strategies.layout import Remembered, assemble, lay_out
from pdlkit.strategies.meeting import meet, whole_share
from pdlkit.strategies.placement import check_axes
from pdlkit.strategies.spmd import Spmd


class Stale(Spmd, abc.ABC):
    """Data parallelism in which each device may take its gradient with old weights.

    The last weights are kept on every device, and not old gradients, since devices
    may want them of different ages. Before there are any of an age, the first
    weights stand in. Each step notes the `staleness` of each device, in steps.
    """

    axis: str

    @abc.abstractmethod
    def ages(self, devices: int) -> np.ndarray:
        """[steps, devices], how many steps old the weights of each are; then anew."""

    def cuts(self):
        return {"batch": self.axis}

    def split(self):
        raise ValueError(
            lesson(
                f"{self.name} cannot be part of a hybrid.",
                why="it keeps old weights itself, whole, on every device.",
                fix=f"{self.name} alone, on a mesh with `{self.axis}`.",
            )
        )

    def build(self, model, optimizer, mesh):
        layout = lay_out(self, model, optimizer, mesh)
        ages = self.ages(mesh.shape[self.axis]).astype(np.int32)
        slots = int(ages.max()) + 1
        share = whole_share(model, {}, mesh)

        def on_each_device(history, step, age, batch):
            own = jax.tree.map(lambda rows: rows[(step - age[0]) % slots], history)
            grads, metrics = share(own, batch)
            grads = meet(own, grads, places=layout.places)
            return grads, metrics._replace(notes={**metrics.notes, "staleness": age})

        on_all = jax.shard_map(
            on_each_device,
            mesh=mesh,
            in_specs=(P(), P(), P(self.axis), layout.batch),
            out_specs=(layout.places.kept, P(mesh.axis_names)),
        )

        def gradients(state, batch):
            history = jax.tree.map(
                lambda rows, new: rows.at[state.step % slots].set(new), state.memory, state.params
            )
            age = jnp.asarray(ages)[state.step % len(ages)]
            return *on_all(history, state.step, age, batch), history

        def first(params):
            return jax.tree.map(lambda x: jnp.broadcast_to(x, (slots, *x.shape)), params)

        def on(mesh, optimizer):
            return self.build(model, optimizer, mesh)

        return assemble(layout, gradients, on=on, memory=Remembered(first, P()))


@dataclasses.dataclass(frozen=True)
class StaleGradients(Stale):
    """Apply gradients that were taken with the weights of `delay` steps ago.

    So it is in a pipeline that does not wait, or with a slow network that gradients
    cross while the next are computed. For the first `delay` steps those are the first
    weights. `delay=0` leaves the weights of one device.

    Moves:  one all-reduce of the gradients a step.
    Keeps:  all parameters and optimizer state on every device, and the weights of the
            last `delay` + 1 steps.
    Source: Langford, Smola and Zinkevich 2009, "Slow Learners are Fast",
            https://arxiv.org/abs/0911.0491
    """

    delay: int = 1
    axis: str = "data"

    def __post_init__(self):
        _check_not_negative(self.name, "delay", self.delay)

    def ages(self, devices):
        return np.full((1, devices), self.delay)


@dataclasses.dataclass(frozen=True)
class BoundedStaleness(Stale):
    """Let devices run ahead of the slowest, with weights up to `bound` steps old.

    Who is ahead comes from simulated clocks: a table, drawn from a seed, that can be
    had from `clocks` and replayed. After its `steps` it begins anew. All gradients of
    one step are applied together, as a server does that waits for the slowest. The
    devices here keep step, and all-reduce; what they would send to and fetch from a
    parameter server, `server_moves` says. `bound=0` leaves the weights of one device.

    Moves:  one all-reduce of the gradients a step.
    Keeps:  all parameters and optimizer state on every device, and the weights of the
            last `bound` + 1 steps.
    Source: Ho et al. 2013, "More Effective Distributed ML via a Stale Synchronous
            Parallel Parameter Server", https://papers.nips.cc/paper/4894
    """

    bound: int = 3
    speeds: tuple[float, ...] | None = None  # steps a second of each device; None: all 1
    jitter: float = 0.3  # standard deviation of the logarithm of a step's time
    seed: int = 0
    steps: int = 256  # that are drawn
    axis: str = "data"

    def __post_init__(self):
        _check_not_negative(self.name, "bound", self.bound)

    def clocks(self, devices: int) -> Clocks:
        """Return when each of so many devices computes, and from which weights.

        Raises:
            ValueError: there are speeds for another number of devices.
        """
        speeds = (1.0,) * devices if self.speeds is None else self.speeds
        if len(speeds) != devices:
            raise ValueError(
                lesson(
                    f"there are {len(speeds)} speeds, but {self.axis}={devices} devices.",
                    why="each device runs at a speed of its own.",
                    fix=f"speeds of {devices} devices, or none.",
                )
            )
        seconds = drawn_seconds(speeds, steps=self.steps, jitter=self.jitter, seed=self.seed)
        return clock_table(seconds, bound=self.bound)

    def ages(self, devices):
        return self.clocks(devices).staleness

    def server_moves(self, model: Model, mesh: Mesh) -> tuple[Collective, ...]:
        """What all devices together would send to a server and fetch, over the table.

        Each step every device pushes its gradients; it pulls the weights only when
        there are newer ones than it has.
        """
        check_axes(self.name, [self.axis], mesh)
        devices = mesh.shape[self.axis]
        size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(param_shapes(model)))
        times = {"push": self.steps * devices, "pull": int(self.clocks(devices).pulled.sum())}
        return tuple(
            Collective("copy", (self.axis,), 2, size, size, count, what)
            for what, count in times.items()
        )


def _check_not_negative(who: str, what: str, number: int) -> None:
    if number < 0:
        raise ValueError(
            lesson(
                f"{who} has a {what} of {number} steps.",
                why="gradients cannot be taken with weights that are not there yet.",
                fix=f"{what}=0, which is to wait for all, or more.",
            )
        )
