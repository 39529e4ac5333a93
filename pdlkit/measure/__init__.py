"""What a program does: counted, nothing run; and how far off its updates are."""

from pdlkit.measure.compiled import inspect

__all__ = ["inspect"]
