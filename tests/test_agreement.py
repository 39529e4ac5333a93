"""Other published figures that follow: ring attention, PowerSGD, DiLoCo, the scaling book."""

import jax
import jax.numpy as jnp
import pytest

import pdlkit as pdl
from pdlkit.prediction import rooflines

BLOCKS = pdl.published.rows("ring_attention", "smallest_blocks")
RATIOS = pdl.published.rows("compression", "power_sgd")


@pytest.mark.parametrize("row", BLOCKS, ids=lambda row: row["device"])
def test_ring_attentions_smallest_blocks(row):
    """Table 2 within 2 % or its last digit: a token for each operation in the time of a byte."""
    block = rooflines.smallest_block(row["teraflops"] * 1e12, row["gigabytes_per_second"] * 1e9)
    assert block / 1e3 == pytest.approx(row["block"], rel=0.02, abs=0.05)
    assert 6 * block / 1e3 == pytest.approx(row["sequence"], rel=0.02, abs=0.05)


def resnet18() -> list[tuple[int, ...]]:
    """Return the shapes of ResNet-18 for CIFAR-10, kernels as [k, k, in, out]."""
    shapes = [(3, 3, 3, 64), (64,), (64,)]
    channels = 64
    for out, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for first in (True, False):
            shapes += [(3, 3, channels, out), (out,), (out,), (3, 3, out, out), (out,), (out,)]
            if first and stride == 2:
                shapes += [(1, 1, channels, out), (out,), (out,)]
            channels = out
    return [*shapes, (512, 10), (10,)]


def lstm() -> list[tuple[int, ...]]:
    """Return the shapes of three layers of 650 on WikiText-2, one table for both ends."""
    layers = [(650, 2600), (650, 2600), (2600,), (2600,)] * 3
    return [(28869, 650), *layers, (28869,)]


@pytest.mark.parametrize("row", RATIOS, ids=lambda row: f"{row['model']}-{row['rank']}")
def test_power_sgd_saves_what_was_published(row):
    """The bytes that our codec sends of two networks' shapes, within 2 % of the paper's ratios."""
    shapes = {"ResNet18_CIFAR10": resnet18, "LSTM_WikiText2": lstm}[row["model"]]()
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    codec = pdl.PowerSGD(rank=row["rank"])
    sent = sum(each.payload_bytes for a in arrays for each in codec.messages(a, 8))
    whole = sum(4 * a.size for a in arrays)
    assert whole / sent == pytest.approx(row["ratio"], rel=0.02)
    assert sum(a.size for a in arrays) in (11_173_962, 28_949_319)


def test_diloco_sends_a_five_hundredth():
    """With 500 steps between two meetings one 500th as much is sent as by data parallelism."""
    (row,) = pdl.published.rows("compression", "diloco")
    work = pdl.workloads.digits_mlp()
    every = row["steps_between"]
    sent = {}
    for strategy in (pdl.DataParallel(), pdl.DiLoCo(every=every)):
        program = strategy.build(work.model, work.optimizer, pdl.mesh(data=4))
        found = pdl.inspect(program, work).asked
        sent[type(strategy)] = sum(
            each.wire_bytes * each.times / (every if each.in_branch else 1) for each in found
        )
    ratio = sent[pdl.DataParallel] / sent[pdl.DiLoCo]
    assert ratio == pytest.approx(row["ratio"], rel=0.02)


def test_the_scaling_books_worked_answers():
    """Its four answers on how to cut a batch and a model, within 2 %."""
    v5p = pdl.hardware.tpu_v5p
    assert rooflines.best_sharding(48_000, 32_768, 64, (2, 1)) == pytest.approx(13.9, rel=0.02)
    assert rooflines.best_sharding(4.19e6, 28_672, 8960, (2, 1)) == pytest.approx(1618, rel=0.02)
    assert rooflines.days_of(6.3e24, 8960, 459e12, 0.4) == pytest.approx(44, rel=0.02)
    both_ways = 2 * v5p.scale_up.bytes_per_second
    assert rooflines.smallest_batch(v5p.peak("bf16"), both_ways) == pytest.approx(2550, rel=0.02)
    three = rooflines.smallest_batch(v5p.peak("bf16"), both_ways, axes=3)
    assert three == pytest.approx(850, rel=0.02)
    ways = rooflines.most_tensor_ways(30_000, v5p.peak("bf16"), both_ways)
    assert ways == pytest.approx(30_000 / 2550, rel=0.02)
