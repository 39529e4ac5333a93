"""An autoencoder of images that keeps rows as rows, so that they can be cut."""

import itertools

import jax
import jax.numpy as jnp

from pdlkit.errors import lesson
from pdlkit.models.cnn import CONV_AXES
from pdlkit.models.parts import from_parts
from pdlkit.records import Model, Parts

BATCH_AXES = (("batch", "rows", "columns", None),)


def conv_autoencoder(channels: int = 1, *, widths=(16, 4)) -> Model:
    """Return 3x3 convolutions down and up, [batch, rows, columns, channels] -> same.

    Each one down halves rows and columns by its stride; each one up doubles
    every pixel first. The code is a small image. A batch is (images,).

    Args:
        channels: of an image; its sides are multiples of 2 ** len(widths), or its
            loss raises ValueError.
        widths: channels after each convolution down, the code's last.

    Source: Masci et al. 2011, "Stacked Convolutional Auto-Encoders",
    doi:10.1007/978-3-642-21735-7_7; doubling pixels as in Odena et al. 2016,
    "Deconvolution and Checkerboard Artifacts", doi:10.23915/distill.00003
    """
    sizes = (channels, *widths)

    def init(key):
        there, back = jax.random.split(key)
        return {"first": _params(there, sizes), "last": _params(back, sizes[::-1])}

    def encode(params, batch, layers):
        x = batch[0]
        for i, conv in enumerate(params):
            x = layers.conv(jax.nn.relu(x) if i else x, **conv, stride=2)
        return x

    def decode(params, x, layers):
        for i, conv in enumerate(params):
            doubled = jnp.repeat(jnp.repeat(jax.nn.relu(x) if i else x, 2, axis=1), 2, axis=2)
            x = layers.conv(doubled, **conv)
        return x

    def finish(params, x, batch, layers):
        made = decode(params, x, layers)
        if made.shape != batch[0].shape:
            raise ValueError(
                lesson(
                    f"images of shape {list(batch[0].shape)} come back as {list(made.shape)}.",
                    why=f"{len(widths)} convolutions halve an image's sides, and as many double.",
                    fix=f"sides that are multiples of {2 ** len(widths)}, or fewer widths=(...).",
                )
            )
        return jnp.mean((made - batch[0]) ** 2)

    half = [CONV_AXES] * len(widths)
    parts = Parts(encode, None, finish)
    model = from_parts(parts, decode, init=init, axes={"first": half, "last": half})
    return model._replace(batch_axes=BATCH_AXES)


def _params(key, sizes):
    pairs = list(itertools.pairwise(sizes))
    return [
        {
            "w": jax.random.normal(key, (3, 3, *pair)) * (2 / (9 * pair[0])) ** 0.5,
            "b": jnp.zeros(pair[1]),
        }
        for key, pair in zip(jax.random.split(key, len(pairs)), pairs, strict=True)
    ]
