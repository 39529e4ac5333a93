"""When messages hide behind arithmetic: bounds from a device's two speeds.

`flops` are operations in a second, `bytes_per_second` those that a device sends.
"""

import math


def smallest_block(flops: float, bytes_per_second: float) -> float:
    """Return the tokens of a block whose attention takes as long as its messages.

    In ring attention a device does 4 d c^2 operations on a block of c tokens while it
    passes 4 d c bytes of keys and values on; a device has to hold six such blocks.

    Source: Liu et al. 2023, section 3.2, https://arxiv.org/abs/2310.01889
    """
    return flops / bytes_per_second


def smallest_batch(flops: float, bytes_per_second: float, axes: int = 1) -> float:
    """Return the tokens of a device from which data parallel messages hide.

    The all-reduce of a layer's gradients, or the gathering of its weights, takes less
    than its products where a device has more tokens.

    Args:
        flops: of a device.
        bytes_per_second: of one axis of its torus, both ways together.
        axes: over which the messages go at once.

    Source: https://jax-ml.github.io/scaling-book/training, "Data Parallelism"
    """
    return flops / (bytes_per_second * axes)


def most_tensor_ways(width: int, flops: float, bytes_per_second: float, axes: int = 1) -> float:
    """Return the tensor ways up to which the sums of activations hide.

    Args:
        width: of the MLP.
        flops: of a device.
        bytes_per_second: of one axis of its torus, both ways together.
        axes: over which the messages go at once.

    Source: https://jax-ml.github.io/scaling-book/training, "Tensor Parallelism"
    """
    return axes * width * bytes_per_second / flops


def best_sharding(tokens: float, width: int, devices: int, axes: tuple[int, int] = (1, 1)) -> float:
    """Return the ways of cutting the weights by data, where the rest are tensor ways.

    Those by which the two kinds of messages together take the shortest.

    Args:
        tokens: of the batch.
        width: of the MLP.
        devices: of both ways together.
        axes: of the torus for the data ways, and for the tensor ways.

    Source: https://jax-ml.github.io/scaling-book/training, "Combining FSDP and Tensor
    Parallelism"
    """
    return math.sqrt(tokens / width * axes[0] / axes[1] * devices)


def days_of(operations: float, devices: int, flops: float, share: float) -> float:
    """Return the days that so many operations take, at a share of the peak."""
    return operations / (devices * flops * share) / 86400
