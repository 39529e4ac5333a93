"""A step of each strategy beside the shortest JAX written by hand for the same thing.

    python -m pytest tests/benchmarks/bench_step.py -s [-k "ZeRO and 8"]

Ours and theirs take turns in one process, so what slows the machine slows both. The
figure is the median of ours over theirs, with a 95 % bootstrap interval. Before that,
both have taken a step, and their losses after it are compared: by SGD with momentum,
which does not divide out a gradient that is n times too large.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import by_hand
import by_hand_layers
import by_hand_stages
import jax
import numpy as np
import optax
import pytest
from pairs import compare, seconds

import pdlkit as pdl

PAIRS, SECONDS = 400, 8  # at most so many pairs, and about so long


class Case(NamedTuple):
    """A strategy and its like by hand."""

    strategy: Callable[[int], Any]  # of how many devices
    by_hand: Callable  # workload, mesh -> a call of the second step
    works: tuple[str, ...] = ("digits_mlp", "digits_cnn")
    mesh: Callable[[int], dict] = lambda n: {"data": n}
    devices: tuple[int, ...] = (2, 8)


def along(axis):
    """Return devices -> a mesh of one axis."""
    return lambda n: {axis: n}


def always(strategy):
    """Return the same strategy for any number of devices."""
    return lambda n: strategy


TENSOR = pdl.TensorParallel()
GPIPE = pdl.Pipeline(pdl.schedules.gpipe, microbatches=by_hand_stages.MICROBATCHES)
ONE_F_ONE_B = pdl.Pipeline(pdl.schedules.one_f_one_b, microbatches=by_hand_stages.MICROBATCHES)
CASES = {
    "OneDevice": Case(always(pdl.OneDevice()), by_hand.one_device, devices=(1,)),
    "DataParallel": Case(always(pdl.DataParallel()), by_hand.shard_map),
    "PmapDataParallel": Case(always(pdl.PmapDataParallel()), by_hand.pmap),
    "Automatic": Case(always(pdl.Automatic()), by_hand.automatic),
    "accumulate=4": Case(always(pdl.DataParallel(accumulate=4)), by_hand.accumulated),
    "Uneven": Case(lambda n: pdl.UnevenDataParallel((3, *(1,) * (n - 1))), by_hand.uneven),
    "ZeRO 1": Case(always(pdl.ZeRO(stage=1)), by_hand.zero_1),
    "ZeRO 2": Case(always(pdl.ZeRO(stage=2)), by_hand.zero_1),  # without micro-batches the same
    "ZeRO 3": Case(always(pdl.ZeRO(stage=3)), by_hand.zero_3),
    "FullySharded": Case(always(pdl.FullySharded()), by_hand.fully_sharded, ("digits_mlp",)),
    "Tensor": Case(always(TENSOR), by_hand_layers.tensor, ("words",), along("model")),
    "data | tensor": Case(
        always(pdl.DataParallel() | TENSOR),
        by_hand_layers.data_tensor,
        ("words",),
        lambda n: {"data": n // 2, "model": 2},
        (4, 8),
    ),
    "Ring": Case(always(pdl.RingAttention()), by_hand_layers.ring, ("words",), along("seq")),
    "Ulysses": Case(always(pdl.Ulysses()), by_hand_layers.ulysses, ("words",), along("seq")),
    "Expert": Case(
        always(pdl.ExpertParallel()), by_hand_layers.experts, ("sums",), along("expert")
    ),
    "Spatial": Case(
        always(pdl.SpatialParallel()), by_hand_layers.spatial, ("pictures",), along("rows")
    ),
    "GPipe": Case(always(GPIPE), by_hand_stages.gpipe, ("deep",), along("stage")),
    "1F1B": Case(always(ONE_F_ONE_B), by_hand_stages.gpipe, ("deep",), along("stage")),
    "LayerPlacement": Case(
        always(pdl.LayerPlacement()), by_hand_stages.two_places, ("deep",), along("stage"), (2,)
    ),
}
TRIED = [
    pytest.param(case, name, devices, id=f"{case}-{name}-{devices}")
    for case, row in CASES.items()
    for name in row.works
    for devices in row.devices
]


@functools.cache
def workload(name):
    """Return the model and batches of that name, to be trained by SGD with momentum."""
    draws = np.random.default_rng(0)
    made = {
        "words": lambda: _words(draws.integers(0, 32, (8, 65)).astype(np.int32)),
        "pictures": lambda: _pictures(draws.random((8, 32, 32, 3), np.float32)),
        "sums": _sums,
        "deep": lambda: dataclasses.replace(
            pdl.workloads.digits_mlp(), model=pdl.models.mlp(64, 10, blocks=8)
        ),
    }
    work = made.get(name, getattr(pdl.workloads, name, None))()
    return dataclasses.replace(work, optimizer=optax.sgd(0.05, momentum=0.9))


@pytest.mark.parametrize(("case", "name", "devices"), TRIED)
def test_step(case, name, devices, benchmark):
    row, work = CASES[case], workload(name)
    mesh = pdl.mesh(**row.mesh(devices))
    program = row.strategy(devices).build(work.model, work.optimizer, mesh)
    state = program.init(work.model.init(jax.random.key(0)))
    batch = program.place(work.batch(0))
    state, _ = program.step(state, batch)
    ours, theirs = lambda: program.step(state, batch), row.by_hand(work, mesh)
    np.testing.assert_allclose(ours()[1].loss, np.mean(theirs()[1]), rtol=1e-4)
    pairs = int(np.clip(SECONDS / (seconds(ours) + seconds(theirs)), 40, PAIRS))
    ratio = compare(ours, theirs, pairs=pairs)
    benchmark.extra_info.update(ratio._asdict())
    benchmark.pedantic(lambda: jax.block_until_ready(ours()), rounds=5, warmup_rounds=1)
    print(f"\n{case:16} {name:10} {devices} devices: {ratio}")


def _words(tokens):
    model = pdl.models.transformer(32, embed=32, heads=8, hidden=128, blocks=2)
    return pdl.Workload("words", model, None, [(tokens[:, :-1], tokens[:, 1:].copy())])


def _pictures(images):
    model = pdl.models.cnn((32, 32, 3), 10, channels=(16, 32))
    return pdl.Workload("pictures", model, None, [(images, np.arange(8, dtype=np.int32))])


def _sums():
    model = pdl.models.moe(16, embed=32, heads=8, hidden=64, balance=0, padding=0)
    return dataclasses.replace(pdl.workloads.moe(), model=model)
