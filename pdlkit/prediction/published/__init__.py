"""What others measured, or computed, and printed: tables with their sources."""

import dataclasses
import math
import tomllib
from importlib.resources import files
from typing import NamedTuple

from pdlkit.errors import lesson, names
from pdlkit.prediction import hardware, llms
from pdlkit.prediction.clusters import Cluster, cluster
from pdlkit.prediction.estimates import Estimate, estimate
from pdlkit.prediction.language_models import LLM
from pdlkit.prediction.plans import Plan


class Training(NamedTuple):
    """Measured: seconds of a step of a training, with its plan."""

    llm: LLM
    plan: Plan
    cluster: Cluster
    batch: int  # sequences
    seconds: float

    def estimate(self) -> Estimate:
        """Return what we say of it."""
        return estimate(self.llm, self.plan, self.cluster, batch=self.batch)

    @property
    def error(self) -> float:
        """Our seconds over the measured ones, less one: below 0 where we are too fast."""
        return self.estimate().seconds / self.seconds - 1


def trainings(paper: str) -> tuple[Training, ...]:
    """Return the trainings of a paper whose plans are told.

    Raises:
        ValueError: no such paper, or one without a table `trainings`.
    """
    always = tables(paper).get("trainings", {}).get("always", {})
    return tuple(_training(always | row) for row in rows(paper, "trainings"))


def _training(row: dict) -> Training:
    ways = {field.name for field in dataclasses.fields(Plan)}
    told = {name: value for name, value in row.items() if name in ways}
    cut = math.prod(told.get(way, 1) for way in ("tensor", "pipeline", "context"))
    plan = Plan(**{"data": row["devices"] // cut} | told)
    device = getattr(hardware, row["device"])
    made = cluster(device, devices=row["devices"], node=row.get("node"))
    return Training(getattr(llms, row["model"]), plan, made, row["batch"], row["seconds"])


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
