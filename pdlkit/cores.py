"""The cores that this process may use: how much can really run at once."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def allowed_cores() -> int:
    """Return the cores that the operating system lets this process run on."""
    if hasattr(os, "sched_getaffinity"):  # macOS has it not
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def within_quota(cores: int, root: Path = Path("/")) -> int:
    """Return how many of these cores a container's quota leaves, 1 at least.

    Args:
        cores: what the operating system allows.
        root: where `sys` is.
    """
    limit = root / "sys/fs/cgroup/cpu.max"
    quota, _, period = (limit.read_text() if limit.is_file() else "").partition(" ")
    return min(cores, max(1, int(quota) // int(period))) if quota.isdigit() else cores


def can_pin() -> bool:
    """Tell whether a process can be kept on some of the cores: not on macOS."""
    return hasattr(os, "sched_setaffinity")


@contextlib.contextmanager
def pinned(n: int) -> Iterator[None]:
    """Keep this thread, and the processes it starts, on the first n allowed cores.

    A process is pinned whole only from its birth on: later, the threads that it
    has already are left out. Where nothing can be pinned (macOS), nothing is done.
    """
    if not can_pin():
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:n])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
