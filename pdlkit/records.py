"""The records that everything else passes around."""

import dataclasses
import importlib
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

Params = Any  # a pytree of arrays


class Parts(NamedTuple):
    """A model cut where a strategy may cut between layers.

    `params` has the keys `first`, `blocks` (each array with a leading `layers`
    axis; absent where `block` is None) and `last`.
    """

    first: Callable  # params["first"], batch, layers -> x
    block: Callable | None  # one block's params, x, layers -> x
    last: Callable  # params["last"], x, batch, layers -> scalar


class Model(NamedTuple):
    """Pure functions and tables."""

    init: Callable  # key -> params
    loss: Callable  # params, batch, layers -> scalar
    axes: Any  # like params, each array replaced by the names of its axes
    batch_axes: Any = None  # like a batch, likewise; None: first dimension is `batch`
    parts: Parts | None = None
    predict: Callable | None = None  # params, batch, layers -> [batch, ...]
    example: Any = None  # shapes and dtypes of one batch; a Workload fills it in
    rounding: float = 0.0  # how far its gradients may be from those of float32, as a share
    padding: int | None = None  # a label that its loss does not count


class State(NamedTuple):
    """All that one step hands to the next."""

    step: Any  # [], how many updates were made
    params: Params
    optimizer: Any
    memory: Any = ()  # what a strategy remembers itself, e.g. compression residue


class Metrics(NamedTuple):
    """What one step says of itself, still on the devices."""

    device_loss: Any  # [mesh.size], in mesh order
    notes: Mapping[str, Any] = {}  # name -> [mesh.size, ...]
    device_weight: Any = None  # [mesh.size] where the shares are not equal

    @property
    def loss(self) -> float:
        """The loss of the whole batch; reading it waits for the step."""
        losses = np.asarray(self.device_loss, dtype=np.float64)
        if self.device_weight is None:
            return float(losses.mean())
        weights = np.asarray(self.device_weight, dtype=np.float64)
        held = weights > 0  # a share without a single example has no loss of its own
        return float(np.average(losses[held], weights=weights[held]))


def unchanged(thing):
    """Return a thing as it came: the default of what a program need not do."""
    return thing


class Program(NamedTuple):
    """What runs: pure functions, bound to one mesh."""

    init: Callable  # params -> State, placed on the mesh
    step: Callable  # state, batch -> State, Metrics
    gather: Callable  # State -> params, whole again, on the host
    on: Callable  # mesh[, optimizer] -> Program: the same one elsewhere, or with another
    mesh: Any  # jax.sharding.Mesh
    place: Callable = unchanged  # batch -> batch, cut and on its devices
    whole: Callable = unchanged  # State -> State, as one device would keep it
    spread: Callable = unchanged  # the way back, but for where the arrays are

    def __repr__(self) -> str:
        return f"<program on {' x '.join(f'{name}={n}' for name, n in self.mesh.shape.items())}>"


class Shown:
    """A record that a notebook draws; its lowering is looked up when asked.

    The one place where a lower floor reaches up: a record must be able to show
    itself, and must not import what draws it.
    """

    def _repr_mimebundle_(self, include=None, exclude=None):
        return importlib.import_module("pdlkit.drawing").bundle(self)


class Collective(NamedTuple):
    """One message pattern of a step, as counted on one device."""

    kind: str  # all_reduce all_gather reduce_scatter all_to_all permute copy
    axes: tuple[str, ...]  # mesh axes it runs along
    group: int  # devices that take part together
    payload_bytes: int  # size of the operand on one device
    wire_bytes: int  # what one device sends, by the ring algorithm
    times: int = 1  # how often one step runs it
    source: str = ""  # file:line that asked for it
    in_branch: bool = False  # of a conditional: some steps may go without it

    @classmethod
    def by_ring(cls, kind: str, axes: tuple[str, ...], group: int, payload: int, *rest):
        """Return one with the wire bytes of the ring algorithm; `rest` as it comes."""
        return cls(kind, axes, group, payload, ring_wire_bytes(kind, group, payload), *rest)


def ring_wire_bytes(kind: str, group: int, payload_bytes: int) -> int:
    """Return the bytes that one of `group` devices sends for one collective.

    Args:
        kind: a `Collective.kind`.
        group: devices that take part.
        payload_bytes: size of the operand on one device.

    Source: Thakur, Rabenseifner and Gropp 2005, "Optimization of Collective
    Communication Operations in MPICH", doi:10.1177/1094342005051521
    """
    others = group - 1
    if kind == "all_reduce":  # a reduce-scatter, then an all-gather of the chunks
        return -(-2 * others * payload_bytes // group)
    if kind == "all_gather":
        return others * payload_bytes
    if kind in ("reduce_scatter", "all_to_all"):
        return -(-others * payload_bytes // group)
    return payload_bytes if kind == "copy" or others else 0


class Event(NamedTuple):
    """Something that a device does for a while."""

    device: int
    start: float  # seconds
    end: float  # seconds
    kind: str  # events of one kind share a colour
    label: str = ""


class Memory(NamedTuple):
    """What one device holds for one step, in bytes, as the compiler planned it."""

    arguments: int
    outputs: int
    temporaries: int
    aliased: int  # outputs that reuse an argument's place

    @property
    def total(self) -> int:
        """Bytes at the same time: arguments, outputs and temporaries."""
        return self.arguments + self.outputs - self.aliased + self.temporaries


@dataclasses.dataclass(frozen=True)
class Report(Shown):
    """Counted: what one step of a program does, read off it, nothing run."""

    asked: tuple[Collective, ...]  # in the traced program
    collectives: tuple[Collective, ...]  # in the compiled program
    flops: int  # one device, one step, loops multiplied out; spread evenly where `jit` spreads
    memory: Memory  # one device
    mesh: Mapping[str, int]  # axis -> size
    operations: int = 0  # that one device starts in one step, as they were compiled
    bytes_accessed: int = 0  # that these read and write
    programs: int = 1  # that the host starts in one step, copies between them included

    @property
    def wire_bytes(self) -> int:
        """Bytes that one device sends in one step at most, by the ring algorithm."""
        return sum(each.wire_bytes * each.times for each in self.collectives)


@dataclasses.dataclass(frozen=True)
class Record:
    """One step of training, as it is handed out."""

    step: int  # updates made before this one
    metrics: Metrics
    seconds: float  # measured: wall time a step over the last 8, the caller's own work included
    state: State | None = None  # valid until the next record; None in a history
    waiting: float = math.nan  # of these seconds, how many the loop waited for its devices

    @property
    def loss(self) -> float:
        """The loss of the whole batch; reading it waits for the step."""
        return self.metrics.loss

    @property
    def device_loss(self):
        """[mesh.size], the loss of each device's own share."""
        return np.asarray(self.metrics.device_loss)

    @property
    def notes(self) -> Mapping[str, Any]:
        """What the model noted: name -> [mesh.size, ...]."""
        return self.metrics.notes


@dataclasses.dataclass(frozen=True)
class Training:
    """What a watcher is told before the first step, and when the mesh changes."""

    name: str  # the workload's
    first: int  # the step it begins with
    last: int  # the one it ends before
    mesh: Mapping[str, int]  # axis -> size
    devices_here: int  # to how many it could grow
    learning_rate: float | None  # None where it cannot be set
    awaited: bool  # whether clicks arrive while it runs
    inspect: Callable[[], Report]  # counts what one step does; compiles it
