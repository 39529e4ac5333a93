"""Predicted against measured: every strategy on this machine, a core and a thread a device.

    python -m pytest tests/benchmarks/bench_predicted.py -s

The machine's figures come from `pdl.calibrate`, the program's from `pdl.inspect`, and
nothing else goes in. What is printed is the error; nothing is wanted of it. Where JAX has
two accelerators or more, it is they that are measured.
"""

import statistics

import jax

import pdlkit as pdl
from pdlkit.training import fresh
from pdlkit.training.stopwatch import Job, time_job

DEVICES = 2
DATA = pdl.DataParallel()
CASES = {  # name: strategy, workload, the axis that is cut
    "OneDevice": (pdl.OneDevice(), "digits_mlp", "data"),
    "DataParallel, MLP": (DATA, "digits_mlp", "data"),
    "DataParallel, CNN": (DATA, "digits_cnn", "data"),
    "DataParallel, RNN": (DATA, "rnn", "data"),
    "DataParallel, autoencoder": (DATA, "autoencoder", "data"),
    "DataParallel, GAN": (DATA, "gan", "data"),
    "DataParallel, transformer": (DATA, "transformer", "data"),
    "accumulating 4": (pdl.DataParallel(accumulate=4), "digits_mlp", "data"),
    "PmapDataParallel": (pdl.PmapDataParallel(), "digits_mlp", "data"),
    "Automatic": (pdl.Automatic(), "digits_mlp", "data"),
    "ZeRO 1": (pdl.ZeRO(stage=1), "digits_mlp", "data"),
    "ZeRO 2": (pdl.ZeRO(stage=2), "digits_mlp", "data"),
    "ZeRO 3": (pdl.ZeRO(stage=3), "transformer", "data"),
    "FullySharded": (pdl.FullySharded(), "transformer", "data"),
    "TensorParallel": (pdl.TensorParallel(), "transformer", "model"),
    "TensorParallel, sequence": (pdl.TensorParallel(sequence=True), "transformer", "model"),
    "RingAttention": (pdl.RingAttention(), "transformer", "seq"),
    "Ulysses": (pdl.Ulysses(), "transformer", "seq"),
    "ExpertParallel": (pdl.ExpertParallel(), "moe", "expert"),
    "SpatialParallel": (pdl.SpatialParallel(), "digits_cnn", "rows"),
    "Pipeline, 1F1B": (pdl.Pipeline(microbatches=4), "transformer", "stage"),
    "LayerPlacement": (pdl.LayerPlacement(), "digits_mlp", "stage"),
    "LocalSGD": (pdl.LocalSGD(every=4), "digits_mlp", "data"),
    "Gossip": (pdl.Gossip(), "digits_mlp", "data"),
    "StaleGradients": (pdl.StaleGradients(delay=1), "digits_mlp", "data"),
    "Compressed, top-k": (pdl.Compressed(DATA, pdl.TopK(0.01)), "digits_mlp", "data"),
    "Compressed, PowerSGD": (pdl.Compressed(DATA, pdl.PowerSGD(2)), "digits_mlp", "data"),
}


def test_every_strategy():
    """Prints a row for each strategy: measured, modelled, and the error."""
    if jax.default_backend() == "cpu":
        pdl.simulate_devices(DEVICES)
    machine = pdl.calibrate(DEVICES)
    print("", pdl.show(machine).text, sep="\n")
    errors = []
    for name, (strategy, workload, axis) in CASES.items():
        work, devices = getattr(pdl.workloads, workload)(), 1 if name == "OneDevice" else DEVICES
        report = pdl.inspect(
            strategy.build(work.model, work.optimizer, pdl.mesh(**{axis: devices})), work
        )
        modelled = pdl.predict(report, pdl.cluster(machine.hardware, devices=devices)).seconds
        measured = _measured(Job(strategy, {axis: devices}, (work,), steps=40))
        errors.append(modelled / measured - 1)
        print(
            f"{name:26} measured {measured * 1e3:7.2f} ms  modelled {modelled * 1e3:7.2f} ms  "
            f"{errors[-1]:+.0%}",
            flush=True,
        )
    mean, middle = statistics.mean(map(abs, errors)), statistics.median(errors)
    print(f"mean absolute error {mean:.0%}, median error {middle:+.0%}, {len(errors)} strategies")


def _measured(job: Job) -> float:
    """Return the seconds of the shortest step: of accelerators here, else in a fresh process."""
    devices = next(iter(job.mesh.values()))
    real = jax.default_backend() != "cpu"
    (timing,) = time_job(job) if real else fresh.measure(job, devices)
    return timing.minimum
