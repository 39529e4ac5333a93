"""How often a picture may move: by what it costs, never once a step."""

import time

SHORTEST = 0.05  # seconds between two pushes: 20 a second
SHARE = 0.05  # of the time may go into showing


class Throttle:
    """Lets a push through when time and its cost allow; keeps count of the cost.

    The cost is the time that this thread computes for it. While it waits for a core
    or for Python's lock, the devices go on.
    """

    def __init__(self):
        self._began = self._due = time.perf_counter()
        self._computed = 0.0
        self.pushes = 0
        self.seconds = 0.0  # spent on pushes, in all

    def is_due(self) -> bool:
        """Tell whether the next push may come now."""
        return time.perf_counter() >= self._due

    def begin(self) -> None:
        """Take note that a push begins."""
        self._computed = time.thread_time()

    def end(self) -> None:
        """Take note that it ends."""
        now, cost = time.perf_counter(), time.thread_time() - self._computed
        # from when it was due, not from when it came: so it is 20 a second, not 19
        grid = max(self._due, now - SHORTEST / 2) + SHORTEST
        self._due = max(grid, now + cost * (1 / SHARE - 1))
        self.pushes += 1
        self.seconds += cost

    @property
    def share(self) -> float:
        """The part of the time since the beginning that went into pushes."""
        return self.seconds / (time.perf_counter() - self._began)
