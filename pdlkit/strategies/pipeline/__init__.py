"""Pipeline parallelism, by any schedule."""

from pdlkit.strategies.pipeline.strategy import Pipeline

__all__ = ["Pipeline"]
