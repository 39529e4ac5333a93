"""What `import pdlkit` adds to `import jax`: fresh processes, in turns.

python -m pytest tests/benchmarks/bench_import.py -s
"""

import subprocess
import sys

import numpy as np

ROUNDS = 15


CODE = "import time, jax; s = time.perf_counter(); import pdlkit; print(time.perf_counter() - s)"


def added_seconds() -> float:
    """Return what one fresh process spent on `import pdlkit`, JAX being there."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    return float(done.stdout)


def test_import(benchmark):
    added = 1e3 * np.array([added_seconds() for _ in range(ROUNDS)])
    benchmark.extra_info["added_ms"] = float(np.median(added))
    benchmark.pedantic(added_seconds, rounds=1)
    print(
        f"\nimport pdlkit: {np.median(added):.2f} ms, at most {added.max():.2f}, {ROUNDS} processes"
    )
