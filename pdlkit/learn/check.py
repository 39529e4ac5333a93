"""The law, asked of any program: one device's weights, and nothing more sent."""

import dataclasses
from collections.abc import Mapping, Set

import jax
import numpy as np
import optax

from pdlkit.errors import lesson, names
from pdlkit.measure import inspect
from pdlkit.records import Program
from pdlkit.strategies import OneDevice
from pdlkit.units import write_bytes

GRADIENT_TOLERANCE = 1e-3  # of an array's own update; float32 sums differ by 1e-6
UPDATE_TOLERANCE = 1e-2  # of the whole update: Adam magnifies the last digit


@dataclasses.dataclass(frozen=True, repr=False)
class Passed:
    """A check that held. Prints as one line that never varies."""

    claim: str
    error: float = 0.0  # the largest relative difference found

    def __repr__(self) -> str:
        return f"passed: {self.claim}"


def same_update(program: Program, work, *, steps: int = 3) -> Passed:
    """Check that a program makes the updates that one device would.

    Twice: the gradients, by plain SGD from the same weights on `steps` batches,
    for Adam divides out a gradient that is n times too large; then `steps`
    updates in a row with the workload's own optimizer.

    Raises:
        AssertionError: an array moved otherwise; says which, and by how much.
    """
    start = jax.device_get(work.model.init(jax.random.key(0)))
    sgd = optax.sgd(1.0)
    many, one = program.on(program.mesh, sgd), OneDevice().build(work.model, sgd, program.mesh)
    batches = [work.batch(k) for k in range(steps)]
    worst = 0.0
    for batch in batches:
        pair = [_change(each, start, [batch]) for each in (many, one)]
        worst = max(worst, _check_arrays(*pair))

    one = OneDevice().build(work.model, work.optimizer, program.mesh)
    _check_whole(_change(program, start, batches), _change(one, start, batches))
    return Passed(f"same updates as one device, over {steps} batches", worst)


def moves_only(program: Program, work, allowed: Set | Mapping[str, int]) -> Passed:
    """Check that one step sends only these kinds of collective.

    Args:
        program: what a strategy built.
        work: the workload.
        allowed: kinds such as {"all_reduce"}, or with the most payload bytes
            that one step may send of each: {"all_reduce": 218_664}.

    Raises:
        AssertionError: something else was sent, or more of it; says which line asked.
    """
    sent: dict[str, int] = {}
    asked_by = {}
    for each in inspect(program, work).collectives:
        sent[each.kind] = sent.get(each.kind, 0) + each.payload_bytes * each.times
        asked_by.setdefault(each.kind, each.source)
    for kind, count in sent.items():
        most = allowed.get(kind, 0) if isinstance(allowed, Mapping) else count
        if kind not in allowed or count > most:
            limit = f"at most {most:,}" if kind in allowed else "none of it"
            raise AssertionError(
                lesson(
                    f"one step sends {count:,} bytes by {kind}, but {limit} is allowed.",
                    why=f"counted in the compiled program; {asked_by[kind] or 'the compiler'} "
                    "asked for it.",
                    fix="pdl.inspect(program, work) shows every collective and its line.",
                )
            )
    only = f"{names(sorted(sent))}, and nothing else" if sent else "nothing"
    return Passed(f"one step sends {only}")


def fits_in(program: Program, work, *, bytes: int) -> Passed:
    """Check that one step fits into so many bytes on each device.

    Raises:
        AssertionError: it takes more; says how much of it is what.
    """
    memory = inspect(program, work).memory
    if memory.total > bytes:
        raise AssertionError(
            lesson(
                f"one step takes {memory.total:,} bytes on each device, but only {bytes:,} "
                "are there.",
                why=f"counted: arguments {write_bytes(memory.arguments)}, outputs "
                f"{write_bytes(memory.outputs)}, temporaries {write_bytes(memory.temporaries)}.",
                fix="a smaller batch, or a strategy that keeps less on each device.",
            )
        )
    return Passed(f"one step fits into {write_bytes(bytes)} a device")


def _change(program: Program, start, batches):
    """Return how far a program moves each array from `start`, as float64."""
    state = program.init(start)
    for batch in batches:
        state, _ = program.step(state, batch)
        jax.block_until_ready(state)
    return jax.tree.map(
        lambda new, old: np.float64(new) - np.float64(old), program.gather(state), start
    )


def _check_arrays(many, one) -> float:
    """Compare array by array; return the largest relative difference."""
    # An array that hardly moves is judged beside the one that moves most.
    floor = 1e-3 * max(np.abs(leaf).max() for leaf in jax.tree.leaves(one))
    worst = 0.0
    pairs = zip(jax.tree_util.tree_leaves_with_path(many), jax.tree.leaves(one), strict=True)
    for (path, here), there in pairs:
        error = np.abs(here - there).max() / (np.abs(there).max() + floor)
        if not error <= GRADIENT_TOLERANCE:  # NaN is an error too
            raise AssertionError(_difference(jax.tree_util.keystr(path), here, there, error))
        worst = max(worst, float(error))
    return worst


def _difference(path: str, here, there, error: float) -> str:
    size = np.vdot(there, there)
    times = np.vdot(here, there) / size if size else 0.0
    along = np.linalg.norm(here - times * there) <= 1e-2 * np.linalg.norm(here)
    ways = max(times, 1 / times) if times > 0 else 0.0
    if along and ways > 1.5 and abs(ways - round(ways)) < 1e-2 * ways:
        what = f"the gradient of params{path} is {times:.3g} times that of one device."
        why = "it was summed where it should be averaged, or the other way round."
    else:
        what = f"the gradient of params{path} differs from one device's by {error:.1%}."
        why = "a sum over devices is missing, or the loss is no plain mean over examples."
    fix = "sum gradients once, by the strategy's cuts; send weighted means through layers.mean."
    return lesson(what, why=why, fix=fix)


def _check_whole(many, one) -> None:
    pairs = list(zip(jax.tree.leaves(many), jax.tree.leaves(one), strict=True))
    apart = sum(np.sum((here - there) ** 2) for here, there in pairs) ** 0.5
    moved = sum(np.sum(there**2) for _, there in pairs) ** 0.5
    if not apart <= UPDATE_TOLERANCE * moved:
        raise AssertionError(
            lesson(
                f"with its own optimizer the weights end {apart / moved:.1%} of the way off.",
                why="the gradients agree, so the optimizer does not see what one device's sees.",
                fix="run it outside of shard_map: it may look across arrays, as clipping does.",
            )
        )
