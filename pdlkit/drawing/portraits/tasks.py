"""Which device ran which task, and when."""

from pdlkit.drawing.scales import write
from pdlkit.pictures import Axis, Panel, Picture, Span
from pdlkit.strategies.task_queues import TaskRun


def tasks(run: TaskRun) -> Picture:
    """Return a lane for each device, a span for each task: a Gantt chart."""
    lanes = tuple(f"device {i}" for i in range(run.devices))
    spans = tuple(
        Span(lanes[event.device], event.start, event.end, event.name, _kind(event.stolen))
        for event in sorted(run.events, key=lambda event: event.stolen)
    )
    idle = run.devices * run.seconds - sum(run.busy)
    share = idle / (run.devices * run.seconds) if run.seconds else 0.0
    count = f"{len(spans)} task{'s' * (len(spans) != 1)}"
    who = f"{run.devices} device{'s' * (run.devices != 1)}"
    panel = Panel("tasks", run.word, spans, x=Axis("time", "s"), y=Axis("device", names=lanes))
    return Picture(
        f"{count} on {who}: {write(run.seconds, 's')}, {share:.0%} of it idle",
        (panel,),
        alt=f"{count} on {who}",
    )


def _kind(stolen: bool) -> str:
    return "stolen" if stolen else "own"
