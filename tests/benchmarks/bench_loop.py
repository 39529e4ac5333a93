"""What `pdl.train` costs beside a bare loop over the same step and the same batches.

    python -m pytest tests/benchmarks/bench_loop.py -s

The bare loop waits at every 8th step too, places batches as they come, and keeps
nothing: no losses looked at, no good state put aside.
"""

import jax
import pytest
from pairs import compare

import pdlkit as pdl

STEPS = 64


@pytest.mark.parametrize("devices", [2, 8])
@pytest.mark.parametrize("name", ["digits_mlp", "digits_cnn"])
def test_loop(name, devices, benchmark):
    work = getattr(pdl.workloads, name)()
    program = pdl.DataParallel().build(work.model, work.optimizer, pdl.mesh(data=devices))
    start = program.init(work.model.init(jax.random.key(0)))
    step = jax.jit(program.step, donate_argnums=0)

    def bare():
        state = jax.tree.map(lambda leaf: leaf.copy(), start)
        for k in range(STEPS):
            state, metrics = step(state, program.place(work.batch(k)))
            if k % 8 == 7:
                jax.block_until_ready(state)
        return state, metrics

    loop = Endless(program, work, start)
    ratio = compare(loop.turn, bare, pairs=40 if name == "digits_mlp" else 12)
    benchmark.extra_info.update(ratio._asdict())
    benchmark.pedantic(loop.turn, rounds=3)
    print(f"\npdl.train {name:12} {devices} devices: {ratio} of {STEPS} steps")


class Endless:
    """One training that goes on for as many turns as it is asked; compiled once."""

    def __init__(self, program, work, state):
        self._records = pdl.train(program, work, steps=10**9, state=state)

    def turn(self):
        for _ in range(STEPS):
            record = next(self._records)
        return record.metrics
