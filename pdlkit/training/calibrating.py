"""The machine one sits at in figures: products, streams and sums, timed."""

import os
import statistics
import time
from functools import partial

import jax
import numpy as np
from jax.sharding import PartitionSpec as P

from pdlkit.cores import allowed_cores, within_quota
from pdlkit.devices import mesh
from pdlkit.errors import lesson
from pdlkit.measure.flops import flops
from pdlkit.measure.traffic import traffic
from pdlkit.prediction.calibrations import Calibration, Sample
from pdlkit.prediction.fitting import calibrated
from pdlkit.training import fresh

SIDES = (64, 128, 256, 512)
STREAMS = tuple(4 << power for power in range(14, 23, 2))  # bytes, 64 KiB to 16 MiB
SUMS = tuple(1 << power for power in range(10, 25, 2))  # bytes, 1 KiB to 16 MiB
TRIALS = 15
TURNS = 16  # of what is done again and again in one program


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
    """Return the seconds of programs and sums on the first devices here, all at once.

    A product or a stream is done again and again in one program, as a step does many
    things in one; what such a program is made of is counted as a step is.
    """
    here = mesh(data=count)
    found = [_program(here, "start", 1, lambda x: x + 1, np.ones(1, np.float32))]
    for side in SIDES:
        x = np.full((side, side), 1 / side, np.float32)  # whose product with itself is itself
        found.append(_program(here, "product", side, _again(lambda x: x @ x), x))
    for size in STREAMS:
        x = np.ones(size // 4, np.float32)
        found.append(_program(here, "stream", size, _again(lambda x: 1.5 - x / 2), x))
    found += [_sum(here, size) for size in SUMS]
    return found


def _sum(here, size: int) -> Sample:
    """Return the sample of one sum among all devices, in a program of many."""
    many, one = (
        partial(*_compiled(here, _again(lambda x: jax.lax.pmean(x, "data"), turns),
                           np.ones(size // 4, np.float32))[1:])
        for turns in (1 + TURNS, 1)
    )  # fmt: skip
    more = statistics.median(_once(many) - _once(one) for _ in range(TRIALS))
    # On a busy machine many may take no longer than one; then all that many took is a bound.
    return Sample("all_reduce", size, more / TURNS if more > 0 else _once(many) / TURNS)


def _again(body, turns: int = TURNS):
    """Return a function that does to its argument the same so many times."""
    return lambda x: jax.lax.fori_loop(0, turns, lambda _, x: body(x), x)


def _program(here, kind: str, size: int, function, x) -> Sample:
    """Return the sample of a function of one array, on all devices at once."""
    text, compiled, placed = _compiled(here, function, x)
    work = flops(jax.make_jaxpr(function)(x))
    return Sample(kind, size, _seconds(compiled, placed), flops=work, **traffic(text)._asdict())


def _compiled(here, function, x):
    """Return the text of a program on all devices, the program, and what it is given."""
    spread = jax.shard_map(lambda x: function(x[0])[None], mesh=here, in_specs=P("data"),
                           out_specs=P("data"), check_vma=False)  # fmt: skip
    whole = np.broadcast_to(x, (here.size, *x.shape))
    placed = jax.device_put(whole, jax.NamedSharding(here, P("data")))
    compiled = jax.jit(spread).lower(placed).compile()
    return compiled.as_text() or "", compiled, placed


def _seconds(function, *given) -> float:
    """Return the median seconds of some calls, each waited for."""
    trials = [_once(partial(function, *given)) for _ in range(TRIALS + 2)]
    return statistics.median(trials[2:])  # the first ones warm up


def _once(call) -> float:
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began
