"""Strategies side by side: what is right, what is sent, held and taken."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pdlkit as pdl
from pdlkit.drawing import show
from pdlkit.measure.parity import gradient_gap, gradient_gaps, reference, update_gap
from pdlkit.timings import Compared, Comparison
from pdlkit.training import compare

WORK = pdl.workloads.diabetes_mlp()


@dataclasses.dataclass(frozen=True)
class Spoiled(pdl.DataParallel):
    """Data parallelism whose gradients are multiplied by a factor."""

    factor: float = 1.0

    def gradients(self, model, layers, mesh):
        share = super().gradients(model, layers, mesh)

        def spoiled(params, batch):
            grads, metrics = share(params, batch)
            return jax.tree.map(lambda grad: self.factor * grad, grads), metrics

        return spoiled


@dataclasses.dataclass(frozen=True)
class Heard(pdl.OneDevice):
    """One device that writes its name into a list at every step."""

    name: str = ""
    calls: list = dataclasses.field(default_factory=list)

    def build(self, model, optimizer, mesh=None):
        program = super().build(model, optimizer, mesh)

        def step(state, batch):
            self.calls.append(self.name)
            return program.step(state, batch)

        return program._replace(step=step)


@pytest.fixture(scope="module")
def compared():
    """Four strategies, two of them wrong."""
    mesh = pdl.mesh(data=4)
    ways = {
        "alone": (pdl.OneDevice(), pdl.mesh(data=1)),
        "data": (pdl.DataParallel(), mesh),
        "summed": (Spoiled(factor=8.0), pdl.mesh(data=2)),
        "poisoned": (Spoiled(factor=float("nan")), pdl.mesh(data=2)),
    }
    return ways, compare(WORK, ways, steps=3)


def by_name(comparison) -> dict[str, Compared]:
    return {row.name: row for row in comparison.rows}


def test_a_row_each(compared):
    """Each strategy has a row, in the order in which they were given, with its mesh."""
    ways, found = compared
    assert [row.name for row in found.rows] == list(ways)
    assert by_name(found)["data"].mesh == {"data": 4}
    assert [row.devices for row in found.rows] == [1, 4, 2, 2]


def test_what_is_right_is_right_to_the_rounding(compared):
    """A right strategy differs from one device by rounding; one device by nothing."""
    rows = by_name(compared[1])
    assert rows["alone"].gradient_error == rows["alone"].update_error == 0
    assert 0 < rows["data"].gradient_error < 1e-5
    assert rows["data"].update_error < 1e-2
    assert rows["alone"].agrees
    assert rows["data"].agrees


def test_a_wrong_strategy_has_its_error_in_its_row(compared):
    """Gradients eight times too large are off by seven; NaN stays NaN; nothing is raised."""
    rows = by_name(compared[1])
    assert rows["summed"].gradient_error == pytest.approx(7, rel=0.01)
    assert np.isnan(rows["poisoned"].gradient_error)
    assert not rows["summed"].agrees
    assert not rows["poisoned"].agrees


def test_bytes_and_memory_are_what_inspect_counts(compared):
    """What is sent and held is counted by `inspect`."""
    ways, found = compared
    for name in ("alone", "data"):
        strategy, mesh = ways[name]
        report = pdl.inspect(strategy.build(WORK.model, WORK.optimizer, mesh), WORK)
        row = by_name(found)[name]
        assert (row.wire_bytes, row.memory) == (report.wire_bytes, report.memory.total)
    assert by_name(found)["alone"].wire_bytes == 0 < by_name(found)["data"].wire_bytes


def test_seconds_are_measured(compared):
    """Each row has the median time of a step."""
    assert all(0 < row.seconds < 10 for row in compared[1].rows)


def test_programs_take_turns():
    """The programs are timed in turns, a step of each, so that noise hits all alike."""
    calls, mesh = [], pdl.mesh(data=1)
    compare(WORK, {name: (Heard(name, calls), mesh) for name in "ab"}, steps=3)
    assert "ab" * 3 in "".join(calls)


def test_an_optimizer_that_sees_something_else():
    """Gradients that agree are not enough: what the own optimizer does is compared too."""
    work = dataclasses.replace(WORK, optimizer=optax.sgd(0.1))
    clipped = optax.chain(optax.clip_by_global_norm(0.1), work.optimizer)
    program = pdl.DataParallel().build(work.model, clipped, pdl.mesh(data=2))
    one = reference(work, program.mesh)
    off = update_gap(program, one)
    assert off > 0.1
    assert gradient_gap(program, one) < 1e-3


def test_gaps_name_their_array_and_hold_both_updates():
    """Each gap has the array's path and both updates; eight times too large is off by seven."""
    strategy = Spoiled(factor=8.0)
    program = strategy.build(WORK.model, WORK.optimizer, pdl.mesh(data=2))
    gaps = list(gradient_gaps(program, reference(WORK, program.mesh, steps=2)))
    assert len(gaps) == 2 * len(
        jax.tree.leaves(WORK.model.axes, is_leaf=lambda x: type(x) is tuple)
    )
    assert gaps[-1].path == "['last']['w']"
    for gap in gaps:
        assert jnp.allclose(gap.here, 8 * gap.there, rtol=1e-3, atol=1e-6)
    assert max(gap.error for gap in gaps) == pytest.approx(7, rel=0.01)


def test_a_standstill_is_no_update():
    """Where one device moves and the program does not, all of the way is missing."""
    stands = Spoiled(factor=0.0).build(WORK.model, optax.sgd(0.1), pdl.mesh(data=2))
    moves, still = (
        reference(dataclasses.replace(WORK, optimizer=optax.sgd(rate)), stands.mesh, steps=1)
        for rate in (0.1, 0.0)
    )
    assert update_gap(stands, moves) == pytest.approx(1)
    assert update_gap(stands, still) == 0


# --- errors


def says(what: str, why: str, fix: str) -> str:
    return f"^{what}\n  why: {why}\n  try: {fix}$"


def test_nothing_to_compare():
    """An empty table is refused, with an example of an entry."""
    words = says(
        r"there is nothing to compare\.",
        r"each entry becomes a row\.",
        r'pdl\.compare\(work, \{"data": \(pdl\.DataParallel\(\), pdl\.mesh\(data=8\)\)\}\)\.',
    )
    with pytest.raises(ValueError, match=words):
        compare(WORK, {})


@pytest.mark.parametrize(
    ("way", "kind"),
    [(pdl.DataParallel(), "DataParallel"), ((pdl.DataParallel(), {"data": 2}), "tuple")],
    ids=["no mesh", "no mesh's mesh"],
)
def test_an_entry_is_a_strategy_and_a_mesh(way, kind):
    """A strategy without its mesh is refused before anything runs."""
    words = says(
        rf"'data' is a {kind}, no strategy with its mesh\.",
        r"a strategy says how, a mesh on which devices\.",
        r"\{'data': \(pdl\.DataParallel\(\), pdl\.mesh\(data=8\)\)\}\.",
    )
    with pytest.raises(TypeError, match=words):
        compare(WORK, {"data": way})


def test_what_cannot_be_built():
    """A strategy that does not fit its mesh is refused in its own words."""
    with pytest.raises(ValueError, match=r"DataParallel works along mesh axis `data`"):
        compare(WORK, {"data": (pdl.DataParallel(), pdl.mesh(model=2))})


def test_a_step_at_least():
    """Without a step there is nothing to time."""
    with pytest.raises(ValueError, match=r"^steps=0 leaves nothing to time\."):
        compare(WORK, {"data": (pdl.DataParallel(), pdl.mesh(data=2))}, steps=0)


# --- the picture


def example(agrees=True, seconds=4e-3) -> Comparison:
    rows = (
        Compared("alone", 1, {"data": 1}, 0.0, 0.0, 0, 1_150_000, 1e-3, True),
        Compared(
            *("both", 8, {"data": 4, "model": 2}, 1.4e-6, 2e-4, 266_000, 764_000),
            *(seconds, agrees),
        ),
    )
    return Comparison("digits_mlp", rows, "So.")


def test_the_picture_in_text():
    """A table says what is right, bars what is sent, held and taken, each with its word."""
    assert show(example()).text == (
        "digits_mlp: all 2 as one device\n"
        "\n"
        "measured: beside one device\n"
        "strategy  mesh             as one device  gradients off by  updates off by\n"
        "──────────────────────────────────────────────────────────────────────────\n"
        "alone     data=1           yes            0                 0\n"
        "both      data=4, model=2  yes            1e-06             2e-04\n"
        "Largest difference from one device, relative to its size: gradients\n"
        "array by array, updates by the workload's own optimizer, which may\n"
        "magnify the last digit.\n"
        "\n"
        "counted: what each device sends in one step\n"
        "alone   0 B\n"
        "both   ████████████████████████████████████ 266 kB\n"
        "\n"
        "counted: what each device holds in one step\n"
        "alone  ████████████████████████████████████ 1.15 MB\n"
        "both   ████████████████████████ 764 kB\n"
        "\n"
        "measured: how long one step takes\n"
        "alone  █████████ 1.00 ms\n"
        "both   ████████████████████████████████████ 4.00 ms\n"
        "So."
    )


def test_its_title_names_what_is_wrong():
    """The title names the strategies that are not as one device."""
    assert show(example(agrees=False)).title == "digits_mlp: not as one device: both"
    assert "NO" in show(example(agrees=False)).text


def test_its_name_has_no_figures(compared):
    """What it prints is the same on every run."""
    assert repr(example()) == repr(example(seconds=5e-3))
    assert repr(example()) == "<measured and counted: digits_mlp by alone, both>"
    assert repr(compared[1]).endswith("diabetes_mlp by alone, data, summed, poisoned>")


def test_it_says_that_devices_share_the_cores(compared):
    """Where devices are simulated, the picture says that time does not fall with more."""
    assert "Simulated devices share this machine's" in compared[1].how
    assert compared[1].how.startswith("The median of 3 steps of each, in turns, each waited for.")
