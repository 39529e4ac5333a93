"""Noise that travels with the data, so that every cut of a batch sees the same."""

import dataclasses
from typing import Any

import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class WithNoise:
    """Batches with fresh normal numbers beside them, a pure function of (seed, k)."""

    batches: Any  # what `pdl.batches` gives
    width: int  # numbers for each example

    @property
    def held_out(self):
        """What was held out, and noise that never changes."""
        return self._join(self.batches.held_out, (0, 0, 1))  # no batch's: those have two words

    def batch(self, k: int, seed: int = 0):
        """Return batch `k` and its noise, (*arrays, [size, width])."""
        return self._join(self.batches.batch(k, seed), (seed, int(k)))

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self):
        return (self.batch(k) for k in range(len(self)))

    def _join(self, arrays, key):
        examples = len(jax.tree.leaves(arrays)[0])
        noise = np.random.default_rng(key).standard_normal((examples, self.width), np.float32)
        return (*arrays, noise)
