"""Uneven data parallelism: a faster device takes more of the batch."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from pdlkit.devices import check_mesh
from pdlkit.errors import lesson
from pdlkit.models.parts import param_shapes
from pdlkit.records import Collective, Program
from pdlkit.strategies.batch import batch_check
from pdlkit.strategies.calls import means_alone
from pdlkit.strategies.meeting import gradient_moves
from pdlkit.strategies.placement import Places, check_axes
from pdlkit.strategies.strategy import first_state, update
from pdlkit.strategies.uneven_share import heard_loss, uneven_share


@dataclasses.dataclass(frozen=True)
class UnevenDataParallel:
    """Cut the batch by what each device can do; weigh each part by its examples.

    Each device runs a program made for its own number of examples, so that none
    computes on padding. With shares in proportion to their speeds, all are ready at
    the same time; `balanced_shares` finds them.

    Moves:  one all-reduce of the gradients a step, and before it one of the weight of
            each `layers.mean`.
    Keeps:  all parameters and optimizer state on every device.
    Source: Tyagi and Sharma 2020, "Taming Resource Heterogeneity in Distributed ML
            Training with Dynamic Batching", https://arxiv.org/abs/2305.12213
    """

    shares: tuple[float, ...]  # of the batch, one a device; only their ratios matter
    axis: str = "data"

    def moves(self, model, mesh):
        """What one step must send, as data: the line `Moves` of the docstring."""
        check_axes(type(self).__name__, [self.axis], mesh)
        group = mesh.shape[self.axis]
        weights = [weight for _, weight in means_alone(model)] if group > 1 else []
        sizes = [getattr(weight, "bytes", np.float32().nbytes) for weight in weights]
        return (
            *(Collective.by_ring("all_reduce", (self.axis,), group, size) for size in sizes),
            *gradient_moves(param_shapes(model), _whole(model), (self.axis,), mesh),
        )

    def build(self, model, optimizer, mesh) -> Program:
        """Return the program on this mesh.

        Raises:
            ValueError: there is not one share for each device, one is negative, or
                none is above 0.
        """
        check_mesh(mesh)
        check_axes(type(self).__name__, [self.axis], mesh)
        _check_shares(self.shares, self.axis, mesh)
        check = batch_check(model, {}, mesh)
        everywhere, cut = (NamedSharding(mesh, spec) for spec in (P(), P(self.axis)))

        def deal(batch) -> _Dealt:
            if isinstance(batch, _Dealt):
                return batch
            check(batch)
            return _deal(batch, self.shares)

        @jax.jit
        def step(state, batch):
            dealt = deal(batch)
            rows = apportioned(self.shares, dealt.examples)
            loss = heard_loss(model, state.params, dealt.rows)
            on_all = jax.shard_map(
                uneven_share(loss, rows, self.axis, _whole(model)),
                mesh=mesh,
                in_specs=(P(), P(self.axis)),
                out_specs=(P(), P(mesh.axis_names)),
            )
            grads, metrics = on_all(state.params, dealt.rows)
            return update(optimizer, state, grads), metrics

        return Program(
            init=jax.jit(lambda params: first_state(optimizer, params), out_shardings=everywhere),
            step=step,
            gather=lambda state: jax.device_get(state.params),
            on=lambda mesh, optimizer=optimizer: self.build(model, optimizer, mesh),
            mesh=mesh,
            place=lambda batch: jax.device_put(deal(batch), cut),
        )


def apportioned(shares: Sequence[float], examples: int) -> tuple[int, ...]:
    """Return whole numbers that sum to `examples` and are nearest to these shares.

    By largest remainder: each share is rounded down, and those that lost most by
    it get one more.

    Source: Hamilton's method; Balinski and Young 1982, "Fair Representation"
    """
    exact = np.asarray(shares, float) / sum(shares) * examples
    rows = np.floor(exact).astype(int)
    short = examples - rows.sum()
    rows[np.argsort(rows - exact, kind="stable")[:short]] += 1
    return tuple(rows.tolist())


def balanced_shares(seconds: Sequence[float], examples: int) -> tuple[int, ...]:
    """Return how many examples each device should take for all to be ready at once.

    Args:
        seconds: what each device takes for the same work; see `device_seconds`.
        examples: in a batch.

    Raises:
        ValueError: a time that is not above zero.
    """
    if not all(each > 0 for each in seconds):
        raise ValueError(
            lesson(
                f"a step cannot take {min(seconds):g} seconds.",
                why="a device's share is in proportion to its speed, which is 1 / seconds.",
                fix="seconds that were measured: pdl.device_seconds(work, mesh).",
            )
        )
    return apportioned([1 / each for each in seconds], examples)


@partial(jax.tree_util.register_dataclass, data_fields=["rows"], meta_fields=["examples"])
@dataclasses.dataclass(frozen=True)
class _Dealt:
    """A batch whose rows lie in front of the devices that are to take them."""

    rows: Any  # like the batch, each array [devices, most, ...]; what is over is padding
    examples: int  # in the whole batch


def _deal(batch, shares) -> _Dealt:
    examples = len(jax.tree.leaves(batch)[0])
    rows = np.array(apportioned(shares, examples))
    first = np.cumsum(rows) - rows
    # Arrays are cut evenly, so the shorter shares are filled up with rows nobody reads.
    taken = np.minimum(first[:, None] + np.arange(rows.max()), examples - 1)  # [devices, most]
    return _Dealt(jax.tree.map(lambda x: x[taken], batch), examples)


def _whole(model) -> Places:
    specs = jax.tree.map(lambda _: P(), param_shapes(model))
    return Places(specs, specs)


def _check_shares(shares, axis: str, mesh) -> None:
    ways = mesh.shape[axis]
    if len(shares) != ways or min(shares) < 0 or not sum(shares) > 0:
        raise ValueError(
            lesson(
                f"shares={tuple(shares)} cannot be dealt among {axis}={ways}.",
                why="each device takes one share of the batch: 0 or more, and not all are 0.",
                fix=f"{ways} shares such as {(3, *(1,) * (ways - 1))}, or "
                "pdl.balanced_shares(pdl.device_seconds(work, mesh), examples).",
            )
        )
