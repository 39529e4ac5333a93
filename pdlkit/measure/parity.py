"""How far a program's updates are from one device's: numbers, and no verdict."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from pdlkit.errors import lesson
from pdlkit.records import Program
from pdlkit.strategies import OneDevice

GRADIENT_TOLERANCE = 1e-3  # of an array's own update; float32 sums differ by 1e-6
UPDATE_TOLERANCE = 1e-2  # of the whole update: Adam magnifies the last digit


class Reference(NamedTuple):
    """What one device makes of a workload's first batches, from the same weights."""

    start: Any  # params on the host
    batches: list
    gradients: list  # for each batch, one update by plain SGD, like params in float64
    update: Any  # all updates in a row, by the workload's own optimizer
    rounding: float = 0.0  # see `Model`

    @property
    def gradient_tolerance(self) -> float:
        """How far an array may be off after one step by plain SGD."""
        return max(GRADIENT_TOLERANCE, 2 * self.rounding)  # one array is off by more than all

    @property
    def update_tolerance(self) -> float:
        """How far off updates by the workload's own optimizer may end."""
        return max(UPDATE_TOLERANCE, 2 * self.rounding)


class Gap(NamedTuple):
    """One array of the params after one step by plain SGD, and how far off it is."""

    path: str  # ['blocks']['down']['b']
    error: float  # largest difference, relative to the largest update of the array
    here: np.ndarray  # the program's update
    there: np.ndarray  # one device's


def reference(work, mesh: Mesh, *, steps: int = 3) -> Reference:
    """Return the updates of one device, the first of the mesh, on `steps` batches.

    Raises:
        ValueError: fewer than one step.
    """
    if steps < 1:
        raise ValueError(
            lesson(
                f"updates cannot be compared over {steps} steps.",
                why="without a step no weight moves, on however many devices.",
                fix="steps=1 or more.",
            )
        )
    start = jax.device_get(work.model.init(jax.random.key(0)))
    batches = [work.batch(k) for k in range(steps)]
    plain, own = (OneDevice().build(work.model, each, mesh) for each in (_sgd(), work.optimizer))
    gradients = [_change(plain, start, [batch]) for batch in batches]
    update = _change(own, start, batches)
    return Reference(start, batches, gradients, update, work.model.rounding)


def gradient_gaps(program: Program, one: Reference) -> Iterator[Gap]:
    """Yield how far each gradient is off, batch by batch, read off updates by SGD."""
    plain = program.on(program.mesh, _sgd())
    for batch, gradients in zip(one.batches, one.gradients, strict=True):
        yield from _gaps(_change(plain, one.start, [batch]), gradients)


def update_gap(program: Program, one: Reference) -> float:
    """Return how far the updates by the workload's own optimizer end off.

    As a share of the way that one device's weights go, all arrays taken together.
    """
    update = _change(program, one.start, one.batches)
    here, there = jax.tree.leaves(update), jax.tree.leaves(one.update)
    apart = sum(np.sum((a - b) ** 2) for a, b in zip(here, there, strict=True)) ** 0.5
    moved = sum(np.sum(b**2) for b in there) ** 0.5
    return _share(apart, moved)


def gradient_gap(program: Program, one: Reference) -> float:
    """Return the largest relative difference of a gradient; NaN stays NaN."""
    return float(np.max([gap.error for gap in gradient_gaps(program, one)]))


def _sgd():
    # Adam would divide out a gradient that is n times too large.
    return optax.sgd(1.0)


def _change(program: Program, start, batches):
    """Return how far a program moves each array from `start`, as float64."""
    state = program.init(start)
    for batch in batches:
        state, _ = program.step(state, batch)
        jax.block_until_ready(state)
    return jax.tree.map(
        lambda new, old: np.float64(new) - np.float64(old), program.gather(state), start
    )


def _gaps(many, one) -> Iterator[Gap]:
    # An array that hardly moves is judged beside the one that moves most.
    floor = 1e-3 * max(np.abs(leaf).max() for leaf in jax.tree.leaves(one))
    pairs = zip(jax.tree_util.tree_leaves_with_path(many), jax.tree.leaves(one), strict=True)
    for (path, here), there in pairs:
        error = _share(np.abs(here - there).max(), np.abs(there).max() + floor)
        yield Gap(jax.tree_util.keystr(path), error, here, there)


def _share(apart, moved) -> float:
    """Return a difference as a share of the way; 0 where nobody moved."""
    return float(apart / moved) if moved else float("inf" if apart else 0)
