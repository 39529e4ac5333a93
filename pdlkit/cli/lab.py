"""`pdlkit lab`: JupyterLab, opened on a lesson."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

from pdlkit.cli import Refused, lessons
from pdlkit.errors import lesson

COPY = Path("pdlkit-lessons")  # where the lessons of a wheel may be written to


def main(args) -> int:
    """Become JupyterLab; come back only where it cannot start."""
    if importlib.util.find_spec("jupyterlab") is None:
        raise Refused(
            lesson(
                "`pdlkit lab` needs JupyterLab, which is not installed here.",
                why="it is an extra: Colab, VS Code and Binder bring their own notebook.",
                fix="pip install jupyterlab ipykernel",
            )
        )
    path = lessons.find(args.lesson, _writable(lessons.home()))
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", str(path), *args.rest])


def _writable(home: Path) -> Path:
    if not home.is_relative_to(lessons.PACKAGE):
        return home  # a clone's own: changes made in the lab are changes to the clone
    if not COPY.exists():
        shutil.copytree(home, COPY)
        print(f"The lessons were copied to {COPY.resolve()}: change them as you like.")
    return COPY
