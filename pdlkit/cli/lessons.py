"""Where the lessons are."""

import json
from pathlib import Path

from pdlkit.cli import Refused
from pdlkit.errors import lesson

PACKAGE = Path(__file__).parents[1]


def home() -> Path:
    """Return the folder of the lessons: a clone's own, or the wheel's copy."""
    clone = PACKAGE.parent / "notebooks"
    return clone if (PACKAGE.parent / "pyproject.toml").exists() else PACKAGE / "lessons"


def every(folder: Path) -> dict[str, Path]:
    """Return the lessons of a folder in their order: number -> notebook."""
    return {path.stem.split("_")[0]: path for path in sorted(folder.glob("[0-9]*.ipynb"))}


def find(name: str, folder: Path) -> Path:
    """Return a lesson by its number, its name, or any notebook by its path."""
    known = every(folder)
    by_stem = {path.stem: path for path in known.values()}
    path = known.get(name) or by_stem.get(name) or Path(name)
    if path.suffix == ".ipynb" and path.is_file():
        return path
    raise Refused(
        lesson(
            f"`{name}` is no lesson and no notebook.",
            why=f"the lessons here are {', '.join(known) or 'none'}; a path must end in .ipynb.",
            fix="pdlkit run --list",
        )
    )


def title(path: Path) -> str:
    """Return the first heading of a notebook, without the number it begins with."""
    lines = (line for kind, text in cells(path) if kind == "markdown" for line in text.splitlines())
    return next((line.lstrip("# 0123456789") for line in lines if line.startswith("#")), path.stem)


def cells(path: Path) -> list[tuple[str, str]]:
    """Return the cells of a notebook: kind, source."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]
