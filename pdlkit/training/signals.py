"""What a callback may answer: the channel of a board's buttons."""

from typing import NamedTuple


class Stop(NamedTuple):
    """End the training after this step; what was learned is kept."""


class Pause(NamedTuple):
    """Hold still, and ask the callback again a moment later."""


class Set(NamedTuple):
    """Go on with another learning rate."""

    learning_rate: float
