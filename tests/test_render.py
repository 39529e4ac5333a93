"""Stored lessons: rendered the same each time, and checked without running."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import v4

SCRIPT = Path(__file__).parents[1] / "notebooks/render.py"
VARYING = "import time\nclass Timing:\n    def __repr__(self): return 'times'\n"
DRAWN = VARYING + "    def _repr_png_(self): return str(time.time()).encode()\nTiming()"
CHECKED = "class pdl: check = print\npdl.check('fine')"


@pytest.fixture(scope="module")
def render():
    """Return the script as a module."""
    spec = importlib.util.spec_from_file_location("render", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def store(tmp_path):
    """Return a writer of notebooks: code cells -> path."""

    def write(*cells):
        path = tmp_path / "00_small.ipynb"
        nbformat.write(v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in cells]), path)
        return path

    return write


def compared(path) -> str:
    """Return what `pytest --nbval` says of the folder of a notebook."""
    command = [sys.executable, "-m", "pytest", "--nbval", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, path.parent], capture_output=True, text=True, check=False
    ).stdout


def test_what_differs_in_every_run_is_not_compared(store):
    """All that a cell says is compared, but addresses in memory and times."""
    said = "print(object(), 'in', round(time.time() % 100, 3), 'ms')"
    path = store("import time", said, "print('the same')")
    for name in ("conftest.py", "sanitize.cfg"):
        shutil.copy(SCRIPT.with_name(name), path.with_name(name))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, kernel_name="python3").execute()
    nbformat.write(notebook, path)
    assert "3 passed" in compared(path)
    notebook.cells[2].outputs[0].text = "another"
    nbformat.write(notebook, path)
    assert "1 failed, 2 passed" in compared(path)


def test_rendering_again_changes_nothing(render, store):
    """A picture of times differs in each run; what is stored stays until the code changes."""
    path = store(DRAWN, "print('a')\nprint('b')", CHECKED)
    assert render.render(path)
    assert render.faults(path) == []
    stored = path.read_text()
    assert not render.render(path)
    assert path.read_text() == stored
    assert render.render(path, fresh=True)
    assert path.read_text() != stored


def test_new_code_is_noticed(render, store):
    """A notebook whose code changed since it was rendered is not as it should be."""
    path = store(CHECKED)
    render.render(path)
    path.write_text(path.read_text().replace("fine", "good"))
    assert render.faults(path) == [
        "its code changed since it was rendered: python notebooks/render.py"
    ]


@pytest.mark.parametrize(
    ("output", "fault"),
    [
        (v4.new_output("error", ename="E", evalue="why"), "failed: E: why"),
        (v4.new_output("display_data", {"image/png": "AA", "text/plain": "<Figure 1>"}), "nothing"),
        (v4.new_output("display_data", {"image/png": "AA"}), "says nothing: ''"),
        (
            v4.new_output("display_data", {"application/vnd.jupyter.widget-view+json": {}}),
            "stores a widget",
        ),
        (v4.new_output("stream", text="at " + "/".join(["", "tmp", "x.py"])), "only this machine"),
        (v4.new_output("stream", text="<object at 0x7f00aa00bb>"), "0x7f00aa00bb"),
    ],
)
def test_outputs_that_must_not_be_stored(render, output, fault):
    """Stored outputs are still, telling, and say nothing of the machine that made them."""
    (found,) = render.in_output(output)
    assert fault in found


def test_cells_are_short_and_the_last_one_checks(render, store):
    """A cell has under ten lines, and a lesson ends in a check."""
    path = store("\n".join(["1"] * 10))
    found = "\n".join(render.faults(path))
    assert "[1] has 10 lines, not 1 to 9" in found
    assert "its last cell does not call pdl.check" in found
