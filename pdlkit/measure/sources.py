"""Which line of source asked for something, in a form that stays the same."""

import contextlib
from collections.abc import Iterable
from pathlib import Path

import jax

from pdlkit import compat

_JAX = Path(jax.__file__).parent.as_posix()
_PACKAGE = Path(__file__).parents[1].as_posix()
# they ask what their caller asked of them
_PASS_ON = (compat.__file__, contextlib.__file__)
_HOPS = f"{_PACKAGE}/collectives"


def asker(frames: Iterable[tuple[str, int]]) -> str:
    """Return the innermost line outside of JAX, or "" where none is known.

    Args:
        frames: file and line of each call, the innermost first.
    """
    outside = [frame for frame in frames if not _is_in(_JAX, frame[0])]
    own = [frame for frame in outside if frame[0] not in _PASS_ON and not _is_in(_HOPS, frame[0])]
    return next((short(*frame) for frame in own or outside), "")


def asker_in_trace(equation) -> str:
    """Return the line that asked for an equation of a jaxpr."""
    traceback = getattr(equation.source_info, "traceback", None)  # not a public name
    frames = getattr(traceback, "frames", ())
    return asker((frame.file_name, frame.line_num) for frame in frames)


def short(file: str, line: int) -> str:
    """Return a place as a reader knows it: without what differs between machines.

    A file of this package is named from `pdlkit/` on, one of another package from
    its name on, a notebook cell is `cell`, and any other file its last part.
    """
    path = _slashes(file)
    if "/ipykernel_" in path or path.startswith("<ipython"):
        return f"cell:{line}"
    if _is_in(_PACKAGE, path):
        return f"pdlkit{path.removeprefix(_PACKAGE)}:{line}"
    _, installed, rest = path.rpartition("/site-packages/")
    return f"{rest if installed else Path(path).name}:{line}"


def _is_in(folder: str, file: str) -> bool:
    return _slashes(file).startswith(f"{folder}/")


def _slashes(file: str) -> str:
    return file.replace("\\", "/")
