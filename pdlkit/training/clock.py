"""What a step takes over the last few steps, and what part of it is waiting."""

import collections
import time


class Clock:
    """Times laps of training; the first lap after a start compiles, and counts alone.

    What lies between `resume` and `pause` or `lap` is waiting for the devices: the
    call of the step (which may run it) and the waits. The rest is the loop's own
    work, such as batches, and the caller's.
    """

    def __init__(self, laps: int):
        self._marks: collections.deque[tuple[float, float]] = collections.deque(maxlen=laps + 1)
        self._waited = 0.0
        self._since = 0.0
        self._compiled = False

    def start(self) -> None:
        """Forget all laps: what comes next is compiled anew."""
        self._marks.clear()
        self._marks.append((time.perf_counter(), self._waited))
        self._compiled = False

    def resume(self) -> None:
        """Wait for the devices from here on."""
        self._since = time.perf_counter()

    def pause(self) -> None:
        """Wait no longer."""
        self._waited += time.perf_counter() - self._since

    def lap(self) -> tuple[float, float]:
        """End a wait and a lap; return seconds a lap, and of these the waiting."""
        self.pause()
        if len(self._marks) == 2 and not self._compiled:
            self._marks.popleft()  # the first lap compiled; it is no measure of the others
            self._compiled = True
        self._marks.append((time.perf_counter(), self._waited))
        laps = len(self._marks) - 1
        (began, before), (ended, after) = self._marks[0], self._marks[-1]
        return (ended - began) / laps, (after - before) / laps
