"""A measurement in a process of its own, which has a core and a thread a device.

Simulated devices of one process share one pool of threads: there, one device keeps
all cores busy already, and eight are no faster. How many threads XLA's pool has is
read from the environment when JAX wakes, hence the process.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle
import jax

from pdlkit.cores import pinned
from pdlkit.errors import lesson
from pdlkit.timings import Timing
from pdlkit.training.stopwatch import Job, time_job

PATIENCE = 3600.0  # seconds until a child is given up
JOB, ANSWER = "job.pickle", "answer.json"  # the files that pass between the two


def measure(job: Job, devices: int) -> list[Timing]:
    """Return the timing of each workload, from a process with so many cores.

    Raises:
        TypeError: the strategy or a workload cannot be sent there.
        RuntimeError: the process died or did not end; says its last words.
    """
    return [Timing(*each) for each in run(partial(time_job, job), devices, job.works[0].name)]


def run(function: Callable[[], Any], devices: int, name: str) -> Any:
    """Return what a function gives in a process with so many cores, as JSON has it.

    Args:
        function: takes nothing; what it stands on goes along.
        devices: how many, each with a core and a thread.
        name: what it is about, for an error.

    Raises:
        TypeError: the function cannot be sent there.
        RuntimeError: the process died or did not end; says its last words.
    """
    command = [sys.executable, "-P", "-m", "pdlkit.training.fresh_child"]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / JOB).write_bytes(_packed(function, name))
        try:
            with pinned(devices):
                child = subprocess.run(
                    [*command, folder],
                    capture_output=True,
                    text=True,
                    errors="replace",
                    env=_environment(devices),
                    timeout=PATIENCE,
                    check=False,
                )
        except subprocess.TimeoutExpired as slow:
            raise RuntimeError(_too_slow(devices)) from slow
        answer = Path(folder) / ANSWER
        if child.returncode or not answer.exists():
            raise RuntimeError(_died(devices, child))
        return json.loads(answer.read_text())


def _environment(devices: int) -> dict[str, str]:
    """Return this process's environment, but with a thread for each device."""
    # pdl.simulate_devices sets PJRT_NPROC, to more threads, and XLA reads it first.
    kept = {name: value for name, value in os.environ.items() if name != "PJRT_NPROC"}
    return kept | {
        "NPROC": str(devices),
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_PLATFORMS": "cpu",
        "JAX_TRACEBACK_FILTERING": "off",  # its last words are the error, not JAX's remark on it
        "JAX_ENABLE_X64": str(jax.config.values["jax_enable_x64"]),
        # What the reader could import, a model beside the notebook too, the child can.
        "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
    }


def _packed(function: Callable[[], Any], name: str) -> bytes:
    try:
        return cloudpickle.dumps(function)  # takes along what was defined in a notebook
    except Exception as error:  # each thing has its own way of refusing to be packed
        raise TypeError(
            lesson(
                f"{name} cannot be sent to another process: {error}.",
                why="each number of devices is timed in a process of its own, which gets the "
                "workload and the strategy by cloudpickle.",
                fix="open files, locks and the like inside of the functions that use them.",
            )
        ) from error


def _died(devices: int, child: subprocess.CompletedProcess) -> str:
    said = [line for line in child.stderr.splitlines() if line.strip()][-6:]
    words = "".join(f"\n    {line}" for line in said) or " nothing."
    return lesson(
        f"the process that timed {_counted(devices)} died with code {child.returncode}.",
        why=f"its last words were{':' if said else ''}{words}",
        fix="a smaller batch where memory ran out (code -9); else one step of the program here.",
    )


def _too_slow(devices: int) -> str:
    return lesson(
        f"the process that timed {_counted(devices)} had not ended after {PATIENCE:,.0f} s.",
        why="it compiles each program and makes all of its steps.",
        fix="fewer steps, or a smaller batch.",
    )


def _counted(devices: int) -> str:
    return f"{devices} device" + "s" * (devices != 1)
