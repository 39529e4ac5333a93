"""Arrays cut into batches: which examples, in which order."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from pdlkit.errors import lesson


@dataclasses.dataclass(frozen=True)
class Batches:
    """Batches as a pure function of a seed and a number.

    Each epoch is shuffled anew; what is left over at its end waits for the next
    shuffle, so all batches have one size. Iterating gives the first epoch,
    always in the same order.
    """

    arrays: Any  # pytree of [examples, ...]: to learn from
    held_out: Any  # pytree of [others, ...]: to be judged on
    size: int  # examples in a batch

    def batch(self, k: int, seed: int = 0):
        """Return batch `k` of the endless row that `seed` begins, [size, ...] each."""
        epoch, place = divmod(int(k), len(self))
        order = _order(seed, epoch, _examples(self.arrays))
        rows = order[place * self.size : (place + 1) * self.size]
        return jax.tree.map(lambda array: array[rows], self.arrays)

    def __len__(self) -> int:
        return _examples(self.arrays) // self.size

    def __iter__(self):
        return (self.batch(k) for k in range(len(self)))


@dataclasses.dataclass(frozen=True)
class Given:
    """Batches that somebody else has cut; taken round and round, as they are."""

    batches: list[Any]
    held_out: Any = None

    def batch(self, k: int, seed: int = 0):
        """Return batch `k`, beginning again after the last."""
        del seed
        return self.batches[int(k) % len(self.batches)]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self):
        return iter(self.batches)


def batches(*arrays, size: int = 64, held_out: float = 0.2) -> Batches:
    """Return your arrays as shuffled batches, part of them held out.

    Args:
        *arrays: [examples, ...] each, examples in the same order.
        size: examples in a batch.
        held_out: share of the examples, 0 to 1, kept from training. Which ones
            never changes.

    Raises:
        ValueError: lengths differ, a share outside 0 to 1, or fewer examples than
            a batch takes.
    """
    lengths = [len(array) for array in arrays]
    if len(set(lengths)) != 1:
        raise ValueError(
            lesson(
                f"the arrays hold {', '.join(map(str, lengths)) or 'no'} examples.",
                why="example i of a batch takes row i of every array.",
                fix="cut them to the same length first.",
            )
        )
    if not 0 <= held_out <= 1:
        raise ValueError(
            lesson(
                f"held_out={held_out} is no share.",
                why="it says which part of the examples is kept from training.",
                fix="a number from 0 to 1, say 0.2.",
            )
        )
    kept = lengths[0] - round(held_out * lengths[0])
    if not hasattr(size, "__index__") or not 0 < size <= kept:
        raise ValueError(
            lesson(
                f"a batch of {size} cannot be filled: {kept} examples are there to learn from.",
                why=f"a batch is a whole number of them, and {lengths[0] - kept} of the "
                f"{lengths[0]} are held out to be judged on.",
                fix=f"size={max(1, kept // 8)}, or a smaller held_out.",
            )
        )
    order = _order(0, -1, lengths[0])
    pick = lambda rows: tuple(np.asarray(array)[rows] for array in arrays)  # noqa: E731
    return Batches(pick(order[:kept]), pick(order[kept:]), size)


def as_batches(given):
    """Return what a learner passes as batches: arrays, a list of batches, or batches.

    Raises:
        TypeError: it is none of these.
    """
    if hasattr(given, "batch"):
        return given
    if isinstance(given, tuple) and given and all(map(_is_array, given)):
        return batches(*given)
    if isinstance(given, list) and given:
        leaves = [jax.tree.leaves(batch) for batch in given]
        if all(each and all(map(_is_array, each)) for each in leaves):
            looks = {tuple((*x.shape[1:], str(x.dtype)) for x in each) for each in leaves}
            if len(looks) == 1:  # [x, y] is no list of batches
                return Given(given)
    raise TypeError(
        lesson(
            f"a {type(given).__name__} cannot be taken for batches.",
            why="training asks for batch k, a tuple of arrays that begin with the examples.",
            fix="a tuple of arrays (x, y); a list of batches [(x, y), ...]; or pdl.batches(x, y).",
        )
    )


def _is_array(leaf) -> bool:
    return len(getattr(leaf, "shape", ())) > 0


def _examples(arrays) -> int:
    return len(jax.tree.leaves(arrays)[0])


@functools.lru_cache(maxsize=4)
def _order(seed: int, epoch: int, examples: int):
    if seed < 0:
        raise ValueError(
            lesson(
                f"seed={seed} is less than 0.",
                why="the generator of the order of examples takes whole numbers from 0 on.",
                fix=f"seed={-seed}.",
            )
        )
    return np.random.default_rng((seed, epoch + 1)).permutation(examples)
