"""A causal transformer: it reads tokens, and guesses each next one."""

import jax
import jax.numpy as jnp

from pdlkit.models import decoder
from pdlkit.models.parts import from_parts
from pdlkit.records import Model, Parts

AXES = {
    "first": decoder.AXES["first"],
    "blocks": {
        "attention": decoder.AXES["attention"],
        "mlp": {
            "scale": ("layers", "embed"),
            "up": ("layers", "embed", "mlp"),
            "down": ("layers", "mlp", "embed"),
        },
    },
    "last": decoder.AXES["last"],
}


def transformer(
    vocabulary: int = 16, *, embed=64, heads=4, hidden=256, blocks=2, padding=-1
) -> Model:
    """Return pre-norm blocks, tokens [batch, seq] -> logits [batch, seq, vocabulary].

    A batch is (tokens, targets), [batch, seq] whole numbers each: the target
    beside a token is the one that comes next.

    Args:
        vocabulary: how many tokens there are.
        embed: width of the residual stream, a multiple of `heads`.
        heads: attention heads.
        hidden: width of the multilayer perceptron in a block.
        blocks: how many blocks.
        padding: the target that is not counted in the loss.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762; the norm before
    each half of a block as in Xiong et al. 2020, https://arxiv.org/abs/2002.04745,
    and without a mean as in Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467
    """

    def init(key):
        first, middle, last = jax.random.split(key, 3)

        def block(key):
            attention, mlp = jax.random.split(key)
            return {
                "attention": decoder.attention_params(attention, embed, heads, gain=1 / blocks),
                "mlp": _mlp_params(mlp, embed, hidden, gain=1 / blocks),
            }

        return {
            "first": decoder.first_params(first, vocabulary, embed),
            "blocks": jax.vmap(block)(jax.random.split(middle, blocks)),
            "last": decoder.last_params(last, vocabulary, embed),
        }

    def finish(params, x, batch, layers):
        logits = decoder.logits(params, x, layers)
        return decoder.token_loss(logits, batch[1], padding, layers)

    parts = Parts(decoder.read, _block, finish)
    model = from_parts(parts, decoder.logits, init=init, axes=AXES)
    return model._replace(batch_axes=decoder.BATCH_AXES, padding=padding)


def _block(params, x, layers):
    x = x + decoder.attend(params["attention"], x, layers)
    mlp = params["mlp"]
    hidden = _gelu(layers.up(layers.norm(x, mlp["scale"]), mlp["up"]))
    return x + layers.down(hidden, mlp["down"])


def _gelu(x):
    """[...] -> the same: `jax.nn.gelu`, computed once more on the way back.

    To keep its powers and its tanh for every block costs more copies than they take.
    """
    return jax.checkpoint(jax.nn.gelu, prevent_cse=False)(x)


def _mlp_params(key, embed: int, hidden: int, *, gain: float):
    up, down = jax.random.split(key)
    return {
        "scale": jnp.ones(embed),
        "up": jax.random.normal(up, (embed, hidden)) * (2 / embed) ** 0.5,
        "down": jax.random.normal(down, (hidden, embed)) * (gain / hidden) ** 0.5,
    }
