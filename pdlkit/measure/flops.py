"""The arithmetic of a traced program."""

import math

import numpy as np

from pdlkit.measure.walk import Scope, walk


def flops(jaxpr, devices: int = 1) -> int:
    """Return the floating-point operations of one device in one run.

    Matrix products and convolutions only, a multiplication and an addition two
    operations: the custom when utilisation is computed, and all but a few per cent
    of a network's work. Of a convolution, taps that meet padding or the gaps of a
    dilation are not counted, so that its gradients cost exactly as much as itself.

    Loops are multiplied out; one whose length depends on data counts once, of a
    `cond` the heaviest branch. What stands outside of every `shard_map` is taken to
    be spread evenly over the devices. A Pallas kernel counts once for each place of
    its grid.

    Args:
        jaxpr: what `jax.make_jaxpr` gives.
        devices: how many share what is not in a `shard_map`.
    """
    return sum(walk(jaxpr, Scope(devices), _flops_of, weight=int))


def _flops_of(equation, scope: Scope) -> list[int]:
    name = equation.primitive.name
    if name == "dot_general":
        once = _product(equation)
    elif name == "conv_general_dilated":
        once = _convolution(equation)
    else:
        return []
    return [-(-once * scope.times // scope.devices)]


def _product(equation) -> int:
    (summed, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2 * math.prod(_result(equation)) * math.prod(left[axis] for axis in summed)


def _convolution(equation) -> int:
    params = equation.params
    axes = params["dimension_numbers"]
    image, kernel = (operand.aval.shape for operand in equation.invars)
    result = _result(equation)
    batch, features = (result[axis] for axis in axes.out_spec[:2])
    inputs = kernel[axes.rhs_spec[1]]  # those of one group
    places = zip(axes.lhs_spec[2:], axes.rhs_spec[2:], axes.out_spec[2:], strict=True)
    sizes = [(image[i], kernel[k], result[r]) for i, k, r in places]
    gaps = zip(params["lhs_dilation"], params["rhs_dilation"], strict=True)
    windows = zip(params["window_strides"], params["padding"], gaps, strict=True)
    taps = math.prod(_taps(*figures) for figures in zip(sizes, windows, strict=True))
    return 2 * batch * features * inputs * taps


def _taps(sizes, window) -> int:
    """Return how many pairs of result and kernel place meet an image place.

    Args:
        sizes: of image, kernel and result along one axis.
        window: stride, padding before and after, and steps in image and in kernel.
    """
    image, kernel, result = sizes
    stride, (before, _), (image_step, kernel_step) = window
    at = np.arange(result)[:, None] * stride + np.arange(kernel) * kernel_step - before
    met = (at >= 0) & (at <= (image - 1) * image_step) & (at % image_step == 0)
    return int(met.sum())


def _result(equation) -> tuple[int, ...]:
    return equation.outvars[0].aval.shape
