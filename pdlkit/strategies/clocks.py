"""When each device of a parameter server starts and ends its clocks, as a table."""

import dataclasses

import numpy as np

from pdlkit.errors import lesson


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Clocks:
    """Who computed when, and from which weights: [steps, devices] each.

    Version t of the weights is there once all have ended step t - 1; version 0 is
    there from the beginning.
    """

    start: np.ndarray  # seconds
    end: np.ndarray  # seconds
    version: np.ndarray  # of the weights that the gradient of this step was taken with
    bound: int

    def __repr__(self) -> str:
        steps, devices = self.start.shape
        return (
            f"<clocks of {devices} devices, {steps} steps: weights {self.staleness.mean():.2f} "
            f"steps old on average, {self.waiting:.0%} of the time spent waiting>"
        )

    @property
    def staleness(self) -> np.ndarray:
        """[steps, devices], how many steps old the weights were."""
        return np.arange(len(self.version))[:, None] - self.version

    @property
    def pulled(self) -> np.ndarray:
        """[steps, devices], whether a device fetched weights that it did not have."""
        before = np.vstack([np.full_like(self.version[:1], -1), self.version[:-1]])
        return self.version != before

    @property
    def seconds(self) -> float:
        """Until the last device has ended its last step."""
        return float(self.end.max())

    @property
    def waiting(self) -> float:
        """The share of all devices' time in which they did not compute."""
        return float(1 - (self.end - self.start).sum() / (self.seconds * self.end.shape[1]))


def clock_table(seconds, *, bound: int) -> Clocks:
    """Return when devices compute if none may run more than `bound` steps ahead.

    A device starts a step when it has ended the one before and weights are there that
    are at most `bound` steps old; it takes the newest there are.

    Args:
        seconds: [steps, devices], how long each takes for each step.
        bound: 0 makes all wait for all, at each step.

    Source: Ho et al. 2013, "More Effective Distributed ML via a Stale Synchronous
    Parallel Parameter Server", https://papers.nips.cc/paper/4894
    """
    seconds = np.asarray(seconds, dtype=np.float64)
    start, end = np.zeros_like(seconds), np.zeros_like(seconds)
    version = np.zeros(seconds.shape, dtype=int)
    there = np.zeros(len(seconds) + 1)  # when each version is: later and later
    for step, took in enumerate(seconds):
        ended = end[step - 1] if step else np.zeros(len(took))
        start[step] = np.maximum(ended, there[max(step - bound, 0)])
        end[step] = start[step] + took
        version[step] = np.searchsorted(there[: step + 1], start[step], side="right") - 1
        there[step + 1] = end[step].max()
    return Clocks(start, end, version, bound)


def drawn_seconds(speeds, *, steps: int, jitter: float, seed: int) -> np.ndarray:
    """[steps, devices], how long steps take: the same for the same seed.

    Args:
        speeds: [devices], steps a second of each, where nothing disturbs it.
        steps: how many are drawn.
        jitter: the standard deviation of the logarithm of what disturbs it.
        seed: of the draw.

    Raises:
        ValueError: a speed is not above 0.
    """
    speeds = np.asarray(speeds, dtype=np.float64)
    if not (speeds > 0).all():
        raise ValueError(
            lesson(
                f"speeds are {speeds.tolist()} steps a second.",
                why="a device that stands still makes all others wait for ever.",
                fix="numbers above 0.",
            )
        )
    draw = np.random.default_rng(seed)
    return np.exp(draw.normal(0, jitter, (steps, len(speeds)))) / speeds
