"""What others measured, or computed, and printed: tables with their sources."""

import tomllib
from importlib.resources import files

from pdlkit.errors import lesson, names


def rows(paper: str, table: str) -> tuple[dict, ...]:
    """Return the rows of a table as its paper prints them, under named columns.

    Args:
        paper: a file of this folder, without its suffix; `source` and `url` stand in it.
        table: one of its tables.

    Raises:
        ValueError: no such paper, or no such table in it.
    """
    found = tables(paper)
    if table not in found:
        raise ValueError(
            lesson(
                f"{paper} has no table `{table}`.",
                why="each file holds a few of a paper's tables, under short names.",
                fix=f"one of {names(found)}.",
            )
        )
    columns = found[table]["columns"]
    return tuple(dict(zip(columns, row, strict=True)) for row in found[table]["rows"])


def tables(paper: str) -> dict[str, dict]:
    """Return the tables of a paper: name -> what it `is`, its `columns`, its `rows`.

    Raises:
        ValueError: no such paper.
    """
    return {name: each for name, each in _file(paper).items() if isinstance(each, dict)}


def source(paper: str) -> str:
    """Return who printed it, and where it can be read.

    Raises:
        ValueError: no such paper.
    """
    found = _file(paper)
    return f"{found['source']}, {found['url']}"


def papers() -> tuple[str, ...]:
    """Return the names of all papers that are here."""
    here = files(__name__).iterdir()
    return tuple(sorted(each.name[:-5] for each in here if each.name.endswith(".toml")))


def _file(paper: str) -> dict:
    if paper not in papers():
        raise ValueError(
            lesson(
                f"no paper `{paper}` is here.",
                why="only what was printed with its source is kept.",
                fix=f"one of {names(papers())}.",
            )
        )
    return tomllib.loads((files(__name__) / f"{paper}.toml").read_text(encoding="utf-8"))
