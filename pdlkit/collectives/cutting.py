"""One dimension cut into chunks, and put together again."""

import math

from pdlkit.errors import fitting_sizes, lesson


def counted(x, dimension: int) -> int:
    """Return which dimension of `x` is meant, counted from the first.

    Raises:
        ValueError: there is none.
    """
    if -x.ndim <= dimension < x.ndim:
        return dimension % x.ndim
    raise ValueError(
        lesson(
            f"dimension={dimension} is not one of [{', '.join(map(str, x.shape))}].",
            why=f"it has {x.ndim}, and they are counted from 0.",
            fix=f"0 to {x.ndim - 1}." if x.ndim else "an array that has one: x[None].",
        )
    )


def split(x, ways: int, dimension: int):
    """Cut one dimension in two: [..., n, ...] -> [..., ways, n / ways, ...].

    Raises:
        ValueError: it does not divide.
    """
    size = x.shape[dimension]
    if size % ways:
        raise ValueError(
            lesson(
                f"dimension {dimension} of [{', '.join(map(str, x.shape))}] is {size} long, "
                f"which does not divide into {ways} chunks.",
                why="all chunks are of one size.",
                fix=f"pad it, or cut it, to {fitting_sizes(size, ways)}.",
            )
        )
    return x.reshape(*x.shape[:dimension], ways, size // ways, *x.shape[dimension + 1 :])


def merge(x, dimension: int):
    """Make one dimension of two: [..., ways, n / ways, ...] -> [..., n, ...]."""
    size = math.prod(x.shape[dimension : dimension + 2])
    return x.reshape(*x.shape[:dimension], size, *x.shape[dimension + 2 :])
