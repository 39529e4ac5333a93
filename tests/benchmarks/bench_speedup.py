"""What two devices gain on two cores, where a step is nothing but computing.

    python -m pytest tests/benchmarks/bench_speedup.py -s

A wide MLP on batches of 1,024: 13 GFLOP a step, so what is sent hardly counts. By
the shortest steps of three rounds, for those that somebody else's work has slowed
say nothing of ours; the median beside it says how calm the machine was.
"""

import os

import numpy as np
import optax
import pytest

import pdlkit as pdl
from pdlkit.cores import allowed_cores, within_quota
from pdlkit.training import speedup

ROUNDS = 3
LEAST = 1.6  # times as fast as one device


def wide():
    """A workload of the digits' shape that keeps a core busy."""
    draws = np.random.default_rng(0)
    images = draws.random((1024, 64), np.float32)
    labels = draws.integers(0, 10, 1024).astype(np.int32)
    model = pdl.models.mlp(64, 10, embed=512, hidden=512, blocks=4)
    return pdl.Workload("wide_mlp", model, optax.sgd(0.01), [(images, labels)])


@pytest.mark.skipif(within_quota(allowed_cores()) < 2, reason="two devices need two cores")
def test_speedup():
    rounds = [speedup(wide(), pdl.DataParallel(), devices=(1, 2)) for _ in range(ROUNDS)]
    print()
    for found in rounds:
        busy = " and ".join(f"{each.cores_busy:.2f}" for each in found.strong)
        print(
            f"2 devices on 2 cores: minimum {found.speedups[2]:.2f}, median "
            f"{found.median_speedups[2]:.2f}, weak {found.scaled_speedups[2]:.2f}; busy {busy}"
        )
    one, two = (min(found.strong[i].minimum for found in rounds) for i in (0, 1))
    print(f"of all rounds: {one / two:.2f}; load of the machine {os.getloadavg()[0]:.1f}")
    assert one / two >= LEAST
