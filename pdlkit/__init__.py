"""Parallel deep learning that you can run, see and check.

    import pdlkit as pdl

Every public name is listed here, in the order in which a reader meets it, with
the module it lives in; a module is imported when one of its names is first used.
"""

import importlib

_HOME = {
    "simulate_devices": "devices",
    "mesh": "devices",
    "workloads": "workloads",
    "Workload": "workloads",
    "batches": "data",
    "models": "models",
    "Model": "records",
    "Parts": "records",
    "Layers": "models",
    "from_loss": "models",
    "mixed_precision": "models",
    "OneDevice": "strategies",
    "DataParallel": "strategies",
    "PmapDataParallel": "strategies",
    "Automatic": "strategies",
    "ZeRO": "strategies",
    "FullySharded": "strategies",
    "LayerPlacement": "strategies",
    "NetworkPlacement": "strategies",
    "Pipeline": "strategies",
    "TensorParallel": "strategies",
    "RingAttention": "strategies",
    "Ulysses": "strategies",
    "ExpertParallel": "strategies",
    "SpatialParallel": "strategies",
    "UnevenDataParallel": "strategies",
    "balanced_shares": "strategies",
    "TaskParallel": "strategies",
    "LocalSGD": "strategies",
    "DiLoCo": "strategies",
    "Gossip": "strategies",
    "gossip": "strategies.gossip",
    "StaleGradients": "strategies",
    "BoundedStaleness": "strategies",
    "Compressed": "strategies",
    "TopK": "strategies",
    "RandomK": "strategies",
    "Sign": "strategies",
    "EightBit": "strategies",
    "PowerSGD": "strategies",
    "Spmd": "strategies",
    "Strategy": "strategies",
    "Program": "records",
    "State": "records",
    "Metrics": "records",
    "train": "training",
    "fit": "training",
    "fit_async": "training",
    "Run": "training",
    "Record": "records",
    "Training": "records",
    "Stop": "signals",
    "Pause": "signals",
    "Set": "signals",
    "Slow": "signals",
    "Drop": "signals",
    "NotFinite": "errors",
    "save": "training",
    "load": "training",
    "schedules": "schedules",
    "collectives": "collectives",
    "inspect": "measure",
    "Report": "records",
    "Collective": "records",
    "device_seconds": "training",
    "Task": "training",
    "training_task": "training",
    "run_tasks": "training",
    "round_robin": "strategies",
    "longest_first": "strategies",
    "work_stealing": "strategies",
    "play_tasks": "strategies",
    "speedup": "training",
    "Speedup": "timings",
    "play": "prediction.playing",
    "Timeline": "prediction.playing",
    "predict": "prediction.predicting",
    "Prediction": "prediction.predicting",
    "hardware": "prediction.hardware",
    "cluster": "prediction.clusters",
    "Cluster": "prediction.clusters",
    "LLM": "prediction.language_models",
    "llms": "prediction.llms",
    "Plan": "prediction.plans",
    "estimate": "prediction.estimates",
    "Estimate": "prediction.estimates",
    "search": "prediction.searching",
    "Search": "prediction.searching",
    "published": "prediction.published",
    "calibrate": "training",
    "Calibration": "prediction.calibrations",
    "laws": "prediction.laws",
    "compare": "training",
    "Comparison": "timings",
    "Board": "drawing.live",
    "panels": "drawing.live.panels",
    "explore": "drawing.live",
    "show": "drawing",
    "Picture": "pictures",
    "check": "learn",
}

_WHOLE = (
    "workloads",
    "models",
    "schedules",
    "collectives",
    "gossip",
    "panels",
    "hardware",
    "llms",
    "published",
    "laws",
)  # modules, handed out as they are

__all__ = list(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'pdlkit' has no attribute {name!r}")
    module = importlib.import_module(f"pdlkit.{_HOME[name]}")
    value = module if name in _WHOLE else getattr(module, name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(_HOME)
