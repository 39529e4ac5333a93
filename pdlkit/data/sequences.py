"""Sequences made up on the spot: mixtures of sines, to be foretold."""

import numpy as np


def sines(examples: int = 2048, length: int = 32, *, seed: int = 0):
    """Return noisy sums of two sines, and what follows, [examples, length, 1] each.

    Each example has its own two frequencies and phases, which only its past can
    tell. Variance is 1, that of the noise 0.01: less than that cannot be reached.

    Args:
        examples: how many sequences.
        length: values in each.
        seed: of everything that is drawn.
    """
    draw = np.random.default_rng(seed)
    frequency = draw.uniform(0.2, 1.2, (examples, 2, 1))  # radians a step
    phase = draw.uniform(0, 2 * np.pi, (examples, 2, 1))
    waves = np.sin(frequency * np.arange(length + 1) + phase).sum(1)  # [examples, length + 1]
    noisy = (waves + draw.normal(0, 0.1, waves.shape)).astype(np.float32)[..., None]
    return noisy[:, :-1], noisy[:, 1:]
