"""Compiling a pipeline: 64 micro-batches beside 8, and each schedule's step.

    python -m pytest tests/benchmarks/bench_pipeline.py -s

Both compile in turns, so what slows the machine slows both; the figure is the ratio of
their fastest compilations, and it may be 1.2 at most. A step on simulated devices is
total work on shared cores, not the speed of a pipeline: what a schedule is worth is
counted in its table.
"""

import time

import jax
import numpy as np
import optax
import pytest

import pdlkit as pdl
from pdlkit import schedules
from pdlkit.strategies.pipeline import Pipeline

ROUNDS = 5
STAGES = 4
EXAMPLES = 4  # of a micro-batch
SCHEDULES = [
    *(schedules.gpipe, schedules.one_f_one_b, schedules.interleaved),
    *(schedules.zero_bubble_h1, schedules.zero_bubble_h2, schedules.zero_bubble_v),
]
each_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda made: made.__name__)


def program(schedule, microbatches):
    """Return the program, its state and a batch."""
    model = pdl.models.mlp(64, 10, blocks=8)
    made = Pipeline(schedule, microbatches).build(model, optax.sgd(0.1), pdl.mesh(stage=STAGES))
    examples = EXAMPLES * microbatches
    batch = np.ones((examples, 64), np.float32), np.zeros(examples, np.int32)
    return made, made.init(model.init(jax.random.key(0))), batch


def compile_seconds(schedule, microbatches):
    """Return how long tracing and compiling one step takes."""
    made, state, batch = program(schedule, microbatches)
    jax.block_until_ready(state)
    start = time.perf_counter()
    made.step.lower(state, batch).compile()
    return time.perf_counter() - start


@each_schedule
def test_compile(schedule, benchmark):
    turns = [[compile_seconds(schedule, times) for times in (8, 64)] for _ in range(ROUNDS)]
    few, many = np.min(turns, axis=0)
    benchmark.extra_info.update(few=few, many=many)
    benchmark.pedantic(compile_seconds, (schedule, 8), rounds=1)
    print(f"\n{schedule.__name__}: {few:.2f} s with 8, {many:.2f} s with 64: {many / few:.2f}")
    assert many <= 1.2 * few


@each_schedule
def test_step(schedule, benchmark):
    made, state, batch = program(schedule, 16)
    batch = made.place(batch)
    run = made.step.lower(state, batch).compile()
    held = run.memory_analysis().temp_size_in_bytes
    benchmark.extra_info["temporary_bytes"] = held
    benchmark.pedantic(lambda: jax.block_until_ready(run(state, batch)), rounds=20, warmup_rounds=2)
    print(f"\n{schedule.__name__}: {1e3 * benchmark.stats['median']:.1f} ms, {held:,} bytes")
