"""A slider before a function: what it gives is seen as soon as it is there."""

import statistics

import pytest

from browser.lab import Board, expect

LAY = """import jax, numpy as np
import pdlkit as pdl
from jax.sharding import NamedSharding, PartitionSpec as P

def lay(devices):
    pdl.simulate_devices(devices)
    rows = NamedSharding(pdl.mesh(data=devices), P("data"))
    return jax.device_put(np.arange(32.0).reshape(8, 4), rows)"""
STEP = """import functools
work = pdl.workloads.{work}()

@functools.cache
def built(devices):
    return pdl.DataParallel().build(work.model, work.optimizer, pdl.mesh(data=devices))

def step(devices):
    pdl.simulate_devices(devices)
    return pdl.fit(built(devices), work, steps=1)"""


@pytest.fixture(scope="module")
def notebook(lab):
    """A notebook that can lay arrays out."""
    with lab.notebook("exploring.ipynb", LAY) as notebook:
        yield notebook


def explored(notebook, code: str) -> Board:
    """Run a cell that explores, and return what it shows."""
    cell = notebook.run(code)
    cell.outputs()
    return Board(cell)


_LOOK = """([element, text]) => ({ends: new Promise(resolve => {
    const seen = () => element.textContent.includes(text);
    const look = () => seen() ? resolve(performance.now()) : requestAnimationFrame(look);
    const begin = event => { window.pdlBegins = event.timeStamp; look(); };
    document.addEventListener("keydown", begin, {once: true, capture: true});
})})"""


def turn(board: Board, key: str, element, text: str) -> float:
    """Turn the slider by a key; return the seconds until an element shows this text."""
    # the page itself looks, at every frame: to ask it from here would be too slow
    look = board.page.evaluate_handle(_LOOK, [element.element_handle(), text])
    board.output.get_by_role("slider").press(key)
    return board.page.evaluate("async ({ends}) => (await ends - window.pdlBegins) / 1000", look)


def test_a_slider_lays_an_array_on_other_devices(notebook, record_property):
    """Each turn replaces the devices, lays the array out anew and shows where it is."""
    board = explored(notebook, "pdl.explore(lay, devices=(1, 2, 4, 8))")
    titles = {8: "8 pieces of 1 × 4", 4: "4 pieces of 2 × 4"}
    expect(board.svg).to_contain_text(titles[8])
    found = []
    for _ in range(6):
        found.append(turn(board, "ArrowLeft", board.svg, titles[4]))
        expect(board.status).to_have_text("devices=4")
        found.append(turn(board, "ArrowRight", board.svg, titles[8]))
        expect(board.status).to_have_text("devices=8")
    seconds = statistics.median(found)
    record_property("seconds from the key to the picture", round(seconds, 3))
    print(f"{seconds:.3f} s from the key to the picture, at most {max(found):.3f}")
    assert seconds < 2
    assert notebook.answer("print(len(jax.devices()))") == "8"


@pytest.mark.parametrize("work", ["digits_mlp", "digits_cnn"])
def test_a_step_is_run_anew(work, notebook, record_property):
    """A training step on another number of devices is a turn of the slider away."""
    notebook.answer(STEP.format(work=work))
    board = explored(notebook, "pdl.explore(step, devices=(4, 8))")
    for what, key, devices in (
        ("compiled", "ArrowLeft", 4),
        ("run anew", "ArrowRight", 8),
        ("run anew again", "ArrowLeft", 4),
    ):
        title = f"loss of each of {devices} devices"
        seconds = turn(board, key, board.svg, title)
        record_property(f"seconds of a step of {work}, {what}", round(seconds, 3))
        print(f"{seconds:.3f} s from the key to a step of {work}, {what}")
        expect(board.status).to_have_text(f"devices={devices}")


def test_busy_is_said_before_it_is_done(notebook):
    """While a function runs, the sentence above the picture says so."""
    notebook.answer("import time\ndef slow(devices): time.sleep(1); return pdl.mesh(data=devices)")
    board = explored(notebook, "pdl.explore(slow, devices=(1, 2))")
    board.output.get_by_role("slider").press("ArrowLeft")
    expect(board.status).to_have_text("busy with devices=1 …")
    expect(board.status).to_have_text("devices=1")


def test_what_goes_wrong_is_said_there(notebook):
    """Eight rows cannot be cut among three devices: the slider says so, and goes on."""
    board = explored(notebook, "pdl.explore(lay, devices=(2, 3, 4))")
    slider = board.output.get_by_role("slider")
    slider.press("ArrowLeft")
    expect(board.status).to_contain_text("devices=3: ")
    expect(board.svg).to_contain_text("4 pieces of 2 × 4")
    slider.press("ArrowLeft")
    expect(board.svg).to_contain_text("2 pieces of 4 × 4")


def test_a_picture_can_be_kept(notebook):
    """`Keep` leaves the picture alone, still, as a saved notebook keeps it."""
    board = explored(notebook, "pdl.explore(lay, devices=(2, 4))")
    board.output.get_by_role("slider").press("ArrowLeft")
    expect(board.svg).to_contain_text("2 pieces of 4 × 4")
    board.button("Keep").click()
    expect(board.output.locator("img")).to_be_visible()
    expect(board.output.get_by_role("slider")).to_have_count(0)
    (output,) = notebook.cells()[board.cell.place]["outputs"]
    assert set(output["data"]) == {"image/png", "text/plain"}
