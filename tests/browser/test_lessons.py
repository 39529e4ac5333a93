"""Lessons as a reader runs them: in JupyterLab, with a board that moves."""

import json
import shutil
from pathlib import Path

import pytest

from browser.lab import Board, expect

LESSONS = Path(__file__).parents[2] / "notebooks"
AT = "r = run.history[{}]; print([r.loss, *map(float, r.device_loss)])"


@pytest.fixture(params=["00_start.ipynb"])
def lesson(request, lab):
    """An open lesson, whose runs are called `run`."""
    notebook = lab.open(Path(shutil.copy(LESSONS / request.param, lab.folder)))
    yield notebook
    notebook.close()


def test_a_lesson_shows_what_its_run_keeps(lesson):
    """All cells run; the board moves; its newest point is in the run's history."""
    all_cells = lesson.begin("notebook:run-all-cells")
    sources = ["".join(cell["source"]) for cell in lesson.cells()]
    boards = [place for place, source in enumerate(sources) if "Board(" in source]
    read = {}
    for place in boards:
        board = Board(lesson.cell(place))
        drawn = board.frames
        board.await_step(20)
        board.button("Pause").click()
        expect(board.status).to_contain_text("paused")
        assert board.frames > drawn
        board.svg.press("End")
        read = board.read()
        board.button("Go on").click()
    lesson.wait(all_cells)
    for place in range(len(sources)):
        lesson.cell(place).outputs()
    kept = json.loads(lesson.answer(AT.format(int(read.pop("step")))))
    names = ["all devices", *(f"device {i}" for i in range(8))]
    assert read == pytest.approx(dict(zip(names, kept, strict=True)), rel=5e-3, abs=1e-5)
