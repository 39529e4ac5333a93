"""The loop, its callbacks, and runs that can be kept."""

from pdlkit.training.compare import compare
from pdlkit.training.loop import train
from pdlkit.training.run import Run, fit, fit_async
from pdlkit.training.saving import load, save
from pdlkit.training.speedup import speedup

__all__ = ["Run", "compare", "fit", "fit_async", "load", "save", "speedup", "train"]
