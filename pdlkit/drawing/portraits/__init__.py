"""One portrait for each kind of thing: what `show` makes a picture of."""

import functools

import jax

from pdlkit.collectives import Hops, Played
from pdlkit.drawing.portraits import (
    arrays,
    calibrations,
    comparisons,
    estimates,
    hops,
    meshes,
    predictions,
    reports,
    runs,
    schedules,
    speedups,
    tasks,
    timelines,
)
from pdlkit.errors import lesson
from pdlkit.pictures import Picture
from pdlkit.prediction.calibrations import Calibration
from pdlkit.prediction.estimates import Estimate
from pdlkit.prediction.playing import Timeline
from pdlkit.prediction.predicting import Prediction
from pdlkit.prediction.searching import Search
from pdlkit.records import Collective, Memory, Record, Report
from pdlkit.schedules import Table
from pdlkit.strategies.task_queues import TaskRun
from pdlkit.timings import Comparison, Speedup


@functools.singledispatch
def show(thing) -> Picture:
    """Return the picture of a thing; a notebook draws it.

    Of what was trained, the losses; of a dict of trainings, theirs side by side;
    of a report, its collectives and its memory; of a mesh, its devices; of an
    array, which device holds what.

    Raises:
        TypeError: where there is no picture of such a thing.
    """
    if hasattr(thing, "history"):
        return runs.losses(tuple(thing.history))
    raise TypeError(
        lesson(
            f"there is no picture of {_what(thing)}.",
            why="show knows a mesh, an array, a report, collectives, memory, records of training "
            "or what has a history of them, and a picture.",
            fix="show(program.mesh), show(pdl.inspect(program, work)) or show(run).",
        )
    )


@show.register
def _(picture: Picture) -> Picture:
    return picture


@show.register(list)
@show.register(tuple)
def _(things) -> Picture:
    for kind, portrait in ((Record, runs.losses), (Collective, reports.messages)):
        if things and all(isinstance(thing, kind) for thing in things):
            return portrait(tuple(things))
    return show.dispatch(object)(things)


@show.register
def _(trained: dict) -> Picture:
    if trained and all(hasattr(each, "history") for each in trained.values()):
        return runs.side_by_side({name: each.history for name, each in trained.items()})
    return show.dispatch(object)(trained)


@show.register
def _(collective: Collective) -> Picture:
    return reports.messages((collective,))


show.register(Record, lambda record: runs.losses((record,)))
show.register(Report, reports.report)
show.register(Memory, reports.memory)
show.register(Speedup, speedups.speedup)
show.register(Table, schedules.schedule)
show.register(Estimate, estimates.estimate)
show.register(Calibration, calibrations.calibration)
show.register(Prediction, predictions.prediction)
show.register(Search, estimates.search)
show.register(Timeline, timelines.timeline)
show.register(Comparison, comparisons.comparison)
show.register(TaskRun, tasks.tasks)
show.register(Hops, hops.hops)
show.register(Played, hops.played)
show.register(jax.sharding.Mesh, meshes.mesh)
show.register(jax.Array, arrays.array)


def _what(thing) -> str:
    if isinstance(thing, list | tuple) and type(thing) in (list, tuple):
        kinds = sorted({type(each).__name__ for each in thing})
        return f"a {type(thing).__name__} of {', '.join(kinds) or 'nothing'}"
    return f"a {type(thing).__name__}"
