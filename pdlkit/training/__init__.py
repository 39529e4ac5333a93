"""The loop, its callbacks, and runs that can be kept."""

from pdlkit.training.calibrating import calibrate
from pdlkit.training.compare import compare
from pdlkit.training.loop import train
from pdlkit.training.run import Run, fit, fit_async
from pdlkit.training.saving import load, save
from pdlkit.training.shares import device_seconds
from pdlkit.training.speedup import speedup
from pdlkit.training.tasks import Task, run_tasks, training_task

__all__ = [
    "Run",
    "Task",
    "calibrate",
    "compare",
    "device_seconds",
    "fit",
    "fit_async",
    "load",
    "run_tasks",
    "save",
    "speedup",
    "train",
    "training_task",
]
