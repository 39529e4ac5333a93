"""A small language model on tokens drawn at random: what the tests cut along its sequence."""

import functools

import numpy as np
import optax

import pdlkit as pdl


@functools.cache
def words(heads: int = 4, length: int = 16):
    """Return the workload: 16 tokens, 2 blocks; targets masked unevenly over the sequence."""
    model = pdl.models.transformer(16, embed=32, heads=heads, hidden=64, blocks=2)
    tokens = np.random.default_rng(0).integers(0, 16, (96, length + 1)).astype(np.int32)
    targets = tokens[:, 1:].copy()
    targets[:, : length // 3] = -1
    targets[::3, length // 2 :] = -1
    batches = [(tokens[i : i + 16, :-1], targets[i : i + 16]) for i in range(0, 96, 16)]
    return pdl.Workload("words", model, optax.sgd(0.1), batches)
