"""Compiling a step for 64 devices beside 8: each time in a fresh process, in turns.

    python -m pytest tests/benchmarks/bench_compile.py -s [-k tensor]

The figure is the ratio of the medians, and 1.3 at most is wanted: one program runs on
every device, so it should hardly grow with their number. Nothing is run. Where others
use the machine, look at the CPU seconds, which do not count the time spent waiting.
"""

import json
import subprocess
import sys
import time

import numpy as np
import optax
import pytest

import pdlkit as pdl
from pdlkit.strategies.strategy import donating, placed_shapes

ROUNDS = 3
FEW, MANY = 8, 64


def wide():
    """A transformer that 64 devices can cut: one head for each."""
    tokens = np.zeros((4, 32), np.int32)
    model = pdl.models.transformer(64, embed=64, heads=64, hidden=256, blocks=2)
    return pdl.Workload("wide", model, optax.adam(1e-3), [(tokens, tokens)])


CASES = {  # name -> strategy, mesh axis, workload
    "data mlp": (pdl.DataParallel(), "data", pdl.workloads.digits_mlp),
    "data cnn": (pdl.DataParallel(), "data", pdl.workloads.digits_cnn),
    "zero 3 mlp": (pdl.ZeRO(stage=3), "data", pdl.workloads.digits_mlp),
    "zero 3 cnn": (pdl.ZeRO(stage=3), "data", pdl.workloads.digits_cnn),
    "tensor mlp": (pdl.TensorParallel(), "model", pdl.workloads.digits_mlp),
    "tensor transformer": (pdl.TensorParallel(), "model", wide),
}


@pytest.mark.parametrize("case", CASES)
def test_compile(case, benchmark):
    turns = np.array([[in_a_fresh_process(case, n) for n in (FEW, MANY)] for _ in range(ROUNDS)])
    seconds, cpu = np.median(turns, axis=0).T  # [devices] each
    benchmark.extra_info.update(seconds=seconds.tolist(), cpu_seconds=cpu.tolist())
    benchmark.pedantic(in_a_fresh_process, (case, FEW), rounds=1)
    print(
        f"\n{case:18} {seconds[1] / seconds[0]:.2f} times as long, {seconds[0]:.2f} s for {FEW} "
        f"and {seconds[1]:.2f} s for {MANY}; {cpu[1] / cpu[0]:.2f} times the CPU seconds, "
        f"{cpu[0]:.2f} and {cpu[1]:.2f}"
    )


def in_a_fresh_process(case, devices) -> tuple[float, float]:
    """Return the seconds of one compilation, and the CPU seconds it took."""
    command = [sys.executable, __file__, case, str(devices)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return tuple(json.loads(done.stdout))


def main(case, devices):
    strategy, axis, given = CASES[case]
    pdl.simulate_devices(int(devices))
    work = given()
    program = strategy.build(work.model, work.optimizer, pdl.mesh(**{axis: int(devices)}))
    shapes = placed_shapes(program, work.model), work.batch(0)
    start = time.perf_counter(), time.process_time()
    donating(program.step).lower(*shapes).compile()
    end = time.perf_counter(), time.process_time()
    print(json.dumps(np.subtract(end, start).tolist()))


if __name__ == "__main__":
    main(*sys.argv[1:])
