"""Ways to train one model on many devices; each file is one of them."""

from pdlkit.strategies.automatic import Automatic
from pdlkit.strategies.data import DataParallel
from pdlkit.strategies.one_device import OneDevice
from pdlkit.strategies.pmap import PmapDataParallel
from pdlkit.strategies.spmd import Hybrid, Spmd
from pdlkit.strategies.strategy import Strategy

__all__ = [
    "Automatic",
    "DataParallel",
    "Hybrid",
    "OneDevice",
    "PmapDataParallel",
    "Spmd",
    "Strategy",
]
