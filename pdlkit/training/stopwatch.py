"""How long a step takes, each one waited for, and how many cores it keeps busy."""

import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from pdlkit import devices
from pdlkit.errors import lesson
from pdlkit.records import Program
from pdlkit.strategies.strategy import donating
from pdlkit.timings import Timing

WARM_UP = 4  # steps before the clock starts, each on a batch of its own


class Job(NamedTuple):
    """What is to be timed on one mesh."""

    strategy: Any
    mesh: dict[str, int]  # axis -> size
    works: tuple  # workloads, one after the other
    steps: int  # of each


class Tick(NamedTuple):
    """One step."""

    seconds: float
    cpu_seconds: float  # of all threads of this process


def stepper(program: Program, work) -> Callable[[], Tick]:
    """Return what makes one step more and waits for it; compiled and warmed up.

    Batches are made and placed beforehand, and taken round and round: what is
    timed is the step. It gives its state away, as in training.
    """
    state = program.init(work.model.init(jax.random.key(0)))
    batches = itertools.cycle([program.place(work.batch(k)) for k in range(WARM_UP)])
    step = donating(program.step)

    def tick() -> Tick:
        nonlocal state
        batch = next(batches)
        began, busy = time.perf_counter(), time.process_time()
        state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))
        return Tick(time.perf_counter() - began, time.process_time() - busy)

    for _ in range(WARM_UP):
        tick()
    return tick


def time_job(job: Job) -> list[Timing]:
    """Return the timing of each workload of a job, on the first devices here."""
    mesh = devices.mesh(**job.mesh)
    programs = [job.strategy.build(work.model, work.optimizer, mesh) for work in job.works]
    pairs = zip(programs, job.works, strict=True)
    return [time_steps(program, work, steps=job.steps) for program, work in pairs]


def time_steps(program: Program, work, *, steps: int) -> Timing:
    """Return how long so many steps of a program take, after some to warm up."""
    tick = stepper(program, work)
    ticks = [tick() for _ in range(steps)]
    seconds = [each.seconds for each in ticks]
    return Timing(
        devices=program.mesh.size,
        mesh=dict(program.mesh.shape),
        minimum=min(seconds),
        median=statistics.median(seconds),
        cores_busy=sum(each.cpu_seconds for each in ticks) / sum(seconds),
        steps=steps,
        examples=len(jax.tree.leaves(work.batch(0))[0]),
    )


def check_steps(steps: int) -> None:
    """Raise ValueError if no step is to be timed."""
    if steps < 1:
        raise ValueError(
            lesson(
                f"steps={steps} leaves nothing to time.",
                why="a step's time is the shortest, or the middle one, of those that were made.",
                fix="steps=60; a median of fewer is mostly noise.",
            )
        )
