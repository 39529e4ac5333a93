"""A notebook run in a real kernel, with no front end but us, and what it left."""

import os
from contextlib import contextmanager

import nbformat
from nbclient import NotebookClient


def run(*cells: str, **environ: str):
    """Run cells in one kernel and return its notebook, outputs in place.

    Args:
        cells: the code of each.
        environ: set for the kernel.
    """
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    with environment(**environ):
        NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    return notebook


@contextmanager
def environment(**environ: str):
    """Set variables of the environment for a while."""
    before = {name: os.environ.get(name) for name in environ}
    os.environ.update(environ)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def printed(cell) -> str:
    """Return what a cell printed."""
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")
