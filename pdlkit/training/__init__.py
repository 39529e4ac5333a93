"""The loop, its callbacks, and runs that can be kept."""

from pdlkit.training.loop import train
from pdlkit.training.run import Run, fit
from pdlkit.training.saving import load, save
from pdlkit.training.signals import Pause, Set, Stop

__all__ = ["Pause", "Run", "Set", "Stop", "fit", "load", "save", "train"]
