"""A reader at JupyterLab: opens notebooks, runs cells, and looks at boards."""

import json
import re
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest

from browser.server import PATIENCE

expect = pytest.importorskip("playwright.sync_api").expect
pytest.importorskip("jupyterlab")
pytest.importorskip("ipywidgets", "8", reason="JupyterLab 4 does not draw ipywidgets 7")

TRAINER = """import pdlkit as pdl
pdl.simulate_devices(8)
work = pdl.workloads.digits_mlp()
program = pdl.DataParallel().build(work.model, work.optimizer, pdl.mesh(data=8))"""
BLOCKING = "run = pdl.fit(program, work, steps=100_000, watch=pdl.Board())"
AWAITED = BLOCKING.replace("pdl.fit", "await pdl.fit_async")

_KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
_NOTEBOOK = "window.jupyterapp.shell.currentWidget"
_IDLE = (
    f"() => window.jupyterapp && {_NOTEBOOK}?.sessionContext?.session?.kernel?.status === 'idle'"
)
_COMMAND = """([name, options]) => {
    const id = window.pdlBegun = (window.pdlBegun ?? 0) + 1;
    window.pdlEnded ??= new Set();
    window.jupyterapp.commands.execute(name, options).finally(() => window.pdlEnded.add(id));
    return id;
}"""
_INSERT = f"""code => {{
    const {{content}} = {_NOTEBOOK}, last = content.widgets.length;
    content.model.sharedModel.insertCell(last, {{cell_type: "code", source: code}});
    content.deselectAll();
    content.activeCellIndex = last;
}}"""
_CELLS = f"""() => {_NOTEBOOK}.content.widgets.map((cell, place) => {{
    cell.node.dataset.place = place;
    return cell.model.sharedModel.toJSON();
}})"""
# letters of a board: what they say, their colour, how much of it, and what is behind them
_LETTERS = """plot => [...plot.querySelectorAll("text, .pdl-status, .pdl-values")].map(node => {
    const style = getComputedStyle(node);
    let [opacity, behind] = [Number(style.fillOpacity), "rgba(0, 0, 0, 0)"];
    for (let up = node; up; up = up.parentElement) {
        opacity *= Number(getComputedStyle(up).opacity);
        if (behind === "rgba(0, 0, 0, 0)") behind = getComputedStyle(up).backgroundColor;
    }
    const colour = node.matches("text") ? style.fill : style.color;
    return {text: node.textContent, colour, opacity, behind};
})"""


class Lab:
    """A JupyterLab that serves a folder, and all that went wrong in its pages."""

    def __init__(self, folder: Path, address: str, token: str, browser):
        self.folder, self._address, self._token = folder, address, token
        self.context = browser.new_context(viewport={"width": 1280, "height": 900})
        self.context.set_default_timeout(1000 * PATIENCE)
        self.complaints: list[str] = []
        self.context.on("weberror", lambda error: self.complaints.append(f"{error.error}"))
        self.context.on("console", self._listen)
        self.context.on("request", self._watch)

    def open(self, path: Path) -> "Notebook":
        """Open a notebook of the folder in a page of its own, its kernel ready."""
        page = self.context.new_page()
        page.goto(f"{self._address}/lab/tree/{path.name}?token={self._token}&reset")
        page.wait_for_function(_IDLE)
        return Notebook(page, path)

    def write(self, name: str, *cells: str) -> Path:
        """Store a notebook of these cells of code."""
        new = [nbformat.v4.new_code_cell(cell) for cell in cells]
        notebook = nbformat.v4.new_notebook(cells=new, metadata={"kernelspec": _KERNEL})
        nbformat.write(notebook, self.folder / name)
        return self.folder / name

    @contextmanager
    def notebook(self, name: str, *cells: str):
        """Open a notebook in which these cells were run; close it in the end."""
        notebook = self.open(self.write(name, *cells))
        try:
            notebook.run_all()
            yield notebook
        finally:
            notebook.close()

    def _listen(self, message) -> None:
        # JupyterLab's debugger asks each new kernel, and complains if that ends before it answers
        if message.type == "error" and "debugger state" not in message.text:
            self.complaints.append(f"console: {message.text}")

    def _watch(self, request) -> None:
        if not request.url.startswith((self._address, "data:", "blob:")):
            self.complaints.append(f"left this machine: {request.url}")


class Notebook:
    """An open notebook."""

    def __init__(self, page, path: Path):
        self.page, self.path = page, path

    def run_all(self) -> None:
        """Run all cells to the end, none of which may fail."""
        self.wait(self.begin("notebook:run-all-cells"))
        for place in range(len(self.cells())):
            Cell(self, place).outputs()

    def run(self, code: str) -> "Cell":
        """Begin to run a new cell below all others."""
        self.page.evaluate(_INSERT, code)
        return Cell(self, len(self.cells()) - 1, self.begin("notebook:run-cell"))

    def answer(self, code: str) -> str:
        """Run a new cell and return what it printed."""
        return self.run(code).printed()

    def begin(self, command: str, **options) -> int:
        """Begin what an entry of a menu does; return a number to `wait` for its end."""
        return self.page.evaluate(_COMMAND, [command, options])

    def wait(self, begun: int) -> None:
        """Wait for the end of what was begun."""
        self.page.wait_for_function("begun => window.pdlEnded.has(begun)", arg=begun)

    def do(self, command: str, **options) -> None:
        """Do what an entry of a menu does."""
        self.wait(self.begin(command, **options))

    def cell(self, place: int) -> "Cell":
        """Return the cell at this place, counted from 0."""
        self.cells()
        return Cell(self, place)

    def cells(self) -> list[dict]:
        """Return the cells as they would be saved."""
        return self.page.evaluate(_CELLS)

    def until(self, true: Callable):
        """Wait until this is true; return it."""
        last = time.monotonic() + PATIENCE
        while not (found := true()):
            assert time.monotonic() < last, "it never came true"
            self.page.wait_for_timeout(20)  # ms
        return found

    @contextmanager
    def running(self, code: str):
        """Run a cell that goes on and on; yield it, and interrupt it in the end."""
        cell = self.run(code)
        try:
            yield cell
        finally:
            if not cell.ended:
                self.do("notebook:interrupt-kernel")
            cell.outputs()

    @contextmanager
    def training(self, code: str = AWAITED):
        """Run a cell that trains on and on; yield its board, which moves by then."""
        with self.running(code) as cell:
            board = Board(cell)
            board.await_step(9)
            yield board

    def theme(self, name: str) -> None:
        """Change the colours of the page."""
        self.do("apputils:change-theme", theme=f"JupyterLab {name}")
        self.page.locator(f"[data-jp-theme-light={str(name == 'Light').lower()}]").wait_for(
            state="attached"
        )

    def save(self) -> dict:
        """Save it; return the whole file."""
        self.do("docmanager:save")
        return json.loads(self.path.read_text(encoding="utf-8"))

    def close(self) -> None:
        """Shut the kernel down and close the page, if it is open."""
        if not self.page.is_closed():
            self.page.evaluate(f"() => {_NOTEBOOK}.sessionContext.shutdown()")
            self.page.close()


class Cell:
    """A cell, by its place from 0; `begun` is the number of its run."""

    def __init__(self, notebook: Notebook, place: int, begun: int = 0):
        self.notebook, self.place, self._begun = notebook, place, begun
        self.output = notebook.page.locator(f"[data-place='{place}'] .jp-Cell-outputArea")

    @property
    def ended(self) -> bool:
        """Whether it has run to its end."""
        return self.notebook.page.evaluate("begun => window.pdlEnded.has(begun)", self._begun)

    def outputs(self) -> list[dict]:
        """Wait for its end; return what it left, which must not be an error."""
        if self._begun:
            self.notebook.wait(self._begun)
        outputs = self.notebook.cells()[self.place].get("outputs", [])
        assert [each["evalue"] for each in outputs if each["output_type"] == "error"] == []
        return outputs

    def printed(self) -> str:
        """Wait for its end; return what it printed."""
        return "".join(
            text
            for each in self.outputs()
            for text in each.get("text", [])
            if each["name"] == "stdout"
        ).strip()


class Board:
    """The board that a cell shows."""

    def __init__(self, cell: Cell):
        self.cell, self.notebook, self.page = cell, cell.notebook, cell.notebook.page
        self.output = cell.output
        self.plot = self.output.locator(".pdl-plot")
        self.svg = self.plot.locator("svg")
        self.lines = self.svg.locator("> g:nth-of-type(2) > path")
        self.status = self.plot.locator(".pdl-status")
        self.values = self.plot.locator(".pdl-values")
        self.aloud = self.plot.locator(".pdl-aloud")
        self.buttons = self.output.get_by_role("button")

    @property
    def step(self) -> int:
        """How many steps it says are done."""
        found = re.match(r"step (\d+)", "".join(self.status.all_inner_texts()))
        return int(found[1]) if found else 0

    @property
    def frames(self) -> int:
        """How often it was drawn."""
        return int(self.svg.get_attribute("data-frames"))

    def await_step(self, step: int) -> None:
        """Wait until so many steps are done."""
        self.notebook.until(lambda: self.step >= step)

    def await_end(self, ended: str) -> None:
        """Wait until it says how training ended; soon after, a still takes its place."""
        self.page.wait_for_function(
            "([status, ended]) => !status.isConnected || status.textContent.includes(ended)",
            arg=[self.status.element_handle(), ended],
        )

    def name(self, label: str):
        """Return the name that stands beside a curve."""
        return self.svg.locator(f"[data-label='{label}']")

    def button(self, name: str):
        """Return the button of this name."""
        return self.output.get_by_role("button", name=name)

    def choice(self, name: str):
        """Return the list of this name, of which one can be chosen."""
        return self.output.get_by_label(name, exact=True)

    def read(self) -> dict[str, float]:
        """Return what stands beside the cursor: name -> number, units left out."""
        rows = [row.split() for row in self.values.inner_text().splitlines()]
        return {" ".join(name): float(value) for *name, value in rows}

    def hover(self) -> None:
        """Move the mouse into the middle of the first panel's curves."""
        self.svg.scroll_into_view_if_needed()
        box = self.lines.first.bounding_box()
        self.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    def press_slowly(self, name: str) -> None:
        """Hold the mouse down on a name until the picture has moved."""
        self.name(name).locator("text").hover()
        self.page.mouse.down()
        self.await_step(self.step + 1)
        self.page.mouse.up()

    def letters(self) -> list[dict]:
        """Return all that is written, each with its colour and what is behind it."""
        return self.plot.evaluate(_LETTERS)
