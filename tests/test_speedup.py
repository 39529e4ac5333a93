"""Speedup: measured as far as there are cores, each count in a process of its own."""

import contextlib
import dataclasses
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import pdlkit as pdl
from pdlkit.cores import allowed_cores, can_pin, pinned, within_quota
from pdlkit.drawing import show
from pdlkit.models.layers import ALONE
from pdlkit.pictures import Line
from pdlkit.prediction import laws
from pdlkit.records import Metrics, Program
from pdlkit.timings import Speedup, Timing
from pdlkit.training import speedup
from pdlkit.training.stopwatch import Job, time_job, time_steps

CORES = within_quota(allowed_cores())
WORK = pdl.workloads.diabetes_mlp()  # 64 patients a batch
PAST = 1 << CORES.bit_length()  # more devices than there are cores
two_cores = pytest.mark.skipif(CORES < 2, reason="one core: nothing but one device is measured")
pins = pytest.mark.skipif(not can_pin(), reason="this system cannot keep a process on a core")


class Together(pdl.DataParallel):
    """Data parallelism that is never asked to work on one device."""

    def build(self, model, optimizer, mesh):
        assert mesh.size > 1, "one device is the serial program"
        return super().build(model, optimizer, mesh)


def with_loss(loss):
    """Return the workload with another loss."""
    return dataclasses.replace(WORK, model=WORK.model._replace(loss=loss))


def spied(folder: Path):
    """Return a workload whose loss writes down which process traces it."""

    def loss(params, batch, layers=ALONE):
        here = {name: os.environ.get(name) for name in ("NPROC", "PJRT_NPROC")}
        seen = {"environment": here, "pool": 0, "cores": []}
        for thread in Path("/proc/self/task").iterdir() if can_pin() else ():
            with contextlib.suppress(OSError):  # it has just ended
                seen["cores"].append(sorted(os.sched_getaffinity(int(thread.name))))
                seen["pool"] += (thread / "comm").read_text() == "tf_XLAEigen\n"
        (folder / f"{os.getpid()}.json").write_text(json.dumps(seen))
        return WORK.model.loss(params, batch, layers)

    return with_loss(loss)


def says(what: str, why: str, fix: str) -> str:
    return f"^{what}\n  why: {why}\n  try: {fix}$"


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A small speedup, what its watchers were given, and what its processes saw."""
    folder = tmp_path_factory.mktemp("spied")
    calls = []
    watchers = [lambda found: calls.append(("a", found)), lambda found: calls.append(("b", found))]
    counts = (PAST, 2)  # in no order, and without the 1
    found = speedup(spied(folder), Together(), devices=counts, steps=3, watch=watchers)
    (folder / f"{os.getpid()}.json").unlink()  # the parent traced it too
    return found, calls, [json.loads(path.read_text()) for path in folder.iterdir()]


# --- measured, in real processes


class TestMeasured:
    def test_nothing_is_measured_past_the_cores(self, watched):
        """All counts asked for are kept; those that have a core each are measured."""
        found = watched[0]
        assert found.asked == tuple(sorted({1, 2, PAST}))
        measured = [n for n in found.asked if n <= CORES]
        assert [each.devices for each in found.strong] == measured
        assert [each.devices for each in found.weak] == measured
        assert found.cores == CORES

    @pins
    def test_a_machine_of_one_core(self):
        """Kept on one core, two devices are not measured, and no law is fitted."""
        mesh = lambda n: pdl.mesh(data=n)  # noqa: E731
        with pinned(1):
            found = speedup(WORK, pdl.DataParallel(), devices=(1, 2), mesh=mesh, steps=3)
        assert [each.devices for each in found.strong] == [1]
        assert (found.cores, found.amdahl, found.gustafson) == (1, None, None)
        assert "Not measured: 2 devices, for they would take turns." in unfolded(found)

    def test_one_device_is_always_there(self, watched):
        """One device is timed though it was not asked for, and not by the strategy."""
        first = watched[0].strong[0]
        assert (first.devices, first.mesh) == (1, {"data": 1})
        assert watched[0].weak[0] == first

    @two_cores
    def test_weak_scaling_joins_batches(self, watched):
        """Strong scaling keeps the batch, weak scaling joins one for each device."""
        found = watched[0]
        assert {each.examples for each in found.strong} == {64}
        assert [each.examples for each in found.weak] == [64 * each.devices for each in found.weak]

    def test_figures_are_times(self, watched):
        """A median is no less than its minimum, and no more cores are busy than there are."""
        for timing in (*watched[0].strong, *watched[0].weak):
            assert 0 < timing.minimum <= timing.median < 10
            assert 0 < timing.cores_busy < timing.devices + 0.2
            assert timing.steps == 3

    @two_cores
    def test_watchers_see_it_grow(self, watched):
        """Watchers are called as each count ends, in their order, the last with all of it."""
        found, calls, _ = watched
        names, seen = zip(*calls, strict=True)
        assert names == ("a", "b") * len(found.strong)
        assert [len(each.strong) for each in seen[::2]] == [*range(1, len(found.strong) + 1)]
        assert seen[0].amdahl is None
        assert seen[-1] is found

    @pins
    @two_cores
    def test_each_count_has_a_process_with_as_many_cores(self, watched):
        """Each count has its process, whole on n cores, with n threads, whatever is set here."""
        assert int(os.environ["PJRT_NPROC"]) >= 16  # by simulate_devices(8)
        here = sorted(os.sched_getaffinity(0))
        processes = sorted(watched[2], key=lambda seen: seen["environment"]["NPROC"])
        assert len(processes) == len(watched[0].strong)
        for n, seen in zip((each.devices for each in watched[0].strong), processes, strict=True):
            assert seen["environment"] == {"NPROC": str(n), "PJRT_NPROC": None}
            assert all(cores == here[:n] for cores in seen["cores"])
            assert seen["pool"] in (0, n)  # 0: JAX 0.7.2 does not name its threads
        assert sorted(os.sched_getaffinity(0)) == here

    def test_laws_are_fitted_to_the_minimum(self, watched):
        """Both serial shares are those that fit what was measured."""
        found = watched[0]
        if len(found.strong) > 1:
            assert found.amdahl == laws.fit_amdahl(found.speedups)
            assert found.gustafson == laws.fit_gustafson(found.scaled_speedups)


SCRIPT = """
import mine, optax, pdlkit as pdl
from pdlkit.training import speedup
import jax.numpy as jnp, numpy as np

class Own(pdl.DataParallel):
    pass

def init(key):
    return {"w": jnp.zeros((4, 1))}

def loss(params, batch, layers):
    return mine.squared(batch[0] @ params["w"] - batch[1])

if __name__ == "__main__":
    pdl.simulate_devices(4)
    data = np.ones((64, 4), np.float32), np.ones((64, 1), np.float32)
    model = pdl.Model(init, loss, {"w": ("features", "outputs")})
    work = pdl.Workload("mine", model, optax.sgd(0.1), [data])
    print(speedup(work, Own(), devices=[2], steps=2))
"""


@two_cores
def test_a_model_of_a_notebook(tmp_path):
    """A model and a strategy of `__main__`, and a module beside it, reach each process."""
    (tmp_path / "mine.py").write_text("def squared(x):\n    return (x**2).mean()\n")
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "<measured and modelled: speedup of mine by Own, 1 and 2 devices>\n"


# --- errors, before anything is timed


@pytest.fixture
def unmeasured(tmp_path):
    """A call that must not begin to measure: no watcher is called, no process started."""
    seen = []

    def ask(work=None, strategy=None, **more):
        work = spied(tmp_path) if work is None else work
        speedup(work, strategy or pdl.DataParallel(), watch=seen.append, **more)

    yield ask
    assert seen == []
    assert {path.stem for path in tmp_path.iterdir()} <= {str(os.getpid())}


@pytest.mark.parametrize("strategy", [pdl.DataParallel(), pdl.PmapDataParallel()], ids=str)
def test_a_batch_that_cannot_be_cut(unmeasured, strategy):
    """A batch that one of the counts cannot divide is refused first, past the cores too."""
    words = says(
        r"a batch of 64 examples does not divide among data=48\.",
        r"each device takes a share of the same size\.",
        r"a size of 48 or 96, or another number of devices\.",
    )
    with pytest.raises(ValueError, match="does not divide") as error:
        unmeasured(strategy=strategy, devices=(1, 2, 48))
    assert re.match(words, str(error.value))


def test_a_mesh_without_the_axis(unmeasured):
    """A mesh that the strategy does not fit is refused in the strategy's own words."""
    with pytest.raises(ValueError, match=r"DataParallel works along mesh axis `data`, but"):
        unmeasured(mesh=lambda n: {"model": n})


def test_a_mesh_of_another_size(unmeasured):
    """The mesh of n devices has n."""
    words = says(
        r"mesh\(2\) is data=2 x model=2, which has 4 devices\.",
        r"the speedup of 2 devices is that of a mesh of 2\.",
        r'mesh=lambda n: \{"data": n\}, or sizes whose product is n\.',
    )
    with pytest.raises(ValueError, match=words):
        unmeasured(mesh=lambda n: {"data": n, "model": 2})


@pytest.mark.parametrize(("mesh", "kind"), [({"data": 2}, "dict"), (lambda n: n, "int")])
def test_a_mesh_that_is_no_function(unmeasured, mesh, kind):
    """The mesh is asked for with each count."""
    words = says(
        rf"mesh gives a {kind}, and no sizes of a mesh of 2 devices\.",
        r"each count of devices is laid out on a mesh of its own\.",
        r'a function of the count: mesh=lambda n: \{"data": n\}\.',
    )
    with pytest.raises(TypeError, match=words):
        unmeasured(mesh=mesh, devices=(1, 2))


@pytest.mark.parametrize(
    ("devices", "kind"),
    [((1, 0), ValueError), ((1, -2), ValueError), ((1, 2.0), TypeError), ("12", TypeError)],
)
def test_counts_are_whole(unmeasured, devices, kind):
    """A count of devices is a whole number from 1 on."""
    wrong = devices[0] if isinstance(devices, str) else devices[1]
    words = says(
        rf"devices has {wrong!r} in it, which is no number of devices\.",
        r"devices are counted, and one is the fewest\.",
        r"devices=\(1, 2, 4, 8\)\.",
    )
    with pytest.raises(kind, match=words):
        unmeasured(devices=devices)


def test_a_step_at_least(unmeasured):
    """Without a step there is nothing to time."""
    words = r"^steps=0 leaves nothing to time\.\n  why: .*\n  try: steps=60; .*$"
    with pytest.raises(ValueError, match=words):
        unmeasured(steps=0)


def test_what_cannot_be_sent(unmeasured):
    """A workload that holds a lock cannot go to another process, and is told how it could."""
    lock = threading.Lock()

    def loss(params, batch, layers=ALONE):
        with lock:
            return WORK.model.loss(params, batch, layers)

    words = says(
        r"diabetes_mlp cannot be sent to another process: cannot pickle '_thread\.lock' object\.",
        r"each number of devices is timed in a process of its own, .* by cloudpickle\.",
        r"open files, locks and the like inside of the functions that use them\.",
    )
    with pytest.raises(TypeError, match=words):
        unmeasured(with_loss(loss))


def test_a_process_that_dies():
    """A process that dies leaves its code and its last words in the error."""
    parent = os.getpid()

    def loss(params, batch, layers=ALONE):
        if os.getpid() != parent:
            print("out of luck", file=sys.stderr, flush=True)
            os._exit(7)
        return WORK.model.loss(params, batch, layers)

    words = says(
        r"the process that timed 1 device died with code 7\.",
        r"its last words were:(\n    .*)*\n    out of luck",
        r".* memory .*",
    )
    with pytest.raises(RuntimeError, match=words):
        speedup(with_loss(loss), pdl.DataParallel())


def test_an_error_in_the_process():
    """What is raised there alone is read here, at the end of the error."""
    parent = os.getpid()

    def loss(params, batch, layers=ALONE):
        if os.getpid() != parent:
            raise OverflowError("only in the child")
        return WORK.model.loss(params, batch, layers)

    words = r"died with code 1\.\n  why: (.*\n)*    OverflowError: only in the child\n  try: "
    with pytest.raises(RuntimeError, match=words):
        speedup(with_loss(loss), pdl.DataParallel())


# --- the stopwatch


class Late:
    """An array that is there only when it is waited for."""

    def __init__(self, work):
        self.block_until_ready = work


def program_of(work) -> Program:
    """Return a program whose step hands out at once what is then waited for."""
    step = lambda state, batch: (state, Metrics(Late(work)))  # noqa: E731
    mesh = pdl.mesh(data=2)
    return Program(lambda params: params, step, lambda state: state, lambda mesh: None, mesh)


def test_each_step_is_waited_for():
    """A step's time ends when its results are there; a sleeping step keeps no core busy."""
    timing = time_steps(program_of(lambda: time.sleep(0.02)), WORK, steps=5)
    assert 0.02 <= timing.minimum <= timing.median < 0.2
    assert timing.cores_busy < 0.3
    assert (timing.devices, timing.steps, timing.examples) == (2, 5, 64)


def test_cores_busy_are_seconds_of_cpu_in_a_second():
    """A step that computes all the time on one thread keeps one core busy."""

    def compute():
        until = time.thread_time() + 0.02
        while time.thread_time() < until:
            pass

    timing = time_steps(program_of(compute), WORK, steps=5)
    assert timing.cores_busy * timing.median * 5 >= 0.02  # what it took, whoever else ran
    assert timing.cores_busy <= 1.2


def test_warm_up_is_not_timed():
    """Steps before the clock starts, where a program is compiled, do not count."""
    slow = iter([0.3, 0.3])
    timing = time_steps(program_of(lambda: time.sleep(next(slow, 0.001))), WORK, steps=2)
    assert timing.median < 0.2


@pytest.mark.parametrize("strategy", [pdl.DataParallel(), pdl.PmapDataParallel()], ids=str)
def test_timed_in_this_process(strategy):
    """A job can be timed on the devices that are here, as accelerators are."""
    work = dataclasses.replace(WORK, batches=[WORK.batch(0)])
    (timing,) = time_job(Job(strategy, {"data": 4}, (work,), 2))
    assert (timing.devices, timing.mesh, timing.examples) == (4, {"data": 4}, 64)


# --- the cores


def test_a_container_leaves_fewer_cores(tmp_path):
    """A quota of two and a half cores leaves two; none leaves all."""
    limit = tmp_path / "sys/fs/cgroup/cpu.max"
    assert within_quota(8, tmp_path) == 8
    limit.parent.mkdir(parents=True)
    for quota, cores in (("250000 100000", 2), ("50000 100000", 1), ("max 100000", 8)):
        limit.write_text(quota)
        assert within_quota(8, tmp_path) == cores


@pins
def test_pinned_gives_the_cores_back():
    """Pinned is as long as the block, however it ends."""
    before = os.sched_getaffinity(0)
    inside = []

    def fail():
        with pinned(1):
            inside.append(os.sched_getaffinity(0))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert inside == [{min(before)}]
    assert os.sched_getaffinity(0) == before


# --- the record and its picture


def timing(devices: int, minimum: float, examples: int = 64, median: float = 0.0) -> Timing:
    median = median or 1.25 * minimum
    return Timing(devices, {"data": devices}, minimum, median, 0.95 * devices, 60, examples)


def example(two=5e-3, two_weak=9e-3, **more) -> Speedup:
    strong = (timing(1, 8e-3), timing(2, two))
    weak = (timing(1, 8e-3), timing(2, two_weak, 128))
    found = Speedup("digits_mlp by DataParallel", 2, "So.", (1, 2, 4, 8), strong, weak)
    return dataclasses.replace(
        found,
        amdahl=laws.fit_amdahl(found.speedups),
        gustafson=laws.fit_gustafson(found.scaled_speedups),
        **more,
    )


def alone() -> Speedup:
    one = (timing(1, 8e-3),)
    return Speedup("digits_mlp by DataParallel", 1, "So.", (1, 2), one, one)


def lines(panel) -> dict[str, Line]:
    return {mark.label: mark for mark in panel.marks}


def unfolded(found: Speedup) -> str:
    return " ".join(show(found).text.split())


class TestRecord:
    def test_speedups_are_ratios_of_times(self):
        """A speedup is one device's time over that of n, scaled: examples a second."""
        found = example()
        assert found.speedups == pytest.approx({1: 1, 2: 1.6})
        assert found.median_speedups == pytest.approx({1: 1, 2: 1.6})
        assert found.scaled_speedups == pytest.approx({1: 1, 2: 16 / 9})
        assert found.median_scaled_speedups == pytest.approx({1: 1, 2: 16 / 9})

    def test_minimum_and_median_are_two_answers(self):
        """Speedups by the median are those of the medians."""
        found = dataclasses.replace(
            example(), strong=(timing(1, 8, median=9), timing(2, 4, median=6))
        )
        assert found.speedups == {1: 1, 2: 2}
        assert found.median_speedups == {1: 1, 2: 1.5}

    def test_figures_are_those_of_the_laws(self):
        """Efficiency and serial share are what the laws make of the speedups."""
        found = example()
        assert found.efficiency == {n: laws.efficiency(s, n) for n, s in found.speedups.items()}
        assert found.karp_flatt == pytest.approx({2: laws.karp_flatt(found.speedups[2], 2)})

    def test_its_name_has_no_figures(self):
        """What it prints is the same on every run."""
        name = "<measured and modelled: speedup of digits_mlp by DataParallel, 1 and 2 devices>"
        assert repr(example()) == repr(example(two=7e-3)) == name
        assert repr(alone()) == name.replace("1 and 2 devices", "1 device")


class TestPicture:
    def test_no_measured_point_is_past_the_cores(self):
        """Measured lines end where the cores do; past them only modelled lines go on."""
        for panel in show(example()).panels[:2]:
            for line in lines(panel).values():
                reach = (1, 2, 4, 8) if line.word == "modelled" else (1, 2)
                assert tuple(line.x) == reach, line.label
            assert panel.words == "measured and modelled"
        assert show(example()).panels[2].words == "measured"

    def test_laws_are_drawn_as_fitted(self):
        """The laws go on to all counts asked for, by the serial shares that were fitted."""
        found = example()
        strong, weak, _ = show(found).panels
        assert lines(strong)["Amdahl, 25% serial"].y[3] == laws.amdahl(found.amdahl, 8)
        assert lines(weak)["Gustafson, 22.2% serial"].y[3] == laws.gustafson(found.gustafson, 8)
        assert lines(strong)["ideal"].y == (1, 2, 4, 8)

    @pytest.mark.parametrize(
        ("two", "label", "note"),
        [
            (3.9e-3, "Amdahl, 0% serial", "a serial share of -2.5%. That is more than ideal, as"),
            (16e-3, "Amdahl, 100% serial", "a serial share of 300%. One device is faster, for"),
        ],
    )
    def test_a_share_that_is_none_is_not_clipped_silently(self, two, label, note):
        """A fit outside of 0 to 1 is drawn at the nearer end, and the note says so."""
        panel = show(example(two=two)).panels[0]
        assert label in lines(panel)
        assert note in panel.note
        assert panel.note.endswith(f"{label.split()[1]} is drawn.")

    def test_the_table(self):
        """The table has what was measured at each count, and what follows from it."""
        assert show(example()).text.split("\n\n")[-1] == (
            "measured: strong scaling in figures\n"
            "devices  minimum step  median step  cores busy  speedup  efficiency  serial share\n"
            "─────────────────────────────────────────────────────────────────────────────────\n"
            "      1       8.00 ms      10.0 ms        0.95        1  100%        –\n"
            "      2       5.00 ms      6.25 ms         1.9      1.6  80%         25%\n"
            "So. Serial share: what a speedup stands for, by Karp and Flatt. Not\n"
            "measured: 4 and 8 devices, for they would take turns."
        )

    @pytest.mark.parametrize(
        ("found", "title"),
        [
            (example(), "digits_mlp by DataParallel: 2 devices are 1.60 times as fast as one"),
            (
                example(16e-3),
                "digits_mlp by DataParallel: 2 devices take 2.00 times as long as one",
            ),
            (alone(), "digits_mlp by DataParallel: one device takes 8.00 ms a step"),
        ],
        ids=["faster", "slower", "alone"],
    )
    def test_its_title_says_what_was_found(self, found, title):
        """More devices are faster, or slower, or there is only one to look at so far."""
        assert show(found).title == title

    def test_nothing_yet(self):
        """Before the first count ends there is a picture too: the ideal."""
        empty = Speedup("a by B", 2, "So.", (1, 2))
        assert "nothing was measured yet" in show(empty).title
        assert repr(empty) == "<measured and modelled: speedup of a by B, no devices>"
        assert show(empty).text
