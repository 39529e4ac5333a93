"""Ways to train one model on many devices; each file is one of them."""

from pdlkit.strategies.automatic import Automatic
from pdlkit.strategies.data import DataParallel
from pdlkit.strategies.fully_sharded import FullySharded
from pdlkit.strategies.one_device import OneDevice
from pdlkit.strategies.pmap import PmapDataParallel
from pdlkit.strategies.sequence import RingAttention, Ulysses
from pdlkit.strategies.sharded import ZeRO
from pdlkit.strategies.spmd import Hybrid, Spmd
from pdlkit.strategies.strategy import Strategy
from pdlkit.strategies.tensor import TensorParallel

__all__ = [
    "Automatic",
    "DataParallel",
    "FullySharded",
    "Hybrid",
    "OneDevice",
    "PmapDataParallel",
    "RingAttention",
    "Spmd",
    "Strategy",
    "TensorParallel",
    "Ulysses",
    "ZeRO",
]
