"""Devices that are not here, as sheets of figures, each with its source.

`hardware.h100` reads `h100.toml` of this folder; `hardware.load("mine.toml")` your own.
"""

import tomllib
from pathlib import Path

from pdlkit.errors import lesson, names, nearest
from pdlkit.prediction.hardware.sheet import Hardware, Link

__all__ = ["Hardware", "Link", "known", "load"]

_FOLDER = Path(__file__).parent


def known() -> tuple[str, ...]:
    """Return the names of the devices that have a sheet here."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def load(path) -> Hardware:
    """Return the device of a sheet: a TOML file of five lines or more.

        name = "my accelerator"
        flops = { bf16 = 500e12 }
        memory_bytes = 64e9
        bytes_per_second = 2e12
        scale_up = { bytes_per_second = 200e9 }

    What a sheet may say more, with its units, stands at `hardware.Hardware`.

    Raises:
        ValueError: a figure is missing, unknown, or not a number above 0.
    """
    return Hardware.read(tomllib.loads(Path(path).read_text(encoding="utf-8")), where=str(path))


def __getattr__(name: str) -> Hardware:
    if name.startswith("__"):
        raise AttributeError(name)
    if name not in known():
        raise AttributeError(
            lesson(
                f"there is no sheet of a device `{name}`.",
                why="a prediction needs its figures: operations, bytes and links.",
                fix=f"{nearest(name, known())}, or hardware.load a sheet of your own; there are "
                f"{names(known())}.",
            )
        )
    return load(_FOLDER / f"{name}.toml")


def __dir__():
    return sorted([*__all__, *known()])
