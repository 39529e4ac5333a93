"""Checks, and later the exercises they mark."""

from pdlkit.learn import check

__all__ = ["check"]
