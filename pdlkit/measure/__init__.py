"""What a program does: counted in the compiled program, nothing run."""

from pdlkit.measure.compiled import inspect

__all__ = ["inspect"]
