"""The CPU clients: what simulated devices are made of, and how JAX gets others.

A JAX process lists the devices of one CPU client, and a client's number of
devices is fixed. Another number is therefore another client, put where JAX looks
for its own; what was made on the old one runs on there for as long as it is held.
"""

import functools
import gc
import os
import time
import weakref

import jax
from jax.extend import backend

from pdlkit import compat

# A device may be this late for a collective: seconds to a warning, and to the end.
_TIMEOUTS = {
    "--xla_cpu_collective_call_warn_stuck_timeout_seconds": 60,
    "--xla_cpu_collective_call_terminate_timeout_seconds": 600,
}

_IDLE = 4  # clients that may wait to be used again; to collect them takes 80 ms in a kernel

# Devices belong to the process, so what is known of them does too. Held weakly: a
# client goes, with its threads, when the last array, mesh or program on it goes.
_simulated: weakref.WeakValueDictionary = weakref.WeakValueDictionary()  # devices -> client
_absent: weakref.WeakValueDictionary = weakref.WeakValueDictionary()  # likewise, never listed


def wake(n: int) -> None:
    """Let JAX make its first devices: `n` simulated ones."""
    _prepare_environment(n)
    jax.config.update("jax_num_cpu_devices", n)
    client = backend.get_backend("cpu")
    _simulated[len(client.local_devices())] = client


def is_here(n: int) -> bool:
    """Tell whether JAX has `n` CPU devices that need not, or cannot, be made anew."""
    client = backend.backends().get("cpu")
    if client is None or len(client.local_devices()) != n:
        return False
    must_stay = len(backend.backends()) > 1 or jax.process_count() > 1
    return must_stay or client is _simulated.get(n)  # else its pool may be too small


def resize(n: int) -> None:
    """Give JAX `n` CPU devices in place of those it has; 5 to 50 ms."""
    _prepare_environment(n)
    jax.effects_barrier()
    for _ in range(100):
        backend.clear_backends()
        try:
            jax.config.update("jax_num_cpu_devices", n)
            backend.register_backend_factory("cpu", _configured_client, fail_quietly=False)
            break
        except RuntimeError:  # a callback on the old devices was running, and woke JAX again
            time.sleep(0.05)
    if n not in _simulated and len(_simulated) >= _IDLE:  # old clients lie in reference cycles
        compat.forget_meshes()
        gc.collect()
    backend.get_backend("cpu")


def listed() -> list:
    """Return the CPU devices that JAX lists: none where it was kept to accelerators."""
    client = backend.backends().get("cpu")
    return client.devices() if client else []


def absent(n: int):
    """Return a client of `n` devices that JAX does not list, to compile for."""
    client = _absent.get(n)
    if client is None:
        compat.forget_meshes()
        client = _absent[n] = _idle_client(n)
    return client


def was_replaced(client) -> bool:
    """Tell whether JAX listed this client's devices once, and no longer does."""
    kept = (backend.backends().get("cpu"), _absent.get(len(client.devices())))
    return all(client is not each for each in kept)


def _configured_client():
    """Return the client of the size in JAX's settings: a living one, if there is any."""
    n = jax.config.values["jax_num_cpu_devices"]
    client = _simulated.get(n)
    if client is None:
        client = _simulated[n] = compat.make_cpu_client(n)
    return client


def _idle_client(n: int):
    """Return a client that never runs anything: one thread in its pool is enough."""
    threads = os.environ.get("PJRT_NPROC")
    os.environ["PJRT_NPROC"] = "1"
    try:
        return compat.make_cpu_client(n)
    finally:
        os.environ.pop("PJRT_NPROC")
        if threads is not None:
            os.environ["PJRT_NPROC"] = threads


def _prepare_environment(n: int) -> None:
    """Set what XLA reads when a client is made; what the user set himself stays.

    Up to jaxlib 0.11.2 a client takes 32 steps in advance, and each waits in a thread
    of its pool: with fewer than two a device, a collective's partners find none left.
    """
    os.environ["PJRT_NPROC"] = str(max(2 * n, os.cpu_count() or 1, _threads_asked_for()))
    flags = os.environ.get("XLA_FLAGS", "").strip()
    is_a_file = bool(flags) and not flags.startswith("--")  # XLA reads its flags from there
    if compat.knows_collective_timeouts() and not is_a_file:
        ours = [f"{flag}={seconds}" for flag, seconds in _TIMEOUTS.items() if flag not in flags]
        os.environ["XLA_FLAGS"] = " ".join([flags, *ours]).strip()


@functools.cache
def _threads_asked_for() -> int:
    """Return the user's own PJRT_NPROC; read once, for later on it is ours."""
    asked = os.environ.get("PJRT_NPROC", "")
    return int(asked) if asked.isdigit() else 0
