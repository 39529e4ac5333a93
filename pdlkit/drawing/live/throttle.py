"""How often a picture may move: by what it costs, never once a step."""

import time

SHORTEST = 0.05  # seconds between two pushes: 20 a second
SHARE = 0.05  # of the time may go into showing


class Throttle:
    """Lets a push through when time and its cost allow; keeps count of the cost."""

    def __init__(self):
        self._began = self._due = time.perf_counter()
        self.pushes = 0
        self.seconds = 0.0  # spent on pushes, in all

    def is_due(self) -> bool:
        """Tell whether the next push may come now."""
        return time.perf_counter() >= self._due

    def spent(self, began: float) -> None:
        """Take note of a push that began at this reading of `perf_counter` and ends now."""
        now = time.perf_counter()
        cost = now - began
        # from when it was due, not from when it came: so it is 20 a second, not 19
        grid = max(self._due, began - SHORTEST / 2) + SHORTEST
        self._due = max(grid, now + cost * (1 / SHARE - 1))
        self.pushes += 1
        self.seconds += cost

    @property
    def share(self) -> float:
        """The part of the time since the beginning that went into pushes."""
        return self.seconds / (time.perf_counter() - self._began)
