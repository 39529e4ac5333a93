"""A generator and its critic, trained against each other by one loss."""

import jax
import jax.numpy as jnp
from jax import lax

from pdlkit.models.autoencoder import PAIR_AXES, binary_cross_entropy, pair, pair_params
from pdlkit.models.layers import ALONE
from pdlkit.records import Model


def gan(features: int = 64, latent: int = 16, *, hidden=128) -> Model:
    """Return a generator, [batch, latent] noise -> [batch, features] in 0..1.

    A batch is (x, noise). The loss is the discriminator's: the mean cross-entropy
    of telling x from what was generated. The gradient is reversed on its way to
    the generator, so one step down for the one is a step up for the other, and
    any strategy trains both.

    Source: Goodfellow et al. 2014, "Generative Adversarial Nets",
    https://arxiv.org/abs/1406.2661; gradient reversal by Ganin and Lempitsky
    2014, https://arxiv.org/abs/1409.7495
    """

    def init(key):
        generator, discriminator = jax.random.split(key)
        return {
            "generator": pair_params(generator, latent, hidden, features),
            "discriminator": pair_params(discriminator, features, hidden, 1),
        }

    def generate(params, batch, layers=ALONE):
        return jax.nn.sigmoid(pair(params["generator"], batch[1], layers))

    def judge(params, x, layers):
        # Leaky, for a unit that is silent on all that was made would teach nothing.
        return pair(params["discriminator"], x, layers, activation=jax.nn.leaky_relu)

    def loss(params, batch, layers=ALONE):
        made = reverse_gradient(generate(params, batch, layers))
        true = binary_cross_entropy(judge(params, batch[0], layers), 1)
        false = binary_cross_entropy(judge(params, made, layers), 0)
        return jnp.mean(true) + jnp.mean(false)

    axes = {"generator": PAIR_AXES, "discriminator": PAIR_AXES}
    return Model(init, loss, axes, predict=generate)


def reverse_gradient(x):
    """Return `x`; whatever gradient comes back is negated."""
    return 2 * lax.stop_gradient(x) - x
