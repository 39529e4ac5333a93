"""Pipeline schedules: what they cost, that they can be run, and what is refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pdlkit as pdl
from pdlkit import schedules
from pdlkit.schedules import Op, Table, Task

GENERATORS = {
    "gpipe": schedules.gpipe,
    "one_f_one_b": schedules.one_f_one_b,
    "interleaved": lambda stages, microbatches: schedules.interleaved(
        stages, -(-microbatches // stages) * stages
    ),
    "zero_bubble_h1": schedules.zero_bubble_h1,
    "zero_bubble_h2": schedules.zero_bubble_h2,
    "zero_bubble_v": schedules.zero_bubble_v,
}
each_generator = pytest.mark.parametrize("name", GENERATORS)
some_sizes = given(stages=st.integers(1, 6), microbatches=st.integers(1, 14))
few = settings(max_examples=10, deadline=None)

F, B, W, BOTH = "forward", "backward", "weight", "both"
BY_HAND = (  # two stages, two micro-batches
    *(Op(F, 0, 0, 0), Op(F, 0, 1, 1), Op(BOTH, 0, 3, 0), Op(BOTH, 0, 5, 1)),
    *(Op(F, 1, 1, 0), Op(BOTH, 1, 2, 0), Op(F, 1, 3, 1), Op(BOTH, 1, 4, 1)),
)


def table(ops=BY_HAND, placement=(0, 1), microbatches=2):
    return Table("by hand", placement, microbatches, tuple(ops))


def order(schedule, device):
    """Return what a device does as short words: F0, B0, W0, in order."""
    return [f"{op.kind[0].upper()}{op.microbatch}" for op in schedule.order(device)]


@each_generator
@few
@some_sizes
def test_every_schedule_can_be_run(name, stages, microbatches):
    """Played device by device, each op as soon as it can, a table is found again.

    An independent simulator: it knows of a table nothing but each device's order.
    """
    made = GENERATORS[name](stages, microbatches)
    schedules.check(made)
    left = {device: list(made.order(device)) for device in range(made.stages)}
    there, tick = set(), 0
    while any(left.values()):
        heads = [ops[0] for ops in left.values() if ops]
        able = [op for op in heads if all(n in there for n in read_by(made, op))]
        assert able, f"all wait at tick {tick}"
        assert able == [op for op in heads if op.tick == tick]
        for op in able:
            left[op.device].pop(0)
            there |= set(made.done_by(op))
        tick += 1


def read_by(made, op):
    """Return the tasks that an op waits for, written out once more."""
    k, i = made.virtual(op.device, op.chunk), op.microbatch
    if op.kind == F:
        return [Task(F, k - 1, i)] if k else []
    if op.kind == W:
        return [Task(B, k, i)]
    above = [Task(B, k + 1, i)] if k + 1 < len(made.placement) else []
    return [Task(F, k, i), *above]


@few
@some_sizes
def test_gpipe_and_1f1b_wait_equally_long(stages, microbatches):
    """The bubble of both is (p - 1) / m of the work; GPipe holds m, 1F1B min(m, p - i)."""
    for made in (
        schedules.gpipe(stages, microbatches),
        schedules.one_f_one_b(stages, microbatches),
    ):
        assert max(made.idle_ticks) / (2 * microbatches) == (stages - 1) / microbatches
        assert made.ticks == 2 * (microbatches + stages - 1)
    assert schedules.gpipe(stages, microbatches).peak_activations == (microbatches,) * stages
    peaks = schedules.one_f_one_b(stages, microbatches).peak_activations
    assert peaks == tuple(min(microbatches, stages - i) for i in range(stages))


@few
@given(stages=st.integers(2, 6), groups=st.integers(1, 3), chunks=st.integers(2, 4))
def test_interleaving_divides_the_bubble(stages, groups, chunks):
    """With v chunks the bubble is (p - 1) / (v m), and device 0 holds p (v + 1) - 1 chunks."""
    microbatches = groups * stages
    made = schedules.interleaved(stages, microbatches, chunks=chunks)
    work = 2 * microbatches * chunks
    assert max(made.idle_ticks) / work == (stages - 1) / (chunks * microbatches)
    assert made.peak_activations[0] == min(work // 2, stages * (chunks + 1) - 1)
    assert made.placement == tuple(k % stages for k in range(stages * chunks))


def test_one_chunk_is_plain_1f1b():
    """Interleaved with one chunk is 1F1B."""
    assert schedules.interleaved(4, 8, chunks=1).ops == schedules.one_f_one_b(4, 8).ops


@few
@given(stages=st.integers(1, 6), more=st.integers(0, 6))
def test_zero_bubble_h1_has_a_third_of_the_bubble(stages, more):
    """ZB-H1 waits (p - 1) (F + B - W), 1F1B (p - 1) (F + B + W); both hold p at most."""
    made = schedules.zero_bubble_h1(stages, stages + more)
    assert max(made.idle_ticks) == stages - 1
    assert made.ticks == 3 * (stages + more) + stages - 1
    assert made.peak_activations == (stages,) * stages


@few
@given(stages=st.integers(1, 6), more=st.integers(0, 6))
def test_zero_bubble_h2_does_not_wait(stages, more):
    """ZB-H2 waits (p - 1) (F + B - 2 W), which is 0, and holds 2 p - 1."""
    made = schedules.zero_bubble_h2(stages, 2 * stages - 1 + more)
    assert made.idle_ticks == (0,) * stages
    assert made.peak_activations == (2 * stages - 1,) * stages


@few
@given(stages=st.integers(1, 6), more=st.integers(0, 6))
def test_zero_bubble_v_does_not_wait_either(stages, more):
    """ZB-V waits nowhere and holds 2 p chunks, as much as the p micro-batches of 1F1B."""
    made = schedules.zero_bubble_v(stages, 2 * stages + more)
    assert made.idle_ticks == (0,) * stages
    assert made.peak_activations == (2 * stages,) * stages
    assert made.placement == (*range(stages), *reversed(range(stages)))


@pytest.mark.parametrize("device", range(4))
def test_the_papers_own_lists(device):
    """ZB-H1 and H2 are those of the paper: on stage i, W waits i or 2 i micro-batches."""
    stages, microbatches = 4, 12
    for made, ahead, late in (
        (schedules.zero_bubble_h1(stages, microbatches), stages - device, device),
        (schedules.zero_bubble_h2(stages, microbatches), 2 * (stages - device) - 1, 2 * device),
    ):
        paper = [f"F{i}" for i in range(ahead)]
        for i in range(microbatches - ahead):
            paper += [f"B{i}", *([f"W{i - late}"] if i >= late else []), f"F{i + ahead}"]
        assert order(made, device)[: len(paper)] == paper


def test_a_table_by_hand():
    """A table is written op by op, and says what it costs."""
    schedules.check(table())
    assert repr(table()) == "<by hand: 2 stages, 2 micro-batches, 6 ticks>"
    assert table().peak_activations == (2, 1)
    assert table().idle_ticks == (2, 0)
    assert order(table(), 1) == ["F0", "B0", "F1", "B1"]


def test_ticks_follow_from_orders():
    """Given only what each device does in order, the ticks are found."""
    orders = [
        [Task(op.kind, device, op.microbatch) for op in table().order(device)]
        for device in range(2)
    ]
    assert set(schedules.in_order("by hand", (0, 1), 2, orders).ops) == set(BY_HAND)


LATE = Op(BOTH, 0, 2, 0)  # while the other stage still works on it
WRONG = {
    "too early": (table((*BY_HAND[:2], LATE, *BY_HAND[3:])),
                  "deadlock: the input gradient of micro-batch 0 on stage 0 stands at tick 2 of "
                  "device 0, but it waits for the input gradient .* on stage 1, at tick 2 of "
                  "device 1"),
    "overlap": (table((*BY_HAND, Op(W, 0, 3, 0))), "device 0 has two ops at tick 3: both of "
                "micro-batch 0 and weight of micro-batch 0"),
    "forgotten": (table(BY_HAND[:-1]), "input gradient of micro-batch 1 on stage 1 is never done"),
    "twice": (table((*BY_HAND, Op(F, 0, 2, 1))),
              "forward pass of micro-batch 1 on stage 0 is done twice, at ticks 1 and 2"),
    "no weights": (table((*BY_HAND[:-1], Op(B, 1, 4, 1))),
                   "weight gradient of micro-batch 1 on stage 1 is never done"),
    "kind": (table((*BY_HAND, Op("fowrard", 0, 9, 0))), "has kind 'fowrard'"),
    "device": (table((*BY_HAND, Op(F, 2, 9, 0))), "has device=2, which is not there"),
    "microbatch": (table((*BY_HAND, Op(F, 0, 9, 2))), "has microbatch=2"),
    "chunk": (table((*BY_HAND, Op(F, 0, 9, 0, chunk=1))), "has chunk=1"),
    "tick": (table((*BY_HAND, Op(F, 0, -1, 0))), "has tick=-1"),
    "uneven": (table(placement=(0, 1, 1)), r"placement \[0, 1, 1\] does not give each"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_run_is_refused(case):
    """A table that deadlocks, overlaps or forgets an op is refused, and the op is named."""
    wrong, words = WRONG[case]
    with pytest.raises(ValueError, match=rf"(?s)^.*{words}.*\n  why: .*\n  try: "):
        schedules.check(wrong)


def test_an_order_that_deadlocks():
    """Devices that wait for each other are told which one waits for what."""
    swapped = [[Task(F, 0, 0), Task(BOTH, 0, 0)], [Task(BOTH, 1, 0), Task(F, 1, 0)]]
    words = (
        r"^deadlock: device 0 waits for ever before the backward pass of micro-batch 0 on stage 0\."
    )
    with pytest.raises(ValueError, match=words + r"\n  why: .*\n  try: "):
        schedules.in_order("swapped", (0, 1), 1, swapped)


BAD_ORDERS = {
    "a kind": ([[Task("fwd", 0, 0)], []], r"has kind 'fwd'\."),
    "too few": ([[Task(F, 0, 0), Task(BOTH, 0, 0)]], r"^1 orders are given for 2 devices\."),
    "another's": ([[Task(F, 1, 0)], []], r"^device 0 is given the forward pass .* stage 1\."),
    "no stage": ([[], [Task(BOTH, 2, 0)]], r"^device 1 is given the backward pass .* stage 2\."),
}


@pytest.mark.parametrize("bad", BAD_ORDERS)
def test_orders_are_for_their_devices(bad):
    """Each device has an order, and its tasks are of kinds and stages that there are."""
    orders, words = BAD_ORDERS[bad]
    with pytest.raises(ValueError, match=words):
        schedules.in_order("bad", (0, 1), 1, orders)


@each_generator
@pytest.mark.parametrize("sizes", [(0, 4), (2, 0), (2.5, 4), (8 / 4, 4)])
def test_sizes_are_counted(name, sizes):
    """Stages and micro-batches are whole numbers from 1 on."""
    generator = schedules.interleaved if name == "interleaved" else GENERATORS[name]
    with pytest.raises(ValueError, match=r"^(stages|microbatches)=.* is no number of"):
        generator(*sizes)


def test_interleaving_needs_full_groups():
    """Interleaved 1F1B takes as many micro-batches as divide among its stages."""
    words = r"^10 micro-batches are no multiple of 4 stages\.\n  why: .*\n  try: 8 or 12 "
    with pytest.raises(ValueError, match=words):
        schedules.interleaved(4, 10)


def test_it_is_drawn():
    """A schedule is a grid of devices and ticks; what waits is empty."""
    picture = pdl.show(schedules.one_f_one_b(2, 2))
    lines = picture.text.splitlines()
    assert picture.title.endswith("through 2 stages in 6 ticks; a device waits 2 at most")
    assert "0 │ F0 │ F1 │    │ B0 │    │ B1 │" in lines
    assert "1      │ F0 │ B0 │ F1 │ B1 │" in lines
    assert picture.word == "counted"


def test_it_is_drawn_with_chunks():
    """Where a device holds several chunks, each op says which; where kinds mix, so does it."""
    text = pdl.show(schedules.zero_bubble_v(1, 1)).text
    assert "│ F0₀ │ F0₁ │ B0₁ │ B0₀ │ W0₁ │ W0₀ │" in text
    assert "B backward (gradient of the input), W weight gradient" in " ".join(text.split())
    mixed = table((*BY_HAND[:-1], Op(B, 1, 4, 1), Op(W, 1, 5, 1)))
    assert "BW backward with weight gradient" in " ".join(pdl.show(mixed).text.split())
