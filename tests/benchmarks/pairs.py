"""Two ways of doing one thing, timed in turns, and their ratio with its interval."""

import time
from typing import NamedTuple

import jax
import numpy as np


class Ratio(NamedTuple):
    """The median of ours over theirs, and where 95 of 100 such medians would lie."""

    ratio: float
    low: float
    high: float
    ours_ms: float  # the median
    theirs_ms: float
    pairs: int

    def __str__(self) -> str:
        return (
            f"{self.ratio:.3f} [{self.low:.3f}, {self.high:.3f}], ours {self.ours_ms:.2f} ms, "
            f"theirs {self.theirs_ms:.2f} ms, {self.pairs} pairs"
        )


def compare(ours, theirs, *, pairs: int = 400) -> Ratio:
    """Return how long `ours` takes beside `theirs`; both give what can be waited for."""
    for call in (ours, theirs) * 3:
        seconds(call)
    times = np.empty((pairs, 2))
    for pair in range(pairs):  # who goes first takes turns too
        order = (0, 1) if pair % 2 else (1, 0)
        for side in order:
            times[pair, side] = seconds((ours, theirs)[side])
    ratios = times[:, 0] / times[:, 1]
    draws = np.random.default_rng(0).choice(ratios, (2000, pairs))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    ours_ms, theirs_ms = 1e3 * np.median(times, axis=0)
    return Ratio(float(np.median(ratios)), float(low), float(high), ours_ms, theirs_ms, pairs)


def seconds(call) -> float:
    """Return how long one call takes, its results waited for."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start
