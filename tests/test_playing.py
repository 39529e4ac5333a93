"""Schedules played in seconds: published bubbles, a slow simulator, what breaks down."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pdlkit as pdl
from pdlkit import schedules
from pdlkit.prediction import published
from pdlkit.schedules import Op, Table, Times, needs

BUBBLES = published.rows("zero_bubble", "bubbles")
MADE = {
    "1F1B": schedules.one_f_one_b,
    "ZB-H1": schedules.zero_bubble_h1,
    "ZB-H2": schedules.zero_bubble_h2,
}
SOME = {
    "gpipe": schedules.gpipe(3, 5),
    "one_f_one_b": schedules.one_f_one_b(4, 6),
    "interleaved": schedules.interleaved(3, 6, chunks=2),
    "zero_bubble_h1": schedules.zero_bubble_h1(4, 7),
    "zero_bubble_h2": schedules.zero_bubble_h2(3, 8),
    "zero_bubble_v": schedules.zero_bubble_v(3, 6),
}
few = settings(max_examples=10, deadline=None)
seconds = st.floats(0.1, 3)


def told(row, **more):
    """Return the times of a row, as `play` takes them."""
    names = ("forward", "backward", "weight", "transfer")
    return {name: row[name] for name in names} | more


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("row", BUBBLES, ids=lambda row: f"{row['model']}-{row['microbatches']}")
def test_bubbles_are_those_that_were_published(row, name):
    """From the profiled times of the paper follow its bubbles, to the last digit."""
    made = MADE[name](row["stages"], row["microbatches"])
    assert pdl.play(made, **told(row)).bubble == pytest.approx(row[name], abs=1e-4)


@pytest.mark.parametrize("row", BUBBLES, ids=lambda row: f"{row['model']}-{row['microbatches']}")
def test_interleaving_is_played_nearly_as_published(row):
    """Megatron's order waits for p more messages than the paper's closed form, which is exact."""
    p, m, v = row["stages"], row["microbatches"], row["chunks"]
    work = row["forward"] + row["backward"] + row["weight"]
    lasts = m * work + (p - 1) * work / v + (2 * (v * p - 1) - p) * row["transfer"]
    assert 1 - m * work / lasts == pytest.approx(row["interleaved"], abs=1e-4)
    made = schedules.interleaved(p, m, chunks=v)
    times = told(row) | {name: row[name] / v for name in ("forward", "backward", "weight")}
    played = pdl.play(made, **times)
    assert played.bubble == pytest.approx(row["interleaved"], abs=0.004)
    assert played.seconds == pytest.approx(lasts + p * row["transfer"])


@pytest.mark.parametrize("row", BUBBLES[::3], ids=lambda row: row["model"])
def test_a_searched_schedule_is_as_good_as_one_by_hand(row):
    """With 1F1B's memory ZB-1p is no worse than ZB-H1, with twice as much 2p than H2."""
    times = Times(**told(row))
    for make, by_hand, limit in (
        (schedules.zero_bubble_1p, "ZB-H1", 1),
        (schedules.zero_bubble_2p, "ZB-H2", 2),
    ):
        made = make(row["stages"], row["microbatches"], times=times)
        assert pdl.play(made, **told(row)).bubble <= row[by_hand] + 1e-4
        assert max(made.peak_activations) <= limit * row["stages"]


def test_what_a_backward_gives_free_is_used():
    """Where weight gradients read half of the activations, twice the memory has no bubble."""
    row = BUBBLES[0]
    times = told(row, transfer=0.0)
    bubbles = {
        kept: pdl.play(
            schedules.zero_bubble_2p(8, 48, times=Times(**times), kept=kept), **times
        ).bubble
        for kept in (1.0, 0.4)
    }
    assert bubbles[0.4] < 0.005 < bubbles[1.0]


@pytest.mark.parametrize("name", SOME)
@few
@given(data=st.data())
def test_play_agrees_with_a_slow_simulator(name, data):
    """Op by op, by the definition: after the device's last, and after what it reads arrived."""
    table = SOME[name]
    shape = len(table.placement), table.microbatches
    later = np.linspace(1, 2, shape[1])  # each micro-batch takes longer than the one before
    drawn = {
        kind: np.outer(data.draw(st.lists(seconds, min_size=shape[0], max_size=shape[0])), later)
        for kind in ("forward", "backward", "weight")
    }
    hops = np.full((table.stages, table.stages), data.draw(st.floats(0, 2)))
    hops[0] *= 3
    played = pdl.play(table, **drawn, transfer=hops)

    tasks, ends, free = table.tasks(), {}, dict.fromkeys(range(table.stages), 0.0)
    for i in np.argsort(table.columns.tick, kind="stable"):
        op = table.ops[i]
        arrived = [
            ends[before]
            + (tasks[before].device != op.device) * hops[tasks[before].device, op.device]
            for before in needs(table.done_by(op)[0], shape[0])
        ]
        virtual = table.virtual(op.device, op.chunk)
        kinds = ("backward", "weight") if op.kind == "both" else (op.kind,)
        start = max([free[op.device], *arrived])
        lasts = sum(
            np.broadcast_to(drawn[kind].T, shape[::-1]).T[virtual, op.microbatch] for kind in kinds
        )
        free[op.device] = start + lasts
        ends |= dict.fromkeys(table.done_by(op), start + lasts)
        assert (played.start[i], played.end[i]) == pytest.approx((start, start + lasts))


def test_with_equal_times_it_takes_the_ticks():
    """Ops of a second each, sent in no time, take as many seconds as ticks, but for `both`."""
    table = schedules.zero_bubble_h1(4, 9)
    played = pdl.play(table)
    assert played.seconds == table.ticks
    assert played.bubble == pytest.approx(max(table.idle_ticks) / (max(table.idle_ticks) + 27))
    assert played.peak_activations == table.peak_activations
    assert pdl.play(schedules.gpipe(4, 9)).bubble == pytest.approx(3 / 12)


def test_a_slow_stage_sets_the_pace():
    """Where one stage is slower, a step takes its time, and the others wait for it."""
    table = schedules.one_f_one_b(4, 40)
    even, slow = (pdl.play(table, forward=[1, 1, f, 1]) for f in (1, 2))
    assert 40 * 4 < slow.seconds <= even.seconds + 40
    assert slow.busy.tolist() == [120, 120, 160, 120]


def test_an_outage_is_waited_for():
    """A device that is away begins its op again when it is back; the others wait for it."""
    table = schedules.one_f_one_b(2, 3)
    whole = pdl.play(table)
    away = pdl.play(table, down={1: (1.5, 4.0)})
    op = next(i for i, op in enumerate(table.ops) if op.device == 1)
    assert (whole.start[op], away.start[op]) == (1.0, 4.0)
    assert away.seconds == whole.seconds + 3


def test_a_device_that_never_comes_back():
    """What waits for it for ever is never done; the rest is, and nothing hangs."""
    lost = pdl.play(schedules.one_f_one_b(2, 3), down={1: (1.5, math.inf)})
    assert lost.seconds == math.inf
    assert lost.bubble == 1
    assert {event.device for event in lost.events} == {0}
    assert pdl.show(lost).title.startswith("1F1B never ends: 10 of 12 ops wait for ever")


def test_a_table_that_deadlocks_is_named():
    """A table that cannot be run is not played; the op and what it waits for are named."""
    late = Table("late", (0, 1), 1, (Op("forward", 0, 0, 0), Op("forward", 1, 0, 0),
                                     Op("both", 1, 1, 0), Op("both", 0, 2, 0)))  # fmt: skip
    with pytest.raises(
        ValueError, match=r"^deadlock: the forward pass of micro-batch 0 on stage 1"
    ):
        pdl.play(late)


WRONG = {
    "shape": ({"forward": [1, 2, 3]}, r"^forward has the shape \[3\]"),
    "negative": ({"weight": -1.0}, r"^weight is -1.0 somewhere"),
    "not a number": ({"backward": math.nan}, r"^backward is nan somewhere"),
    "hops": ({"transfer": np.ones((3, 3))}, r"^transfer has the shape \[3, 3\]"),
    "nobody": ({"down": {2: (0, 1)}}, r"^device 2 cannot be away"),
    "backwards": ({"down": {0: (3, 1)}}, r"^device 0 cannot be away from 3 s to 1 s"),
}


@pytest.mark.parametrize("case", WRONG)
def test_times_that_cannot_be_are_refused(case):
    """Times of another shape, or negative, are refused in words."""
    given, words = WRONG[case]
    with pytest.raises(ValueError, match=rf"(?s){words}.*\n  why: .*\n  try: "):
        pdl.play(schedules.one_f_one_b(2, 2), **given)
    with pytest.raises(ValueError, match=r"holds no micro-batch"):
        schedules.zero_bubble_1p(2, 2, kept=1.5)
    with pytest.raises(ValueError, match=r"^Times\(.*cannot be"):
        schedules.zero_bubble_1p(2, 2, times=Times(weight=-1))


def test_a_timeline_is_drawn():
    """A lane for each device, in seconds; where ops are too many, how busy each is."""
    picture = pdl.show(pdl.play(schedules.one_f_one_b(2, 2), transfer=0.5))
    assert picture.word == "modelled"
    assert picture.title == "1F1B through 2 stages takes 10.0 s, 40% of it bubble"
    many = pdl.show(pdl.play(schedules.one_f_one_b(8, 400)))
    assert "busy" in many.text
    assert len(many.text) < 4000
