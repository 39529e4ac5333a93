"""Convolutional networks: convolutions with pooling, then dense layers."""

import itertools

import jax
import jax.numpy as jnp
from jax import lax

from pdlkit.errors import lesson
from pdlkit.models.floats import at_least_float32
from pdlkit.models.parts import classify, dense_params, from_parts
from pdlkit.records import Model, Parts

CONV_AXES = {"w": ("height", "width", "channels_in", "channels"), "b": ("channels",)}
DENSE_AXES = {"w": ("features", "mlp"), "b": ("mlp",)}
LAST_AXES = {"w": ("features", "outputs"), "b": ("outputs",)}
BATCH_AXES = (("batch", "rows", "columns", None), ("batch",))


def cnn(  # noqa: PLR0913  sizes
    image=(8, 8, 1),
    classes: int = 10,
    *,
    channels=(32, 64),
    hidden=(),
    padding="SAME",
    reduce=jnp.max,
    normalise=False,
) -> Model:
    """Return 5x5 convolutions with 2x2 pooling, [batch, *image] -> [batch, classes].

    Args:
        image: rows, columns and channels of one example: (8, 8, 1) for the
            digits in the box, (28, 28, 1) for MNIST.
        classes: how many there are to tell apart.
        channels: the width of each convolution.
        hidden: the width of each dense layer before the last.
        padding: "SAME" keeps the image's size, "VALID" loses four rows each time.
        reduce: `jnp.max` or `jnp.mean`: max or average pooling.
        normalise: whether each convolution is followed by `batch_norm`, in
            training and in prediction with the statistics of the batch at hand.

    Raises:
        ValueError: nothing is left of the image after so many convolutions.

    Source: LeCun et al. 1998, "Gradient-based learning applied to document
    recognition", doi:10.1109/5.726791
    """
    padding = padding.upper()
    features = _features(image, channels, padding)
    widths = (features, *hidden, classes)

    def init(key):
        first, last = jax.random.split(key)
        return {
            "first": [
                _conv_params(key, *pair, normalise)
                for key, pair in _each(first, (image[-1], *channels))
            ],
            "last": [dense_params(key, *pair) for key, pair in _each(last, widths)],
        }

    def convolve(params, batch, layers):
        x = batch[0]
        for conv in params:
            x = layers.conv(x, conv["w"], padding=padding)
            if normalise:
                x = batch_norm(x, conv["scale"], layers)
            x = layers.pool(jax.nn.relu(x + conv["b"]), 2, reduce=reduce)
        return layers.flatten(x)

    def finish(params, x, batch, layers):
        return classify(_dense(params, x, layers), batch[1], layers)

    conv = CONV_AXES | ({"scale": ("channels",)} if normalise else {})
    axes = {"first": [conv] * len(channels), "last": [DENSE_AXES] * len(hidden) + [LAST_AXES]}
    model = from_parts(Parts(convolve, None, finish), _dense, init=init, axes=axes)
    return model._replace(batch_axes=BATCH_AXES)


def lenet(classes: int = 10) -> Model:
    """Return LeNet-5 for colour images, [batch, 32, 32, 3] -> [batch, classes].

    Source: LeCun et al. 1998, doi:10.1109/5.726791, with ReLU and max-pooling
    as it is taught today.
    """
    return cnn((32, 32, 3), classes, channels=(6, 16), hidden=(120, 84), padding="VALID")


def batch_norm(x, scale, layers):
    """[batch, rows, columns, channels] -> same: channels standardised, then scaled.

    Mean and variance are those of the whole batch, also where it is cut.

    Source: Ioffe and Szegedy 2015, "Batch Normalization", https://arxiv.org/abs/1502.03167
    """
    x, pixels = at_least_float32(x), float(x[..., 0].size)
    centred = x - layers.mean(x.sum((0, 1, 2)), pixels)
    variance = layers.mean((centred**2).sum((0, 1, 2)), pixels)  # [channels]
    return centred * lax.rsqrt(variance + 1e-5) * scale


def _dense(params, x, layers):
    del layers
    for layer in params[:-1]:
        x = jax.nn.relu(x @ layer["w"] + layer["b"])
    return x @ params[-1]["w"] + params[-1]["b"]


def _features(image, channels, padding) -> int:
    rows, columns, _ = image
    lost = 4 if padding == "VALID" else 0
    for i in range(len(channels)):
        rows, columns = (rows - lost) // 2, (columns - lost) // 2
        if min(rows, columns) < 1:
            raise ValueError(
                lesson(
                    f"an image of {image[0]} x {image[1]} pixels has none left after "
                    f"{i + 1} of {len(channels)} convolutions.",
                    why=f'with padding="{padding}" each takes {lost} rows and columns, and '
                    "pooling halves what is left.",
                    fix='fewer channels=(...), larger images, or padding="SAME".',
                )
            )
    return rows * columns * channels[-1]


def _each(key, widths):
    pairs = list(itertools.pairwise(widths))
    return zip(jax.random.split(key, len(pairs)), pairs, strict=True)


def _conv_params(key, inputs: int, outputs: int, normalise: bool):
    spread = (2 / (25 * inputs)) ** 0.5
    weights = spread * jax.random.normal(key, (5, 5, inputs, outputs))
    scale = {"scale": jnp.ones(outputs)} if normalise else {}
    return {"w": weights, "b": jnp.zeros(outputs), **scale}
