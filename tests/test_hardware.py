"""Devices that are not here: their sheets, what follows for products, and their links."""

import dataclasses
import math
import re

import pytest

import pdlkit as pdl
from pdlkit.prediction.clusters import cluster
from pdlkit.prediction.hardware import Hardware, Link

KNOWN = pdl.hardware.known()
FIVE_LINES = """name = "mine"
flops = { bf16 = 500e12 }
memory_bytes = 64e9
bytes_per_second = 2e12
scale_up = { bytes_per_second = 200e9 }
"""
PRODUCTS = pdl.published.rows("products", "half_precision")
SUMS = pdl.published.rows("links", "all_reduce")


@pytest.mark.parametrize("name", KNOWN)
def test_each_figure_has_a_source(name):
    """Whatever a sheet says, it says where from; and whatever has a source, it says."""
    device = getattr(pdl.hardware, name)
    unusual = {
        field: value
        for field, value in vars(device).items()
        if field not in ("name", "sources") and value is not getattr(Hardware, field, None)
    }
    assert set(unusual) <= set(device.sources)
    assert all(len(source) > 10 for source in device.sources.values())
    assert device.price is None or re.fullmatch(r"20\d\d-\d\d", device.price.when)


@pytest.mark.parametrize("row", PRODUCTS, ids=lambda row: f"{row['device']}-{row['rows']}")
def test_products_take_as_long_as_measured(row):
    """Three figures of a sheet give the time of products: large ones within 15 %, others 25 %."""
    device = getattr(pdl.hardware, row["device"])
    m, k, n = row["rows"], row["inner"], row["columns"]
    reached = 2 * m * k * n / device.matmul_seconds(m, n, k) / 1e12
    assert reached == pytest.approx(row["teraflops"], rel=0.15 if m >= 2048 else 0.25)


def test_small_products_take_the_shortest_time():
    """A product of hardly any operations takes as long as any kernel, a vector's as its memory."""
    device = pdl.hardware.h100
    assert device.matmul_seconds(1, 1, 1) == pytest.approx(device.operation_seconds, rel=1e-3)
    read = 2 * 16384**2 / device.stream
    assert device.matmul_seconds(1, 16384, 16384) == pytest.approx(read, rel=0.1)


@pytest.mark.parametrize("row", SUMS, ids=lambda row: f"{row['devices']}-{row['bytes']}")
def test_sums_take_as_long_as_measured(row):
    """All-reduces inside a node and between nodes: long ones within 25 %, and none twice as long.

    What starts a collective from Python, 20 to 30 us, is in the measured times of short
    ones, and not in ours.
    """
    device, devices, count = getattr(pdl.hardware, row["device"]), row["devices"], row["bytes"]
    seconds = cluster(device, devices=devices).costs(devices).all_reduce(count)
    measured = 2 * (devices - 1) / devices * count / row["gigabytes_per_second"] / 1e9
    if count >= 2**26:
        assert seconds == pytest.approx(measured, rel=0.25)
    else:
        assert measured - 35e-6 - 0.3 * measured < seconds < 1.25 * measured


def test_five_lines_are_a_device(tmp_path):
    """A sheet of five lines is enough, and what it leaves out has usual values."""
    path = tmp_path / "mine.toml"
    path.write_text(FIVE_LINES)
    mine = pdl.hardware.load(path)
    assert mine.peak("bf16") == mine.peak("fp16") == 500e12
    assert (mine.node, mine.matmul_share) == (8, 0.8)
    assert mine.scale_up == Link(200e9)
    assert math.isnan(mine.watts)


WRONG = {
    "link's figure": (
        "bytes_per_second = 200e9",
        "bytes_per_secnd = 2",
        r"up, says `bytes_per_secn",
    ),
    "link without": ("{ bytes_per_second = 200e9 }", "{ share = 1.0 }", r"say `bytes_per_second`"),
    "link as number": ("{ bytes_per_second = 200e9 }", "200e9", r"scale_up is 200000000000.0"),
    "missing": ("name = ", "# name = ", r"does not say `name`"),
    "misspelt": (
        "memory_bytes",
        "memory_byte",
        r"says `memory_byte`, .*\n.*\n  try: `memory_bytes`",
    ),
    "negative": ("64e9", "-64e9", r"^mine has memory_bytes=-64000000000.0\."),
    "no operations": ("500e12", "0", r"^mine has flops of bf16=0\."),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_sheet_is_refused(case, tmp_path):
    """A sheet that lacks a figure, misspells one or has a negative one says which."""
    old, new, words = WRONG[case]
    (path := tmp_path / "mine.toml").write_text(FIVE_LINES.replace(old, new))
    with pytest.raises(ValueError, match=words):
        pdl.hardware.load(path)


FIGURES = {  # what is replaced in a sheet, and how it is refused
    "share": ({"matmul_share": 75}, r"has matmul_share=75.\n  why: a share is a part of"),
    "link's share": ({"scale_up": Link(3e11, share=1.2)}, r"has scale_up share=1.2."),
    "time": ({"operation_seconds": -1}, r"has operation_seconds=-1.\n  why: it is a time"),
    "endless": ({"memory_bytes": math.inf}, r"has memory_bytes=inf."),
    "text": ({"bytes_per_second": "3e12"}, r"has bytes_per_second='3e12'."),
    "yes": ({"node": True}, r"has node=True."),
    "torus": ({"torus": (16, 0)}, r"has torus\[1\]=0."),
    "no formats": ({"flops": {}}, r"has flops=\{\}.\n  why: how fast"),
    "one format": ({"flops": 312e12}, r"has flops=312000000000000.0."),
}


@pytest.mark.parametrize("case", FIGURES)
def test_figures_that_cannot_be_are_refused(case):
    """Shares are parts of 1, times not negative, rates above 0; each kind says so."""
    figures, words = FIGURES[case]
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(pdl.hardware.h100, **figures)
    with pytest.raises(TypeError, match=r"scale_up is 300000000000.0"):
        dataclasses.replace(pdl.hardware.h100, scale_up=3e11)


def test_a_device_without_half_precision_computes_in_float32():
    """A sheet that knows float32 alone, such as a calibrated CPU's, gives estimates too."""
    old = Hardware("old", {"fp32": 1e13}, 80e9, 1e12, Link(1e11))
    assert old.peak("bf16") == 1e13
    assert repr(old) == "<old: 10.0 TFLOP/s in fp32, 80.0 GB at 1.00 TB/s>"
    plan = pdl.Plan(zero=3, recompute="full")
    found = pdl.estimate(pdl.llms.mpt_1b, plan, pdl.cluster(old, devices=1), batch=1)
    assert 0.3 < found.mfu < 0.9


def test_unknown_devices_have_near_names():
    """A device without a sheet is refused with the nearest names."""
    with pytest.raises(AttributeError, match=r"`h10`\.\n.*\n  try: `h100` or "):
        _ = pdl.hardware.h10
    with pytest.raises(ValueError, match=r"has no figure for int3"):
        pdl.hardware.h100.peak("int3")


def test_a_ring_sends_what_the_formula_says():
    """Large messages take (n - 1) / n of their bytes, an all-reduce twice that."""
    made = cluster(pdl.hardware.a100_80g, devices=8)
    up, count = made.hardware.scale_up, 1e12
    once = 7 / 8 * count / (up.bytes_per_second * up.share)
    cost = made.costs(8)
    assert cost.all_gather(count) == pytest.approx(once, rel=1e-3)
    assert cost.reduce_scatter(count) == pytest.approx(once, rel=1e-3)
    assert cost.all_reduce(count) == pytest.approx(2 * once, rel=1e-3)
    assert cost.all_to_all(count) == pytest.approx(once, rel=1e-3)
    assert made.costs(1).all_reduce(count) == 0


def test_short_messages_take_the_quick_way():
    """A few bytes take as many quick hops as the ring has."""
    made = cluster(pdl.hardware.a100_80g, devices=8)
    up = made.hardware.scale_up
    seconds = made.costs(8).all_reduce(8)
    assert seconds == pytest.approx(up.base_seconds + 14 * up.quick_seconds, rel=1e-3)


def test_a_tree_is_taken_where_nodes_are_many():
    """Between many nodes a short sum goes up and down a tree, not round."""
    made = cluster(pdl.hardware.a100_80g, devices=8192)
    out = made.hardware.scale_out
    short = made.costs(1024, stride=8).all_reduce(1024)
    assert short < 2 * 1023 * out.quick_seconds / 10
    assert short > 2 * 10 * out.quick_seconds


def test_groups_lie_where_their_axes_lie():
    """A group of neighbours is inside a node; one of every eighth device is not."""
    made = cluster(pdl.hardware.h100, devices=64)
    assert made.group(8).inside == 8
    assert made.group(16).inside == 8
    assert made.group(8, stride=8).inside == 1
    assert made.group(4, stride=4).inside == 2


def test_a_torus_sends_along_all_axes():
    """A slice of 16 x 16 has four links at once, half of it lines; 4 x 4 has no rings."""
    pod = cluster(pdl.hardware.tpu_v5e, devices=512)
    assert (pod.node, pod.shape) == (256, (16, 16))
    assert pod.group(256).lanes == 4
    assert pod.group(16).lanes == pod.group(16, stride=16).lanes == 2
    assert cluster(pdl.hardware.tpu_v5e, devices=16).group(4).lanes == 1
    assert pod.group(2, stride=256).inside == 1
    cube = cluster(pdl.hardware.tpu_v4, devices=192)
    assert (cube.shape, cube.group(192).lanes) == ((4, 4, 12), 6)


def test_the_scaling_books_answer():
    """Bytes from one corner of a v5e 4 x 4 to the other: 188 us of links and 6 hops.

    Source: https://jax-ml.github.io/scaling-book/tpus, question 5
    """
    link = pdl.hardware.tpu_v5e.scale_up
    hops = cluster(pdl.hardware.tpu_v5e, devices=16).group(16).hops
    assert hops * link.seconds == pytest.approx(6e-6)
    assert 1.7e7 / (2 * link.bytes_per_second) == pytest.approx(188e-6, rel=0.02)


BAD = {
    "no devices": ({"devices": 0}, r"^devices=0 is no number of devices"),
    "half a node": ({"devices": 8, "node": 2.5}, r"^node=2.5 is no number"),
    "no network": ({"devices": 16, "scale_out": -1.0}, r"^scale_out=-1.0 is no bandwidth"),
}


@pytest.mark.parametrize("case", BAD)
def test_impossible_clusters_are_refused(case):
    """A cluster has devices, and a network; a slice fits into its torus."""
    given, words = BAD[case]
    with pytest.raises(ValueError, match=words):
        pdl.cluster(pdl.hardware.h100, **given)
    with pytest.raises(ValueError, match=r"^TPU v5e has no slice of 34 devices"):
        pdl.cluster(pdl.hardware.tpu_v5e, devices=34)
