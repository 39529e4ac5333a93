"""What stands above an awaited training: each control is heard between two steps."""

import time

import pytest

from browser.lab import TRAINER, expect

RATE = "print(float(run.state.optimizer.hyperparams['learning_rate']))"
DEVICES = "print([record.device_loss.size for record in run.history])"
SECONDS = "print([record.seconds for record in run.history])"


@pytest.fixture(scope="module")
def notebook(lab):
    """A notebook that is ready to train."""
    with lab.notebook("controls.ipynb", TRAINER) as notebook:
        yield notebook


def stop(board) -> None:
    """Click on Stop and wait for the end of the cell."""
    board.button("Stop").click()
    board.cell.outputs()


def newest(board) -> float:
    """Return the step at which the curves end."""
    board.svg.press("End")
    return board.read()["step"]


def test_stop_answers_at_once(notebook, record_property):
    """A click on Stop ends a training of any length; its run says that it was stopped."""
    with notebook.training() as board:
        began = time.perf_counter()
        board.button("Stop").click()
        board.await_end("stopped")
        seconds = time.perf_counter() - began
    record_property("seconds from the click on Stop", round(seconds, 3))
    print(f"{seconds:.3f} s from the click on Stop")
    assert seconds < 5
    assert notebook.answer("print(run.ended)") == "stopped"


def test_controls_that_nobody_touches_change_nothing(notebook):
    """The learning rate stays what the workload says, to the last digit."""
    with notebook.training() as board:
        stop(board)
    assert float(notebook.answer(RATE)) == pytest.approx(2e-3, rel=1e-6)


def test_the_learning_rate_is_set_by_mouse_and_by_keyboard(notebook):
    """The slider sets the learning rate of the steps that follow."""
    with notebook.training() as board:
        track = board.output.locator(".noUi-base")
        handle = board.output.get_by_role("slider")
        shown = board.output.locator(".widget-readout")
        before = float(shown.inner_text())
        box = track.bounding_box()
        track.click(position={"x": 0.25 * box["width"], "y": box["height"] / 2})
        notebook.until(lambda: float(shown.inner_text()) < before / 10)
        by_mouse = float(shown.inner_text())
        for _ in range(3):
            handle.press("ArrowRight")
        notebook.until(lambda: float(shown.inner_text()) > by_mouse)
        board.await_step(board.step + 8)
        asked = float(shown.inner_text())
        stop(board)
    assert float(notebook.answer(RATE)) == pytest.approx(asked, rel=0.05)


def test_the_keyboard_is_enough(notebook):
    """Space on Pause holds the steps, and lets them go on; Enter on Stop ends them."""
    with notebook.training() as board:
        board.button("Pause").press("Space")
        expect(board.status).to_contain_text("paused")
        held = board.step
        notebook.page.wait_for_timeout(500)  # ms, in which nothing may happen
        assert board.step == held
        board.button("Go on").press("Space")
        board.await_step(held + 8)
        board.button("Stop").press("Enter")
        board.cell.outputs()
    assert notebook.answer("print(run.ended)") == "stopped"


def test_a_paused_board_shows_the_newest_step(notebook):
    """When nothing moves, the curves end where the sentence above them says."""
    with notebook.training() as board:
        board.button("Pause").click()
        expect(board.status).to_contain_text("paused")
        notebook.until(lambda: newest(board) == board.step - 1)


def test_training_goes_on_with_other_devices(notebook):
    """Eight devices, then four, then two: 128 examples cannot be cut for the three left."""
    with notebook.training() as board:
        board.choice("devices").select_option("4")
        expect(board.svg).to_contain_text("data=4")
        board.await_step(board.step + 8)
        board.choice("drop").select_option("device 1")
        expect(board.svg).not_to_contain_text("data=4")
        board.await_step(board.step + 8)
        stop(board)
    sizes = [int(size) for size in notebook.answer(DEVICES)[1:-1].split(",")]
    assert list(dict.fromkeys(sizes)) == [8, 4, 2]


def test_one_slow_device_slows_every_step(notebook):
    """A device that has 20 ms more to do makes all wait for it."""
    with notebook.training() as board:
        board.await_step(60)
        board.choice("slow down").select_option("device 3")
        board.await_step(board.step + 40)
        stop(board)
    seconds = [float(each) for each in notebook.answer(SECONDS)[1:-1].split(",")]
    assert min(seconds[-8:]) > min(seconds[20:60]) + 0.01
