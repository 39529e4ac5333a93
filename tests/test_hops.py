"""Hops as a picture: who sends which chunk to whom, on the learner's own numbers."""

import numpy as np
import pytest

from pdlkit import collectives
from pdlkit.drawing import show

VALUES = np.arange(12).reshape(3, 4)


def text(thing) -> list[str]:
    """Return the lines of a picture, without its rules and its spaces side by side."""
    lines = (" ".join(line.split()) for line in show(thing).text.splitlines())
    return [line for line in lines if line and line[0] not in "┌├└"]


def test_hops_are_a_timetable():
    """One row a tick, one column a device: a tree sums to device 0, then spreads."""
    assert text(collectives.tree_all_reduce_hops(4)) == [
        "tree all-reduce on 4 devices: 4 ticks, a device sends up to 2 chunks",
        "counted: what each device sends",
        "down: tick; across: device",
        "0 1 2 3",
        "1 │ │ c0 → 0 + │ │ c0 → 2 + │",
        "2 │ │ │ c0 → 0 + │ │",
        "3 │ c0 → 2 │ │ │ │",
        "4 │ c0 → 1 │ │ c0 → 3 │ │",
        "c3 → 1: chunk 3 goes to device 1; c3 → 1 +: there it is added.",
    ]


def test_a_play_shows_what_goes_in_and_what_comes_out():
    """The result stands in the order in which the caller gets it, without other slots."""
    hops = collectives.all_to_all_hops(2)
    assert text(collectives.play(hops, [[1, 2], [3.5, 4]]))[:10] == [
        "all-to-all on 2 devices: 1 tick, a device sends 8 B",
        "counted: at first",
        "down: device; across: chunk",
        "c0 c1 c2 c3",
        "0 │ 1 │ 2 │ │ │",
        "1 │ 3.5 │ 4 │ │ │",
        "counted: the result",
        "down: device; across: part of the result",
        "0 │ 1 │ 3.5 │",
        "1 │ 2 │ 4 │",
    ]


def test_a_tick_shows_what_leaves_and_what_arrives():
    """Before a tick, each chunk that leaves says where to; after it, where it came from."""
    values = np.repeat([[1], [10], [100]], 3, axis=1)
    played = collectives.play(collectives.ring_reduce_scatter_hops(3), values)
    assert text(played.at(1)) == [
        "ring reduce-scatter on 3 devices: after 1 of 2 ticks",
        "counted: before tick 1; → 1: a copy goes to device 1",
        "down: device; across: chunk",
        "c0 c1 c2",
        "0 │ 1 │ 1 │ 1 │",
        "│ │ │ → 1 │",
        "1 │ 10 │ 10 │ 10 │",
        "│ → 2 │ │ │",
        "2 │ 100 │ 100 │ 100 │",
        "│ │ → 0 │ │",
        "counted: after tick 1; ← 1: from device 1, + added",
        "down: device; across: chunk",
        "c0 c1 c2",
        "0 │ 1 │ 101 │ 1 │",
        "│ │ ← 2 + │ │",
        "1 │ 10 │ 10 │ 11 │",
        "│ │ │ ← 0 + │",
        "2 │ 110 │ 100 │ 100 │",
        "│ ← 1 + │ │ │",
    ]


def test_before_the_first_tick_there_is_the_input():
    """A slider that begins at 0 shows what each device has, and nothing sent."""
    played = collectives.play(collectives.ring_all_gather_hops(2), [[5], [7]])
    assert text(played.at(0))[1:] == [
        "counted: at first",
        "down: device; across: chunk",
        "c0 c1",
        "0 │ 5 │ │",
        "1 │ │ 7 │",
    ]


def test_many_numbers_and_many_chunks_are_written_in_short():
    """Of a long chunk the ends are written, of chunks that travel together the first and last."""
    wide = collectives.play(collectives.ring_shift_hops(2), np.arange(14).reshape(2, 7))
    assert "0 │ 0 1 … 6 │" in text(wide)
    halves = collectives.halving_doubling_all_reduce_hops(8)
    assert "c4–7 → 4 +" in show(halves).text


def test_a_device_alone_sends_nothing():
    """On one device a collective is over before it begins, and its picture says so."""
    alone = collectives.play(collectives.ring_all_reduce_hops(1), [[1, 2]])
    assert show(alone).title == "ring all-reduce on 1 device: 0 ticks, a device sends 0 B"


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_every_lowering_draws_them(suffix, tmp_path):
    """A play, a tick of it, and its hops are drawn as figures and as SVG."""
    hops = collectives.hierarchical_all_reduce_hops(2, 2)
    played = collectives.play(hops, np.arange(16).reshape(4, 4))
    for name, thing in (("hops", hops), ("played", played), ("tick", played.at(3))):
        path = tmp_path / f"{name}.{suffix}"
        show(thing).save(path)
        assert path.stat().st_size > 1000


def test_they_show_themselves():
    """In a notebook hops and plays draw themselves, and say in a word what they are."""
    played = collectives.play(collectives.ring_shift_hops(3, by=2), VALUES)
    assert repr(played) == repr(played.hops) == "<ring shift by 2: devices=3, ticks=1>"
    assert show(played).word == "counted"
