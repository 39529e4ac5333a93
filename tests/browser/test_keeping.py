"""What is left when training has ended, and what shows where no widget is loaded."""

import pytest

from browser.lab import BLOCKING, TRAINER, expect

SHORT = "run = pdl.fit(program, work, steps=60, watch=pdl.Board())"
KINDS = {"image/png", "text/plain"}


def shown(outputs: list[dict]) -> list[set[str]]:
    """Return the kinds in which each output is stored, printed text left out."""
    return [set(each["data"]) for each in outputs if "data" in each]


@pytest.fixture(scope="module")
def notebook(lab):
    """A notebook that is ready to train."""
    with lab.notebook("keeping.ipynb", TRAINER) as notebook:
        yield notebook


@pytest.mark.parametrize("way", ["html", "display"])
def test_a_board_without_widgets_of_its_own(notebook, way):
    """PDLKIT_RENDER=html needs core widgets only, =display none: it moves, and a still remains."""
    notebook.answer(f"%env PDLKIT_RENDER={way}")
    with notebook.running(BLOCKING) as cell:
        expect(cell.output.locator("svg[role=img]")).to_be_visible()
        status = cell.output.locator("p", has_text="step")
        seen = status.inner_text()
        notebook.until(lambda: status.inner_text() != seen)
    assert shown(cell.outputs()) == [KINDS]
    expect(cell.output.locator("img")).to_be_visible()


@pytest.fixture
def kept(lab, notebook):
    """A cell with a board as it was saved, and as it stands in the notebook opened anew."""
    notebook.answer("%env PDLKIT_RENDER=auto")
    cell = notebook.run(SHORT)
    cell.outputs()
    stored = notebook.save()
    notebook.close()
    reader = lab.open(notebook.path)
    yield stored, reader.cell(cell.place)
    reader.close()


def test_a_saved_board_is_a_still_picture(kept):
    """Saved, shut down and opened anew, the notebook shows a picture and needs no widget."""
    stored, cell = kept
    assert shown(stored["cells"][cell.place]["outputs"]) == [KINDS]
    assert "widgets" not in stored["metadata"]
    expect(cell.output.locator("img")).to_be_visible()
    assert cell.output.locator("img").evaluate("img => img.naturalWidth") > 500
    expect(cell.output.locator(".jupyter-widgets, .pdl-plot")).to_have_count(0)
    expect(cell.output).not_to_contain_text("not found")
