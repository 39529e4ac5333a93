"""A device made slow: real work of its own, before its share of every step.

The work is a program of its own on that one device. The step that all devices run
stays the one that was compiled and counted, and every strategy can have a straggler;
the device enters the step late, and the others wait where they need it.
"""

import time

import jax
import jax.numpy as jnp
from jax import lax

from pdlkit.records import State

_SIDE = 64  # of the matrix multiplied: small enough for one thread
_TRIAL = 100  # multiplications that are timed together
_TRIALS = 5  # of which the shortest counts: what disturbs one only makes it longer


class Burden:
    """Work for one device that takes about so many seconds when it is alone."""

    def __init__(self, device, seconds: float):
        self.device = device
        number = jax.device_put(jnp.float32(0), device)
        _work(number, 1).block_until_ready()
        took = []
        for _ in range(_TRIALS):
            start = time.perf_counter()
            _work(number, _TRIAL).block_until_ready()
            took.append(time.perf_counter() - start)
        self.rounds = max(1, round(seconds * _TRIAL / min(took)))

    def __call__(self, state: State) -> State:
        """Return the same state, one piece of which is ready only when the work is done."""
        leaves, tree = jax.tree.flatten(state.params)
        for place, leaf in enumerate(leaves):
            pieces = leaf.addressable_shards
            if any(piece.device == self.device for piece in pieces):
                held = [
                    _work(piece.data, self.rounds) if piece.device == self.device else piece.data
                    for piece in pieces
                ]
                leaves[place] = jax.make_array_from_single_device_arrays(
                    leaf.shape, leaf.sharding, held
                )
                break
        return state._replace(params=jax.tree.unflatten(tree, leaves))


@jax.jit
def _work(piece, rounds):
    """Return the piece as it is, after so many multiplications."""
    square = jnp.full((_SIDE, _SIDE), 1 / _SIDE, jnp.float32)  # its powers are itself
    power = lax.fori_loop(0, rounds, lambda _, power: power @ square, square)
    # never true, but no compiler knows: so the work is not optimised away
    return jnp.where(power[0, 0] > 2, jnp.zeros_like(piece), piece)
