"""Curves that grow for as long as they like, in the room of a few hundred points."""

import numpy as np

MOST = 512  # points kept of a curve


class Series:
    """Some curves over one x; when the room is full, every other point goes.

    The newest point is always there.
    """

    def __init__(self):
        self._x = np.empty(MOST)
        self._y = np.empty((0, MOST))
        self._count = 0
        self._stride = 1
        self._seen = 0

    def add(self, x: float, values) -> None:
        """Add a point to each curve; a curve that is new has gaps before it."""
        if len(values) > len(self._y):
            new = np.full((len(values) - len(self._y), MOST), np.nan)
            self._y = np.concatenate([self._y, new])
        if (self._seen - 1) % self._stride:
            self._count -= 1  # the last point was there only because it was the newest
        if self._count == MOST:
            self._halve()
        self._x[self._count] = x
        self._y[:, self._count] = np.nan
        self._y[: len(values), self._count] = values
        self._count += 1
        self._seen += 1

    def _halve(self) -> None:
        half = MOST // 2
        self._x[:half] = self._x[::2].copy()
        self._y[:, :half] = self._y[:, ::2].copy()
        self._count, self._stride = half, 2 * self._stride

    @property
    def x(self) -> np.ndarray:
        """[points], as far as it has come."""
        return self._x[: self._count].copy()

    @property
    def y(self) -> np.ndarray:
        """[curves, points]; NaN where a curve has no value."""
        return self._y[:, : self._count].copy()
