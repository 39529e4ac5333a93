"""Errors that teach: what happened, why, and what to try."""

import difflib
from collections.abc import Iterable
from typing import Any


def lesson(what: str, *, why: str, fix: str) -> str:
    """Return an error message of three short lines.

    `why` and `fix` are required, so no error can be raised without them.
    """
    return f"{what}\n  why: {why}\n  try: {fix}"


class NotFinite(ValueError):
    """A loss or a weight became NaN or infinite; the last good state came through.

    Attributes:
        step: the first step that something was not finite in.
        device: the first mesh position that reported it; None for a weight.
        state: the last state whose parameters are all finite.
        run: what `fit` had gathered by then, or None outside of `fit`.
    """

    def __init__(self, message: str, *, step: int, device: int | None, state):
        super().__init__(message)
        self.step, self.device, self.state = step, device, state
        self.run: Any = None


def is_count(number) -> bool:
    """Tell whether something is a whole number from 1 on, NumPy's too."""
    return hasattr(number, "__index__") and number >= 1


def check_kind(name: str, given, kind: type, example: str) -> None:
    """Raise if an argument is something else than what it is for.

    Raises:
        TypeError: names what is wanted, and shows one.
    """
    if not isinstance(given, kind):
        raise TypeError(
            lesson(
                f"{name} is {given!r}, of the type {type(given).__name__}.",
                why=f"what is wanted is of the type {kind.__name__}.",
                fix=f"{example}.",
            )
        )


def fitting_sizes(size: int, ways: int) -> str:
    """Return the nearest sizes that divide among so many ways: 96 or 104."""
    below, above = size // ways * ways, (size // ways + 1) * ways
    return f"{below} or {above}" if below else str(above)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known names that a misspelt one may have meant: `h100` or `h200`."""
    known = list(known)
    found = difflib.get_close_matches(name, known, n=2, cutoff=0.4) or known[:3]
    return " or ".join(f"`{each}`" for each in found)


def names(known) -> str:
    """Return known names as a reader would list them: `data`, `model`."""
    return ", ".join(f"`{name}`" for name in known) or "none"
