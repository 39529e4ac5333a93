"""Pictures that move: how curves grow, how often they are shown, what a board shows."""

import base64
import dataclasses
import re

import kernels
import numpy as np
import pytest

import pdlkit as pdl
from pdlkit.drawing.live import frontends, throttle
from pdlkit.drawing.live.controls import EXTRA, Controls
from pdlkit.drawing.live.plot import Plot
from pdlkit.drawing.live.series import MOST, Series
from pdlkit.drawing.live.throttle import Throttle
from pdlkit.pictures import Bar, Line, Panel
from pdlkit.records import Metrics, Record, Training


@pytest.fixture(scope="module")
def patients():
    return pdl.workloads.diabetes_mlp()


@pytest.fixture(scope="module")
def program(patients):
    return pdl.DataParallel().build(patients.model, patients.optimizer, pdl.mesh(data=8))


def record(step, losses=(1.0, 3.0), **more) -> Record:
    return Record(step, Metrics(np.array(losses), more.pop("notes", {})), 0.01, **more)


def line(picture, panel: str, label: str) -> Line:
    """Return a line of a picture, by the title of its panel and its own label."""
    (found,) = [each for each in picture.panels if each.title == panel]
    (mark,) = [mark for mark in found.marks if mark.label == label]
    return mark


SECONDS = "seconds a step, mean of the last 8"


# --- curves that grow


@pytest.mark.parametrize("count", [1, 2, MOST - 1, MOST, MOST + 1, 2 * MOST + 3, 100_000])
def test_a_curve_keeps_its_ends_whatever_its_length(count):
    """However many points come, a few hundred stay: evenly spaced, the first and the newest."""
    series = Series()
    for step in range(count):
        series.add(step, [step / 2, -step])
    x = series.x
    assert len(x) <= MOST
    assert (x[0], x[-1]) == (0, count - 1)
    gaps = np.diff(x[:-1])
    assert len(set(gaps)) <= 1
    assert len(x) >= min(count, MOST // 2)
    np.testing.assert_array_equal(series.y, [x / 2, -x])


def test_a_browser_gets_a_curve_that_has_not_begun():
    """A curve without a point is sent as one."""
    plot = Plot()
    empty = Panel("loss", "measured", (Line("loss", np.empty(0), np.empty(0)),))
    plot.show(pdl.Picture("Nothing yet", (empty,)))
    assert plot.snapshot["rows"] == [0]


@pytest.mark.parametrize("count", [1, 2, 300, 511, 512])
def test_a_browser_gets_both_ends_of_a_curve(count):
    """No more points than pixels are sent, the first and the newest among them."""
    line = Line("loss", np.arange(count), np.arange(count))
    panel = Panel("loss", "measured", (line,))
    plot = Plot()
    plot.show(pdl.Picture("Two curves", (panel, panel), columns=2))
    frame = plot.snapshot["frames"][0]
    sent = plot.snapshot["rows"][0]
    x = np.frombuffer(base64.b64decode(plot.snapshot["points"]), np.float32)[:sent]
    low, high = (frame["x"][end] for end in ("low", "high"))
    steps = low + (high - low) * (x - frame["left"]) / frame["width"]
    assert sent <= max(frame["width"], 2)
    assert steps[[0, -1]] == pytest.approx([0, count - 1], abs=1e-3)


def test_a_curve_that_comes_later_has_a_gap_before():
    """Where more devices come, the new ones have no past; where some go, they have no future."""
    series = Series()
    for step, values in enumerate([[1, 2], [1, 2, 3], [1]]):
        series.add(step, values)
    np.testing.assert_array_equal(series.y, [[1, 1, 1], [2, 2, np.nan], [np.nan, 3, np.nan]])


def test_curves_are_not_changed_by_what_comes_later():
    """What a picture was given stays as it was."""
    series = Series()
    series.add(0, [5.0])
    x, y = series.x, series.y
    for step in range(1, 2 * MOST):
        series.add(step, [0.0])
    assert (x.tolist(), y.tolist()) == ([0], [[5]])


# --- how often


class Clock:
    def __init__(self, monkeypatch):
        self.now = 100.0
        self.computed = 0.0
        monkeypatch.setattr(throttle.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(throttle.time, "thread_time", lambda: self.computed)

    def push(self, often: Throttle, cost: float) -> None:
        often.begin()
        self.now, self.computed = self.now + cost, self.computed + cost
        often.end()


@pytest.mark.parametrize(
    ("step", "cost", "low", "high"),
    [
        (0.001, 0.0005, 19, 20.5),  # cheap: twenty a second
        (0.013, 0.0005, 18, 20.5),  # also where steps do not fit into the twentieth
        (0.001, 0.01, 4.5, 5.1),  # 10 ms each: a twentieth of the time
        (0.001, 0.1, 0.45, 0.55),
    ],
)
def test_pictures_come_as_often_as_they_may(step, cost, low, high, monkeypatch):
    """At most 20 a second, and at most 5 % of the time, whichever is less."""
    clock = Clock(monkeypatch)
    often = Throttle()
    while clock.now < 160:
        clock.now += step
        if often.is_due():
            clock.push(often, cost)
    assert low <= often.pushes / 60 <= high
    assert often.share <= 0.051


def test_a_long_silence_is_not_made_up_for(monkeypatch):
    """After a pause pictures come at their usual pace, not all at once."""
    clock = Clock(monkeypatch)
    often = Throttle()
    clock.now += 10
    for _ in range(100):
        clock.now += 0.001
        if often.is_due():
            clock.push(often, 0.0)
    assert often.pushes <= 3


# --- what a board shows


def test_a_board_shows_what_the_run_says(program, patients):
    """Each curve is that of the run's history, to its last point."""
    board = pdl.Board()
    run = pdl.fit(program, patients, steps=30, watch=board)
    losses = np.stack([each.device_loss for each in run.history])
    title = "loss of each of 8 devices"
    for device in range(8):
        mark = line(board.picture, title, f"device {device}")
        np.testing.assert_array_equal(mark.x, range(30))
        np.testing.assert_allclose(mark.y, losses[:, device])
    mean = line(board.picture, title, "all devices")
    np.testing.assert_allclose(mean.y, [each.loss for each in run.history])
    seconds = line(board.picture, SECONDS, "a step")
    np.testing.assert_array_equal(seconds.y, [each.seconds for each in run.history[1:]])
    waiting = line(board.picture, SECONDS, "waiting for devices")
    np.testing.assert_array_equal(waiting.y, [each.waiting for each in run.history[1:]])


def test_a_board_counts_what_a_step_sends_and_holds(program, patients):
    """Bytes sent by collective and axis, bytes held by use: those of the report, counted."""
    board = pdl.Board(pdl.panels.Sends(), pdl.panels.Memory())
    pdl.fit(program, patients, steps=2, watch=board)
    report = pdl.inspect(program, patients)
    sent, held = board.picture.panels
    assert sent.marks == (Bar("all_reduce along data", report.wire_bytes),)
    assert sum(bar.value for bar in held.marks) == report.memory.total
    assert (sent.word, held.word) == ("counted", "counted")


def test_a_board_follows_a_move(program, patients):
    """With another number of devices, curves end or begin, and what is counted is counted anew."""
    board = pdl.Board()
    watch = [board, lambda each: pdl.Set(devices=2) if each.step == 9 else None]
    run = pdl.fit(program, patients, steps=20, watch=watch)
    gone = line(board.picture, "loss of each of 2 devices", "device 5")
    assert np.isfinite(gone.y).tolist() == [True] * 10 + [False] * 10
    assert board.picture.panels[2].marks[0].value == pdl.inspect(run.program, patients).wire_bytes


def test_a_board_shows_notes():
    """What a model notes is a curve for each device; of an array, its mean."""
    board = pdl.Board(pdl.panels.Note("load"))
    for step in range(3):
        board(record(step, notes={"load": np.array([[1.0, 3.0], [5.0, 7.0 + step]])}))
    board.end()
    assert line(board.picture, "load", "device 0").y.tolist() == [2, 2, 2]
    assert line(board.picture, "load", "device 1").y.tolist() == [6, 6.5, 7]


def test_a_board_of_one_device_has_one_curve():
    """One device's loss is the loss."""
    board = pdl.Board(pdl.panels.Losses())
    board(record(0, [2.0]))
    board.end()
    assert [mark.label for mark in board.picture.panels[0].marks] == ["loss"]


def test_a_board_keeps_up_with_very_many_steps(monkeypatch):
    """Of thousands of steps between two pictures some are shown, evenly, and both ends."""
    board = pdl.Board(pdl.panels.Losses())
    monkeypatch.setattr(throttle.Throttle, "is_due", lambda self: False)
    for step in range(100_001):
        board(record(step))
    board.end()
    x = board.picture.panels[0].marks[0].x
    assert 256 <= len(x) <= MOST
    assert (x[0], x[-1]) == (0, 100_000)
    first, *others = np.diff(x)
    assert len(set(others)) == 1
    assert first <= others[0]
    assert board.picture.panels[0].marks[-1].y[-1] == pytest.approx(2.0)


def test_a_board_never_makes_training_wait(monkeypatch):
    """A loss that is not there yet is left for later; at the end nothing is left out."""

    class Late:
        here = False

        def is_ready(self):
            return self.here

        def __array__(self, dtype=None, copy=None):
            assert self.here, "training was made to wait"
            return np.array([1.0, 2.0])

    late = [Late(), Late()]
    board = pdl.Board(pdl.panels.Losses())
    monkeypatch.setattr(throttle.Throttle, "is_due", lambda self: True)
    for step, loss in enumerate(late):
        board(Record(step, Metrics(loss), 0.01))
    assert board.picture.panels[0].marks == ()
    late[0].here = True
    board(record(2))
    assert board.picture.panels[0].marks[0].x.tolist() == [0]
    late[1].here = True
    board.end()
    assert board.picture.panels[0].marks[0].x.tolist() == [0, 1, 2]


def test_a_board_is_called_what_it_shows(program, patients):
    """Its `repr` is the alt text: the same on every run, with the words of its panels."""
    texts = set()
    for seed in (0, 1):
        board = pdl.Board()
        pdl.fit(program, patients, steps=3, seed=seed, watch=board)
        texts.add(repr(board))
    (text,) = texts
    assert text == (
        "<measured and counted: training of diabetes_mlp: loss of each of 8 devices; "
        "seconds a step, mean of the last 8; what each device sends in one step; "
        "what each device holds in one step>"
    )


def test_a_board_begins_anew_with_each_training(program, patients):
    """The same board, given to two trainings, shows the second one alone, and how it ended."""
    board = pdl.Board()
    pdl.fit(program, patients, steps=12, watch=board)
    stop = lambda each: pdl.Stop() if each.step == 4 else None  # noqa: E731
    pdl.fit(program, patients, steps=12, watch=[board, stop])
    assert line(board.picture, SECONDS, "a step").x.tolist() == [1, 2, 3, 4]
    assert board.picture.title.startswith("diabetes_mlp on data=8: loss 1.4")
    assert board.picture.title.endswith(", stopped after 5 steps")


def test_a_board_can_be_saved(program, patients, tmp_path):
    """In each form that a picture has."""
    board = pdl.Board(pdl.panels.Losses())
    pdl.fit(program, patients, steps=3, watch=board)
    for suffix in ("png", "svg", "pdf", "txt", "csv", "json"):
        board.save(tmp_path / f"board.{suffix}")
        assert (tmp_path / f"board.{suffix}").stat().st_size > 100


def test_a_board_shows_other_things_too():
    """A board called with a mesh, or whatever `show` knows, shows its picture."""
    board = pdl.Board()
    mesh = pdl.mesh(data=4)
    assert board(mesh) is None
    board.end()
    assert repr(board.picture) == repr(pdl.show(mesh))


# --- controls: what a click leaves for the loop


@pytest.fixture
def training() -> Training:
    return Training("w", 0, 9, {"data": 4, "model": 2}, 8, 0.002, True, lambda: None)


@pytest.fixture
def controls(training) -> Controls:
    return Controls(training)


def knob(controls, name):
    """Return a control by what stands beside it."""
    every = [widget for row in controls.rows for widget in row.children]
    return next(widget for widget in every if widget.description == name)


def test_untouched_controls_ask_for_nothing(controls, training):
    """Controls that were only set up, or set to what is, say nothing."""
    assert controls.answer() is None
    controls.begin(training)
    assert controls.answer() is None


@pytest.mark.parametrize(
    ("name", "value", "signal"),
    [
        ("learning rate", 0.2, pdl.Set(learning_rate=0.2)),
        ("devices", 4, pdl.Set(devices=4)),
        ("slow down", 3, pdl.Slow(3, EXTRA)),
        ("drop", 0, pdl.Drop(0)),
    ],
)
def test_a_control_asks_once(name, value, signal, controls):
    """What is chosen is asked for once, the last choice of several."""
    knob(controls, name).value = knob(controls, name).value
    knob(controls, name).value = value
    assert controls.answer() == signal
    assert controls.answer() is None


def test_a_device_is_let_go_again(controls):
    """`none` takes the extra work away; nothing is dropped by it."""
    knob(controls, "slow down").value = 3
    knob(controls, "slow down").value = -1
    assert controls.answer() == pdl.Slow(3, 0.0)
    knob(controls, "drop").value = 2
    controls.answer()
    knob(controls, "drop").value = -1
    assert controls.answer() is None


def test_pause_holds_until_it_goes_on(controls):
    """Pause is answered as long as the button is down; other wishes come through."""
    button = knob(controls, "Pause")
    button.value = True
    assert [controls.answer(), controls.answer()] == [pdl.Pause()] * 2
    assert button.description == "Go on"
    knob(controls, "learning rate").value = 1.0
    assert controls.answer() == pdl.Set(learning_rate=1.0)
    assert controls.answer() == pdl.Pause()
    button.value = False
    assert controls.answer() is None


def test_stop_comes_before_all_else(controls):
    """Whatever else waits, and also while paused."""
    knob(controls, "Pause").value = True
    knob(controls, "drop").value = 1
    knob(controls, "Stop").click()
    assert controls.answer() == pdl.Stop()


def test_only_what_fits_is_offered(controls, training):
    """Counts that fill the other axes, as many places as devices, a rate if it can be set."""
    assert [value for _, value in knob(controls, "devices").options] == [2, 4, 6, 8]
    assert len(knob(controls, "drop").options) == 9
    fixed = dataclasses.replace(training, learning_rate=None, mesh={"data": 1})
    controls.begin(fixed)
    assert knob(controls, "learning rate").disabled
    assert knob(controls, "drop").disabled


def test_a_refusal_leaves_the_other_controls_as_they_are(controls, training):
    """What cannot be is taken back; the rate that was set and the slow device stay."""
    knob(controls, "learning rate").value = 0.2
    knob(controls, "slow down").value = 3
    knob(controls, "devices").value = 6
    knob(controls, "drop").value = 1
    controls.offer(training)
    assert knob(controls, "learning rate").value == pytest.approx(0.2)
    assert knob(controls, "slow down").value == 3
    assert knob(controls, "devices").value == 8
    assert knob(controls, "drop").value == -1


# --- where it is shown


def test_what_cannot_be_shown_is_named(monkeypatch):
    """A word that `PDLKIT_RENDER` does not know is refused, with those it does."""
    monkeypatch.setenv("PDLKIT_RENDER", "holograph")
    message = r"^PDLKIT_RENDER is 'holograph'\.\n  why: .*`widget`.*`static`.*\n  try: .*auto"
    with pytest.raises(ValueError, match=message):
        frontends.way()


SETUP = """
import pdlkit as pdl
pdl.simulate_devices(4)
work = pdl.workloads.diabetes_mlp()
program = pdl.DataParallel().build(work.model, work.optimizer, pdl.mesh(data=4))
"""
AWAITED = "run = await pdl.fit_async(program, work, steps=40, watch=pdl.Board())"
BLOCKING = "run = pdl.fit(program, work, steps=40, watch=pdl.Board())"
EXPLORED = "pdl.explore(lambda devices: pdl.mesh(data=devices), devices=(1, 2, 4))"


@pytest.mark.parametrize("way", ["auto", "static", "widget", "html", "display"])
def test_a_kernel_without_a_front_end_finishes(way):
    """In every way of showing, with nobody there to answer, a still picture and its text remain."""
    notebook = kernels.run(SETUP, AWAITED, BLOCKING, EXPLORED, PDLKIT_RENDER=way)
    for cell in notebook.cells[1:3]:
        (output,) = cell.outputs
        assert set(output.data) == {"image/png", "text/plain"}
        assert output.data["text/plain"].startswith("<measured and counted: training of diabetes")
        assert not re.search(r"0x[0-9a-f]{6}", output.data["text/plain"])
    (output,) = notebook.cells[3].outputs
    assert output.data["text/plain"] == "<counted: mesh of 4 devices, data=4>"
    assert "image/png" in output.data
    assert "widgets" not in notebook.metadata or way in ("widget", "html")


def test_text_is_all_that_is_asked_for():
    """`PDLKIT_RENDER=text` gives the picture in words, the figures in it."""
    notebook = kernels.run(SETUP, AWAITED, PDLKIT_RENDER="text")
    (output,) = notebook.cells[1].outputs
    assert list(output.data) == ["text/plain"]
    assert "measured: loss of each of 4 devices" in output.data["text/plain"]


def test_explore_refuses_nothing_to_choose_from():
    """A slider needs a value to stand on."""
    with pytest.raises(ValueError, match=r"^there is no value to choose for devices\.\n  why: "):
        pdl.explore(lambda devices: pdl.mesh(data=devices), devices=())
