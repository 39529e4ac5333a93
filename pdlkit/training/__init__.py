"""The loop, its callbacks, and runs that can be kept."""

from pdlkit.training.loop import train
from pdlkit.training.run import Run, fit, fit_async
from pdlkit.training.saving import load, save

__all__ = ["Run", "fit", "fit_async", "load", "save", "train"]
