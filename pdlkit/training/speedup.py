"""How many times as fast more devices are, as far as one machine can tell."""

import dataclasses
import operator
from collections.abc import Callable, Iterable, Mapping

import jax
import numpy as np
from jax.sharding import Mesh

from pdlkit.cores import allowed_cores, can_pin, within_quota
from pdlkit.devices import absent_mesh, grid
from pdlkit.errors import lesson
from pdlkit.prediction.laws import fit_amdahl, fit_gustafson
from pdlkit.strategies import OneDevice
from pdlkit.strategies.strategy import placed_shapes
from pdlkit.timings import Speedup, Timing
from pdlkit.training import fresh
from pdlkit.training.stopwatch import WARM_UP, Job, check_steps, time_job
from pdlkit.training.watching import Watch, tell, watchers_of

Sizes = Mapping[str, int] | Mesh


def speedup(
    work,
    strategy,
    *,
    devices: Iterable[int] = (1, 2, 4, 8),
    mesh: Callable[[int], Sizes] = lambda n: {"data": n},
    steps: int = 60,
    watch: Watch = (),
) -> Speedup:
    """Measure how many times as fast more devices are, up to this machine's cores.

    Each count is timed in a process of its own that is pinned to as many cores and
    has as many threads, for the simulated devices of one process share its threads.
    Past the cores nothing is measured; Amdahl's and Gustafson's laws go on. Where
    JAX has accelerators, it is they that are timed, in this process.

    One device is always timed, and by `OneDevice`: a speedup is over the serial
    program. Strong scaling cuts the workload's own batches among n devices; weak
    scaling joins n of them.

    Args:
        work: the workload; it may be defined in a notebook.
        strategy: how it is spread over more than one device.
        devices: counts of devices.
        mesh: count -> the sizes of a mesh with so many devices.
        steps: timed, of each program at each count.
        watch: functions of the Speedup so far, called as each count ends, such as a
            `pdl.Board()`; one with a method `end` is given the whole of it.

    Raises:
        ValueError: a count, a batch or the mesh does not fit; nothing was timed.
        TypeError: counts that are no whole numbers, or a workload that cannot be
            sent to another process.
        RuntimeError: a process died; says its last words.
    """
    check_steps(steps)
    asked = _counts(devices)
    ways = {n: (strategy, _sizes(mesh, n)) if n > 1 else (OneDevice(), {"data": 1}) for n in asked}
    for n, (way, sizes) in ways.items():
        _check(work, way, sizes, n)
    here, how, measure = _place(steps)
    name = f"{work.name} by {getattr(strategy, 'name', type(strategy).__name__)}"
    found, watchers = Speedup(name, here, how, asked), watchers_of(watch)
    for n in (n for n in asked if n <= here):
        found = _with(found, measure(Job(*ways[n], _works(work, n), steps), n))
        for watcher in watchers:
            watcher(found)
    tell(watchers, "end", found)
    return found


def _place(steps: int) -> tuple[int, str, Callable[[Job, int], list[Timing]]]:
    """Return how many devices can be timed here, and how, in words and in code."""
    accelerators = [device for device in jax.devices() if device.platform != "cpu"]
    each = f"{steps} steps of each program, on batches in place, each waited for."
    one = "One device is the serial program, OneDevice."
    if accelerators:
        kind = accelerators[0].device_kind
        where = f"Each count in one process, on the first of {len(accelerators)} {kind}"
        return len(accelerators), f"{where}: {each} {one}", lambda job, _: time_job(job)
    cores = within_quota(allowed_cores())
    where = "Each count in a process of its own, with a thread for each device"
    if can_pin():
        where += f", pinned to as many of {cores} core{'s' * (cores != 1)}"
    return cores, f"{where}: {each} {one}", fresh.measure


def _with(found: Speedup, timings: list[Timing]) -> Speedup:
    """Return a Speedup with one count more, both laws fitted anew."""
    strong, weak = (*found.strong, timings[0]), (*found.weak, timings[-1])
    found = dataclasses.replace(found, strong=strong, weak=weak)
    if len(strong) < 2:
        return found
    amdahl, gustafson = fit_amdahl(found.speedups), fit_gustafson(found.scaled_speedups)
    return dataclasses.replace(found, amdahl=amdahl, gustafson=gustafson)


def _works(work, n: int) -> tuple:
    """Return the workload for strong scaling, then, with n batches joined, for weak.

    Both with as many batches as are taken round and round, however large the data.
    """
    rounds = [[work.batch(n * k + i) for i in range(n)] for k in range(WARM_UP)]
    joined = [jax.tree.map(lambda *parts: np.concatenate(parts), *each) for each in rounds]
    own = [work.batch(k) for k in range(WARM_UP)]
    works = (dataclasses.replace(work, batches=each) for each in (own, joined))
    return tuple(works)[: min(n, 2)]  # for one device they are the same


def _check(work, strategy, sizes: Mapping[str, int], n: int) -> None:
    """Raise what building and stepping would, on shapes alone."""
    program = strategy.build(work.model, work.optimizer, absent_mesh(**sizes))
    state = placed_shapes(program, work.model)
    one = jax.eval_shape(lambda batch: batch, work.batch(0))
    for times in {1, n}:
        batch = jax.tree.map(
            lambda x, times=times: jax.ShapeDtypeStruct(
                (times * x.shape[0], *x.shape[1:]), x.dtype
            ),
            one,
        )
        jax.eval_shape(program.step, state, batch)


def _sizes(mesh: Callable[[int], Sizes], n: int) -> dict[str, int]:
    given = mesh(n) if callable(mesh) else mesh
    if not (callable(mesh) and isinstance(given, Mapping | Mesh)):
        raise TypeError(
            lesson(
                f"mesh gives a {type(given).__name__}, and no sizes of a mesh of {n} devices.",
                why="each count of devices is laid out on a mesh of its own.",
                fix='a function of the count: mesh=lambda n: {"data": n}.',
            )
        )
    sizes = dict(given.shape if isinstance(given, Mesh) else given)
    here = absent_mesh(**sizes).size
    if here != n:
        raise ValueError(
            lesson(
                f"mesh({n}) is {grid(sizes)}, which has {here} devices.",
                why=f"the speedup of {n} devices is that of a mesh of {n}.",
                fix='mesh=lambda n: {"data": n}, or sizes whose product is n.',
            )
        )
    return sizes


def _counts(devices: Iterable[int]) -> tuple[int, ...]:
    """Return counts of devices in order, the serial program's 1 among them."""
    given = list(devices) if isinstance(devices, Iterable) else [devices]
    for n in given:
        if isinstance(n, bool) or not hasattr(n, "__index__"):
            raise TypeError(_no_count(n))
        if n < 1:
            raise ValueError(_no_count(n))
    return tuple(sorted({1, *map(operator.index, given)}))


def _no_count(n) -> str:
    return lesson(
        f"devices has {n!r} in it, which is no number of devices.",
        why="devices are counted, and one is the fewest.",
        fix="devices=(1, 2, 4, 8).",
    )
