"""Ways to train one model on many devices; each file is one of them."""

from pdlkit.strategies.automatic import Automatic
from pdlkit.strategies.compressed import Compressed
from pdlkit.strategies.compression import EightBit, PowerSGD, RandomK, Sign, TopK
from pdlkit.strategies.data import DataParallel
from pdlkit.strategies.expert import ExpertParallel
from pdlkit.strategies.fully_sharded import FullySharded
from pdlkit.strategies.gossip import Gossip, complete, ring, torus
from pdlkit.strategies.layerwise import LayerPlacement
from pdlkit.strategies.local import DiLoCo, LocalSGD
from pdlkit.strategies.networks import NetworkPlacement
from pdlkit.strategies.one_device import OneDevice
from pdlkit.strategies.pipeline import Pipeline
from pdlkit.strategies.pmap import PmapDataParallel
from pdlkit.strategies.sequence import RingAttention, Ulysses
from pdlkit.strategies.sharded import ZeRO
from pdlkit.strategies.spatial import SpatialParallel
from pdlkit.strategies.spmd import Hybrid, Spmd
from pdlkit.strategies.stale import BoundedStaleness, StaleGradients
from pdlkit.strategies.strategy import Strategy
from pdlkit.strategies.task import TaskParallel
from pdlkit.strategies.task_queues import (
    TaskRun,
    longest_first,
    play_tasks,
    round_robin,
    work_stealing,
)
from pdlkit.strategies.tensor import TensorParallel
from pdlkit.strategies.uneven import UnevenDataParallel, balanced_shares

__all__ = [
    "Automatic",
    "BoundedStaleness",
    "Compressed",
    "DataParallel",
    "DiLoCo",
    "EightBit",
    "ExpertParallel",
    "FullySharded",
    "Gossip",
    "Hybrid",
    "LayerPlacement",
    "LocalSGD",
    "NetworkPlacement",
    "OneDevice",
    "Pipeline",
    "PmapDataParallel",
    "PowerSGD",
    "RandomK",
    "RingAttention",
    "Sign",
    "SpatialParallel",
    "Spmd",
    "StaleGradients",
    "Strategy",
    "TaskParallel",
    "TaskRun",
    "TensorParallel",
    "TopK",
    "Ulysses",
    "UnevenDataParallel",
    "ZeRO",
    "balanced_shares",
    "complete",
    "longest_first",
    "play_tasks",
    "ring",
    "round_robin",
    "torus",
    "work_stealing",
]
