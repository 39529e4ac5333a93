"""`pdlkit run`: a lesson without a notebook, its pictures as text."""

import os
import sys
import tempfile
from pathlib import Path

from IPython.core.displayhook import DisplayHook
from IPython.core.interactiveshell import InteractiveShell
from traitlets import Type
from traitlets.config import Config

from pdlkit.cli import lessons


def main(args) -> int:
    """Run one lesson in this process, or list them all."""
    folder = lessons.home()
    if args.list:
        for number, path in lessons.every(folder).items():
            print(f"{number}  {lessons.title(path)}")
        return 0
    return run(lessons.find(args.lesson, folder))


def run(path: Path) -> int:
    """Print a notebook's text, its code and what the code gives, cell by cell.

    The first cell that fails ends the run. A kernel is not needed.

    Returns: 0, or 1 where a cell failed.
    """
    os.environ["PDLKIT_RENDER"] = "text"
    os.environ["MPLBACKEND"] = "agg"  # no window
    with tempfile.TemporaryDirectory() as folder:
        shell = TextShell.instance(config=text_only(), ipython_dir=folder)
        for kind, source in lessons.cells(path):
            if kind == "markdown":
                print(source, end="\n\n")
            elif kind == "code" and source.strip():
                print(prompted(source, shell.execution_count), flush=True)
                if not shell.run_cell(source, store_history=True).success:
                    return 1
                print(flush=True)
    return 0


def prompted(source: str, count: int) -> str:
    """Return code as IPython's own prompt would show it."""
    first = f"In [{count}]: "
    return first + source.replace("\n", "\n" + "...: ".rjust(len(first)))


def text_only() -> Config:
    """Return the settings of an IPython that only prints, and keeps no history."""
    config = Config()
    config.HistoryManager.enabled = False
    config.DisplayFormatter.active_types = ["text/plain"]  # do not draw what is not shown
    config.InteractiveShell.colors = "Neutral" if sys.stdout.isatty() else "NoColor"
    return config


class Plain(DisplayHook):
    """Prints a cell's result as it is, without `Out[1]:` before it."""

    def write_output_prompt(self):
        """Write nothing."""

    def write_format_data(self, format_dict, md_dict=None):
        """Print the text of the result, if it has one."""
        if "text/plain" in format_dict:
            print(format_dict["text/plain"])


class TextShell(InteractiveShell):
    """An IPython whose results are printed plainly."""

    displayhook_class = Type(Plain)
