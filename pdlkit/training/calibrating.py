"""The machine one sits at in figures: products, streams and sums, timed."""

import os
import statistics
import time
from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from pdlkit.cores import allowed_cores, within_quota
from pdlkit.devices import mesh
from pdlkit.errors import lesson
from pdlkit.prediction.calibrations import Calibration, Sample
from pdlkit.prediction.fitting import calibrated
from pdlkit.training import fresh

SIDES = (64, 128, 256, 512, 1024)
STREAMS = tuple(4 << power for power in range(14, 23, 2))  # bytes, 64 KiB to 16 MiB
SUMS = tuple(1 << power for power in range(10, 25, 2))  # bytes, 1 KiB to 16 MiB
TRIALS = 15


def calibrate(devices: int | None = None) -> Calibration:
    """Return the figures of this machine's devices, measured now.

    Real accelerators are measured as they are; simulated devices in a process of
    their own, with one core each.

    Args:
        devices: among which messages are measured; None: as many as there are
            accelerators or cores, 8 at most.

    Raises:
        ValueError: fewer than two devices, or more simulated ones than cores.
    """
    real = jax.default_backend() != "cpu"
    here = jax.device_count() if real else within_quota(allowed_cores())
    count = min(here, 8) if devices is None else devices
    if not 2 <= count <= here:
        raise ValueError(
            lesson(
                f"messages cannot be measured among {count} devices.",
                why=f"{here} can really run at once here, and it takes two to send something.",
                fix=f"devices={max(2, min(here, 8))}, on a machine that has as many.",
            )
        )
    job = partial(samples, count)
    found = job() if real else [Sample(*each) for each in fresh.run(job, count, "the calibration")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / count
    if real:
        stats = jax.local_devices()[0].memory_stats() or {}
        memory = float(stats.get("bytes_limit", memory))
    name = jax.local_devices()[0].device_kind if real else "a core of this machine"
    return calibrated(found, name=name, devices=count, memory_bytes=memory)


def samples(count: int) -> list[Sample]:
    """Return the seconds of products, streams and sums on the first devices here."""
    first = jax.local_devices()[0]
    found = []
    for side in SIDES:
        a = jax.device_put(jnp.ones((side, side), jnp.float32), first)
        found.append(Sample("product", side, _seconds(jax.jit(jnp.matmul), a, a)))
    for size in STREAMS:
        x = jax.device_put(jnp.ones(size // 8, jnp.float32), first)  # half is read, half written
        found.append(Sample("stream", size, _seconds(jax.jit(lambda x: x * 1.5), x)))
    here = mesh(data=count)
    add = partial(jax.lax.psum, axis_name="data")
    total = jax.jit(jax.shard_map(add, mesh=here, in_specs=P("data"), out_specs=P()))
    for size in SUMS:
        x = jax.device_put(
            jnp.ones((count, size // 4), jnp.float32), jax.NamedSharding(here, P("data"))
        )
        found.append(Sample("all_reduce", size, _seconds(total, x)))
    return found


def _seconds(function, *given) -> float:
    """Return the median seconds of some calls, each waited for."""
    trials = []
    for _ in range(TRIALS + 2):
        began = time.perf_counter()
        jax.block_until_ready(function(*given))
        trials.append(time.perf_counter() - began)
    return statistics.median(trials[2:])  # the first ones compile and warm up
