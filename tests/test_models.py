"""Models: shapes, sizes, and each layer operation against a plain thing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import pdlkit as pdl
from pdlkit.models.cnn import batch_norm
from pdlkit.models.layers import ALONE
from pdlkit.models.parts import from_parts, is_axes, repeat
from pdlkit.strategies.calls import recording

MODELS = {  # name: model, shape of one example, outputs
    "mlp": (pdl.models.mlp(64, 10), (64,), 10),
    "mlp, deep and narrow": (pdl.models.mlp(10, 3, embed=4, hidden=6, blocks=5), (10,), 3),
    "cnn 8x8": (pdl.models.cnn((8, 8, 1), 10), (8, 8, 1), 10),
    "cnn 28x28": (pdl.models.cnn((28, 28, 1), 10), (28, 28, 1), 10),
    "cnn, odd sides, average": (
        pdl.models.cnn((9, 13, 2), 4, channels=(3,), reduce=jnp.mean),
        (9, 13, 2),
        4,
    ),
    "cnn, normalised": (pdl.models.cnn((8, 8, 1), 10, normalise=True), (8, 8, 1), 10),
    "lenet": (pdl.models.lenet(), (32, 32, 3), 10),
}
each_model = pytest.mark.parametrize("name", MODELS)


def inputs(shape, batch=4, seed=0):
    return np.random.default_rng(seed).normal(size=(batch, *shape)).astype(np.float32)


def words(shape=(4, 8), seed=0):
    """Return tokens and targets, about a fifth of which are padding, 0."""
    tokens, targets = np.random.default_rng(seed).integers(1, 16, (2, *shape), dtype=np.int32)
    return tokens, np.where(targets < 4, 0, targets)


SMALL = {"embed": 8, "heads": 2, "hidden": 12, "padding": 0}
OTHERS = {  # name: model, batch, shape of its predictions
    "rnn": (pdl.models.rnn(2, 3), (inputs((5, 2)), inputs((5, 3))), (4, 5, 3)),
    "rnn, deep": (
        pdl.models.rnn(2, 3, hidden=6, blocks=3),
        (inputs((5, 2)), inputs((5, 3))),
        (4, 5, 3),
    ),
    "gru": (pdl.models.gru(2, 3), (inputs((5, 2)), inputs((5, 3))), (4, 5, 3)),
    "autoencoder": (pdl.models.autoencoder(12, 3), (inputs((12,)),), (4, 12)),
    "variational": (
        pdl.models.variational_autoencoder(12, 3),
        (inputs((12,)) ** 2, inputs((3,), seed=1)),
        (4, 12),
    ),
    "convolutional": (pdl.models.conv_autoencoder(2), (inputs((8, 4, 2)),), (4, 8, 4, 2)),
    "gan": (pdl.models.gan(12, 3), (inputs((12,)), inputs((3,), seed=1)), (4, 12)),
    "transformer": (pdl.models.transformer(16, **SMALL), words(), (4, 8, 16)),
    "moe": (pdl.models.moe(16, experts=5, **SMALL), words(), (4, 8, 16)),
    "moe, full": (pdl.models.moe(16, experts=5, capacity=0.5, **SMALL), words(), (4, 8, 16)),
}
BATCHES = {
    **{name: (inputs(shape), np.zeros(4, np.int32)) for name, (_, shape, _) in MODELS.items()},
    **{name: batch for name, (_, batch, _) in OTHERS.items()},
}
each_family = pytest.mark.parametrize("name", BATCHES)


def model_of(name):
    return (MODELS | OTHERS)[name][0]


def drawn(model, seed=0):
    """Return params of a model, drawn by numpy: quicker than compiling `init`."""
    draw = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return jax.tree.map(lambda x: draw.normal(0, 0.5, x.shape).astype(np.float32), shapes)


def run(model, params, batch):
    """Return a model's predictions and its loss."""
    both = lambda params: (model.predict(params, batch), model.loss(params, batch))  # noqa: E731
    return jax.jit(both)(params)


def size(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


# --- whole models


@each_model
def test_a_prediction_for_each_example(name):
    """A model gives one row of outputs for every example, and one number as its loss."""
    model, shape, outputs = MODELS[name]
    params = jax.eval_shape(model.init, jax.random.key(0))
    batch = inputs(shape, batch=6), np.zeros(6, np.int32)
    assert jax.eval_shape(model.predict, params, batch).shape == (6, outputs)
    assert jax.eval_shape(model.loss, params, batch).shape == ()


@each_model
def test_the_loss_is_that_of_the_predictions(name):
    """The loss is the cross-entropy of the predictions, which are of order one at first."""
    model, shape, outputs = MODELS[name]
    batch = inputs(shape), np.arange(4, dtype=np.int32) % outputs

    @jax.jit
    def both(key):
        params = model.init(key)
        return model.loss(params, batch), model.predict(params, batch)

    loss, logits = both(jax.random.key(1))
    share = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(loss, -np.log(share[np.arange(4), batch[1]]).mean(), rtol=1e-5)
    assert 0.1 < np.std(logits) < 10, "fresh weights drown a signal, or blow it up"


@pytest.mark.parametrize("name", OTHERS)
def test_a_prediction_is_shaped_like_what_is_predicted(name):
    """Sequences, images and codes come out in the shapes that the models state."""
    model, batch, shape = OTHERS[name]
    params = jax.eval_shape(model.init, jax.random.key(0))
    assert jax.eval_shape(model.predict, params, batch).shape == shape
    assert jax.eval_shape(model.loss, params, batch).shape == ()


@pytest.mark.parametrize("name", ["cnn, normalised", *OTHERS])
def test_every_array_is_trained(name):
    """The loss pulls at every array of the params."""
    model = model_of(name)
    grads = jax.jit(jax.grad(model.loss))(drawn(model), BATCHES[name])
    norms = jax.tree.map(np.linalg.norm, grads)
    assert jax.tree.all(jax.tree.map(lambda norm: norm > 1e-6, norms)), norms


@each_family
def test_batch_axes_fit_the_batch(name):
    """Where a model names the axes of its batch, it names one for each dimension."""
    axes, batch = model_of(name).batch_axes, BATCHES[name]
    if axes is not None:
        assert jax.tree.map(len, axes, is_leaf=is_axes) == jax.tree.map(np.ndim, batch)


@each_family
def test_the_table_of_axes_fits_the_params(name):
    """Each array of the params has a name for each of its dimensions, and nothing else has."""
    model = model_of(name)
    params = jax.eval_shape(model.init, jax.random.key(0))
    ranks = jax.tree.map(lambda leaf: leaf.ndim, params)
    assert jax.tree.map(len, model.axes, is_leaf=is_axes) == ranks
    assert all(isinstance(each, str) for each in jax.tree.leaves(model.axes))


@pytest.mark.parametrize(
    ("model", "count"),
    [
        # Filters 5 by 5; two poolings leave 7 by 7 of 28 by 28, and 2 by 2 of 8 by 8.
        (
            pdl.models.cnn((28, 28, 1), 10),
            (5 * 5 * 1 * 32 + 32) + (5 * 5 * 32 * 64 + 64) + (7 * 7 * 64 * 10 + 10),
        ),
        (
            pdl.models.cnn((8, 8, 1), 10),
            (5 * 5 * 1 * 32 + 32) + (5 * 5 * 32 * 64 + 64) + (2 * 2 * 64 * 10 + 10),
        ),
        # 62,006, as counts the network of PyTorch's CIFAR-10 tutorial:
        # https://docs.pytorch.org/tutorials/beginner/blitz/cifar10_tutorial.html
        (
            pdl.models.lenet(),
            (3 * 6 * 25 + 6)
            + (6 * 16 * 25 + 16)
            + (16 * 5 * 5 * 120 + 120)
            + (120 * 84 + 84)
            + (84 * 10 + 10),
        ),
        (pdl.models.lenet(), 62_006),
        (
            pdl.models.mlp(64, 10, embed=64, hidden=128, blocks=2),
            (64 * 64 + 64) + 2 * (64 * 128 + 128 + 128 * 64 + 64) + (64 * 10 + 10),
        ),
        (
            pdl.models.mlp(10, 1, embed=4, hidden=6, blocks=3),
            (10 * 4 + 4) + 3 * (4 * 6 + 6 + 6 * 4 + 4) + (4 * 1 + 1),
        ),
    ],
)
def test_how_many_parameters(model, count):
    """The number of parameters is the one that the layers' sizes give by hand."""
    assert size(jax.eval_shape(model.init, jax.random.key(0))) == count


def test_the_mlp_is_its_blocks_one_after_another():
    """Blocks stacked and scanned give what the same blocks give written out in a row."""
    model = pdl.models.mlp(10, 3, embed=8, hidden=16, blocks=4)
    params, batch = model.init(jax.random.key(0)), (inputs((10,), 32), np.arange(32) % 3)
    np.testing.assert_allclose(
        jax.jit(model.loss)(params, batch), by_hand(params, batch), rtol=1e-6
    )


def test_the_gradient_is_the_slope():
    """Along any direction the loss climbs by as much as the gradient says."""
    model = pdl.models.mlp(10, 3, embed=8, hidden=16, blocks=4)
    params, batch = model.init(jax.random.key(0)), (inputs((10,), 32), np.arange(32) % 3)
    grads = jax.jit(jax.grad(model.loss))(params, batch)
    draw, distance = np.random.default_rng(0), 1e-6
    for _ in range(5):
        way = jax.tree.map(lambda leaf: draw.normal(size=leaf.shape), params)
        there, back = (
            by_hand(jax.tree.map(lambda x, w: np.float64(x) + far * w, params, way), batch)  # noqa: B023
            for far in (distance, -distance)
        )
        slope = sum(jax.tree.leaves(jax.tree.map(np.vdot, grads, way)))
        np.testing.assert_allclose(slope, (there - back) / (2 * distance), rtol=1e-3)


def by_hand(params, batch) -> float:
    """Return the loss of an `mlp`, in numpy, with as many digits as the params have."""
    x, labels = batch
    x = np.maximum(x @ params["first"]["w"] + params["first"]["b"], 0)
    up, down = params["blocks"]["up"], params["blocks"]["down"]
    for i in range(len(up["w"])):
        hidden = np.maximum(x @ up["w"][i] + up["b"][i], 0)
        x = x + hidden @ down["w"][i] + down["b"][i]
    logits = x @ params["last"]["w"] + params["last"]["b"]
    share = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return -np.log(share[np.arange(len(labels)), labels]).mean()


@pytest.mark.parametrize("reduce", [jnp.max, jnp.mean])
def test_the_cnn_is_convolution_relu_pooling_then_dense(reduce):
    """The classic network, written out with JAX's own convolution and reduction windows."""
    model = pdl.models.cnn((8, 8, 1), 10, channels=(3, 4), reduce=reduce)
    images, kinds = inputs((8, 8, 1)), ("NHWC", "HWIO", "NHWC")

    @jax.jit
    def both(key):
        params, x = model.init(key), images
        for layer in params["first"]:
            x = lax.conv_general_dilated(x, layer["w"], (1, 1), "SAME", dimension_numbers=kinds)
            x = windows(jnp.maximum(x + layer["b"], 0), 2, reduce)
        (last,) = params["last"]
        plain = x.reshape(4, -1) @ last["w"] + last["b"]
        return model.predict(params, (images, np.zeros(4, np.int32))), plain

    np.testing.assert_allclose(*both(jax.random.key(0)), atol=1e-5)


def test_normalised_by_the_whole_batch():
    """After `batch_norm` each channel has mean 0 and the spread of its scale."""
    x, scale = 5 + 3 * inputs((6, 6, 3), batch=8), np.float32([1, 2, 3])
    y = np.asarray(batch_norm(x, scale, ALONE)).reshape(-1, 3)
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(0), scale, rtol=1e-4)


# --- recurrent networks


def squash(x):
    return 1 / (1 + np.exp(-x))


def elman_by_hand(gates, x, h):
    gate = gates["candidate"]
    return np.tanh(x @ gate["w"] + h @ gate["u"] + gate["b"])


def gru_by_hand(gates, x, h):
    update, reset, new = (gates[name] for name in ("update", "reset", "candidate"))
    z = squash(x @ update["w"] + h @ update["u"] + update["b"])
    r = squash(x @ reset["w"] + h @ reset["u"] + reset["b"])
    return z * h + (1 - z) * np.tanh(x @ new["w"] + (r * h) @ new["u"] + new["b"])


@pytest.mark.parametrize(
    ("make", "cell"), [(pdl.models.rnn, elman_by_hand), (pdl.models.gru, gru_by_hand)]
)
def test_a_state_follows_from_the_one_before(make, cell):
    """A recurrent network is its cell in a loop: over time, and block after block."""
    model, x = make(2, 3, hidden=4, blocks=2), inputs((5, 2))
    params = drawn(model)
    signal = x @ params["first"]["w"] + params["first"]["b"]
    for i in range(2):
        pick = functools.partial(jax.tree.map, lambda leaf, i=i: leaf[i])
        h, states = np.zeros((4, 4)), []
        for t in range(5):
            h = cell(pick(params["blocks"]), signal[:, t], h)
            states.append(h)
        signal = np.stack(states, 1)
    plain, targets = signal @ params["last"]["w"] + params["last"]["b"], inputs((5, 3), seed=1)
    outputs, loss = run(model, params, (x, targets))
    np.testing.assert_allclose(outputs, plain, atol=1e-5)
    np.testing.assert_allclose(loss, np.mean((plain - targets) ** 2), rtol=1e-5)


# --- autoencoders and the GAN


def test_the_convolutional_autoencoder_is_down_and_up():
    """Each convolution down halves an image; each one up first writes every pixel four times."""
    model, images = pdl.models.conv_autoencoder(widths=(3, 2)), inputs((8, 8, 1))
    kinds = ("NHWC", "HWIO", "NHWC")

    def convolve(x, layer, stride):
        steps = (stride, stride)
        x = lax.conv_general_dilated(x, layer["w"], steps, "SAME", dimension_numbers=kinds)
        return x + layer["b"]

    @jax.jit
    def plain(params):
        (wide, code), (back, last) = params["first"], params["last"]
        x = convolve(jax.nn.relu(convolve(images, wide, 2)), code, 2)  # [4, 2, 2, 2]
        x = jax.nn.relu(convolve(jnp.kron(x, jnp.ones((1, 2, 2, 1))), back, 1))
        x = convolve(jnp.kron(x, jnp.ones((1, 2, 2, 1))), last, 1)
        return x, jnp.mean((x - images) ** 2)

    params = drawn(model)
    for here, there in zip(run(model, params, (images,)), plain(params), strict=True):
        np.testing.assert_allclose(here, there, rtol=1e-4, atol=1e-5)


def test_what_a_code_costs():
    """The nats of a drawn code are its divergence from plain noise, found by quadrature."""
    model, x = pdl.models.variational_autoencoder(6, 2), inputs((6,)) ** 2
    params = drawn(model)
    draw = lambda z: model.parts.first(params["first"], (x, jnp.full((4, 2), z)), ALONE)  # noqa: E731
    (mean, nats), (further, _) = jax.jit(draw)(0.0), jax.jit(draw)(1.0)
    spread = further - mean
    plain = np.zeros((4, 2))
    for node, weight in zip(*np.polynomial.hermite_e.hermegauss(5), strict=True):
        code = mean + spread * node
        surprise = -(node**2) / 2 - np.log(spread) + code**2 / 2  # log of q over p
        plain += weight / np.sqrt(2 * np.pi) * surprise
    np.testing.assert_allclose(nats, plain.sum(-1), rtol=1e-4)


def test_the_variational_loss_is_what_it_takes_to_tell():
    """Minus the evidence bound: the pixels' cross-entropy given the code, and its nats."""
    model, noise = pdl.models.variational_autoencoder(6, 2), inputs((2,), seed=1)
    params, x = drawn(model), squash(inputs((6,)))
    _, nats = model.parts.first(params["first"], (x, noise), ALONE)
    outputs, loss = run(model, params, (x, noise))
    share = np.float64(outputs)
    entropy = -(x * np.log(share) + (1 - x) * np.log(1 - share)).sum(-1)
    np.testing.assert_allclose(loss, (entropy + nats).mean(), rtol=1e-4)


def test_one_loss_trains_both_against_each_other():
    """The discriminator goes down its loss; the generator, by reversal, up the same one."""
    model, batch = pdl.models.gan(6, 2, hidden=5), (squash(inputs((6,))), inputs((2,), seed=1))

    def plain(params):  # Goodfellow's value, with its sign turned
        up, down = (params["discriminator"][half] for half in ("up", "down"))
        judge = lambda x: jax.nn.leaky_relu(x @ up["w"] + up["b"]) @ down["w"] + down["b"]  # noqa: E731
        real, made = judge(batch[0]), judge(model.predict(params, batch))
        return -jnp.mean(jnp.log(jax.nn.sigmoid(real)) + jnp.log(1 - jax.nn.sigmoid(made)))

    found = (lambda params: model.loss(params, batch)), plain
    both = jax.jit(lambda params: [jax.value_and_grad(each)(params) for each in found])
    (loss, grads), (value, slopes) = both(drawn(model))
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6)  # noqa: E731
    np.testing.assert_allclose(loss, value, rtol=1e-5)
    jax.tree.map(close, grads["discriminator"], slopes["discriminator"])
    jax.tree.map(lambda a, b: close(-a, b), grads["generator"], slopes["generator"])


# --- language models


def transformer_by_hand(params, tokens):
    """Return the logits of a `transformer` for one sequence, in numpy."""
    norm = lambda x, scale: x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale  # noqa: E731
    length, embed = len(tokens), params["first"]["table"].shape[1]
    x = np.array(params["first"]["table"][tokens], np.float64)
    for place in range(length):
        for i in range(embed // 2):
            angle = place / 10_000 ** (2 * i / embed)
            x[place, i] += np.sin(angle)
            x[place, embed // 2 + i] += np.cos(angle)
    for n in range(len(params["blocks"]["attention"]["qkv"])):
        part, mlp = (
            jax.tree.map(lambda leaf: np.asarray(leaf[n], np.float64), params["blocks"][half])  # noqa: B023
            for half in ("attention", "mlp")
        )
        q, k, v = np.einsum("sd,dthe->tshe", norm(x, part["scale"]), part["qkv"])
        for place in range(length):
            for head, out in enumerate(part["out"]):
                scores = np.exp(k[: place + 1, head] @ q[place, head] / np.sqrt(q.shape[-1]))
                x[place] += scores / scores.sum() @ v[: place + 1, head] @ out
        x += np.asarray(jax.nn.gelu(norm(x, mlp["scale"]) @ mlp["up"])) @ mlp["down"]
    return norm(x, params["last"]["scale"]) @ params["last"]["head"]


def test_the_transformer_by_hand():
    """Embed, then attend and think in each block, then the logits: written out in loops."""
    model, (tokens, targets) = pdl.models.transformer(16, **SMALL), words()
    params = drawn(model)
    plain = np.stack([transformer_by_hand(params, row) for row in tokens])
    logits, loss = run(model, params, (tokens, targets))
    np.testing.assert_allclose(logits, plain, atol=1e-4)
    share = np.exp(plain) / np.exp(plain).sum(-1, keepdims=True)
    losses = [-np.log(share[place][targets[place]]) for place in np.ndindex(4, 8) if targets[place]]
    assert len(losses) < 32
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-5)


def test_heads_share_the_embedding():
    """A width that does not divide among the heads is refused before anything runs."""
    model = pdl.models.transformer(16, embed=10, heads=4)
    message = r"an embedding of 10 .* 4 heads\.\n  why: .*\n  try: embed=8 or 12"
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(model.init, jax.random.key(0))


@pytest.mark.parametrize("name", ["transformer", "moe"])
def test_nobody_reads_ahead(name):
    """Another token changes what is guessed from its place on, and nothing before it."""
    model, (tokens, _), _ = OTHERS[name]
    params, other, predict = drawn(model), tokens.copy(), jax.jit(model.predict)
    other[:, 5] = 1 + tokens[:, 5] % 15
    here, there = (predict(params, (each,)) for each in (tokens, other))
    np.testing.assert_allclose(here[:, :5], there[:, :5], atol=1e-6)
    assert (np.abs(here - there)[:, 5:].max((0, 2)) > 1e-3).all()


def test_the_balance_of_experts():
    """Its loss is experts times the sum of load and share, per token; even load gives `top_k`."""
    batch, heard = words(), []
    plain, weighted = (pdl.models.moe(16, experts=5, balance=w, **SMALL) for w in (0, 0.1))

    def listen(*arguments, **options):
        y, routing = ALONE.experts(*arguments, **options)
        jax.debug.callback(lambda *figures: heard.append(figures), *routing)
        return y, routing

    @jax.jit
    def gap(params):
        layers = ALONE._replace(experts=listen)
        return weighted.loss(params, batch, layers) - plain.loss(params, batch)

    params = drawn(plain)
    extra = float(gap(params))
    jax.effects_barrier()
    by_hand = sum(5 * (load / 32 * (share / 32)).sum() for load, share, _ in heard)
    assert len(heard) == 2
    np.testing.assert_allclose(extra, 0.1 * by_hand, rtol=1e-4)
    assert by_hand > 2 * 2.01  # two blocks, two experts a token
    params["blocks"]["experts"]["gate"] *= 0  # all probabilities equal
    np.testing.assert_allclose(gap(params), 0.1 * 2 * 2, rtol=1e-4)


def test_what_experts_note():
    """Each block tells how many tokens chose each expert, and how many found it full."""
    model, batch, _ = OTHERS["moe, full"]

    @jax.jit
    def notes(params):
        heard = {}
        model.loss(params, batch, ALONE._replace(note=heard.__setitem__))
        return heard

    heard, slots = notes(drawn(model)), np.ceil(0.5 * 2 * 32 / 5)
    assert heard["expert_load"].shape == (2, 5)
    np.testing.assert_array_equal(heard["expert_load"].sum(-1), 2 * 32)
    full = np.maximum(heard["expert_load"] - slots, 0).sum(-1)
    np.testing.assert_array_equal(heard["dropped"], full)
    assert (full > 0).all()


def test_without_balance_only_the_loss_asks_for_a_mean():
    """A balance of 0 costs no message: `layers.mean` is called once, for the tokens."""
    for balance, times in ((0, 1), (0.01, 3)):  # blocks are traced once
        model, asked = pdl.models.moe(16, balance=balance, **SMALL), []
        layers = ALONE._replace(mean=lambda total, weight: asked.append(1) or total / weight)  # noqa: B023
        params = jax.eval_shape(model.init, jax.random.key(0))
        jax.eval_shape(lambda params: model.loss(params, words(), layers), params)  # noqa: B023
        assert len(asked) == times


def test_the_same_key_gives_the_same_params():
    """`init` is a pure function of its key; another key gives other weights."""
    model = pdl.models.mlp(4, 2, embed=4, hidden=4)
    one, same, other = (model.init(jax.random.key(seed)) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, one, same)
    assert not np.array_equal(one["blocks"]["up"]["w"], other["blocks"]["up"]["w"])
    assert not np.array_equal(*one["blocks"]["up"]["w"])  # nor are two blocks alike


# --- parts


def counting():
    """Return a model of three blocks that add one number each, and note what they hold."""
    from pdlkit import Parts

    def block(params, x, layers):
        layers.note("reached", (x + params["add"]).sum())
        return x + params["add"]

    parts = Parts(
        first=lambda params, batch, layers: batch[0],
        block=block,
        last=lambda params, x, batch, layers: jnp.mean(x * params["w"]),
    )
    init = lambda key: {  # noqa: E731
        "first": {},
        "blocks": {"add": jnp.array([1.0, 10.0, 100.0])},
        "last": {"w": jnp.ones(())},
    }
    axes = {"first": {}, "blocks": {"add": ("layers",)}, "last": {"w": ()}}
    return from_parts(parts, lambda params, x, layers: x, init=init, axes=axes)


def test_what_blocks_note_comes_out_stacked():
    """A figure that each block notes is heard once, with one row for each block."""
    model, heard = counting(), {}
    params = model.init(jax.random.key(0))
    model.loss(params, (jnp.zeros(2),), ALONE._replace(note=heard.__setitem__))
    assert list(heard) == ["reached"]
    np.testing.assert_allclose(heard["reached"], [2, 22, 222])


def test_notes_of_blocks_reach_the_record():
    """On a mesh every device hands out its own, `[mesh.size, layers]`."""
    work = pdl.Workload("counting", counting(), optax.sgd(0.1), [(np.arange(4.0, dtype="f"),)])
    program = pdl.DataParallel().build(work.model, work.optimizer, pdl.mesh(data=4))
    _, metrics = program.step(program.init(work.model.init(jax.random.key(0))), work.batch(0))
    np.testing.assert_allclose(
        metrics.notes["reached"], [[i + 1, i + 11, i + 111] for i in range(4)]
    )


def test_layers_block_wraps_each_block():
    """A strategy that replaces `layers.block` is given the block and its axes, less `layers`."""
    given = []

    def twice(apply, axes):
        given.append(axes)
        return lambda params, x: apply(params, apply(params, x)[0])

    params = {"add": jnp.array([1.0, 10.0])}
    x = repeat(
        lambda params, x, layers: x + params["add"],
        params,
        jnp.zeros(()),
        axes={"add": ("layers",)},
        layers=ALONE._replace(block=twice),
    )
    assert x == 22
    assert given == [{"add": ()}]


def test_recording_tells_what_was_called():
    """A strategy learns which operations a model calls from one tracing."""
    model, shape, _ = MODELS["cnn 8x8"]
    found = []
    layers = recording(ALONE, found)
    params = jax.eval_shape(model.init, jax.random.key(0))
    batch = inputs(shape), np.zeros(4, np.int32)
    jax.eval_shape(lambda params: model.loss(params, batch, layers), params)
    assert {call.operation for call in found} == {"conv", "pool", "flatten", "cross_entropy"}


# --- layer operations


def windows(x, size, reduce):
    """Pool by `lax.reduce_window`, the operation made for it."""
    start, combine = (-jnp.inf, lax.max) if reduce is jnp.max else (0.0, lax.add)
    shape = (1, size, size, 1)
    pooled = lax.reduce_window(x, start, combine, shape, shape, "VALID")
    return pooled if reduce is jnp.max else pooled / size**2


@pytest.mark.parametrize("reduce", [jnp.max, jnp.mean])
@pytest.mark.parametrize(("side", "size"), [(8, 2), (9, 2), (9, 3)])
def test_pooling_is_a_reduction_over_windows(reduce, side, size):
    """Pooling is `lax.reduce_window`, forward and backward; what no window fits is left out.

    Away from ties: of equal numbers in a window both are right about another one.
    """
    x = np.random.default_rng(0).permutation(3 * side * side * 2).astype(np.float32)
    x = x.reshape(3, side, side, 2)
    pulled = inputs((side // size, side // size, 2), batch=3)

    @jax.jit
    def both(x):
        pooled, pull = jax.vjp(lambda x: ALONE.pool(x, size, reduce=reduce), x)
        plain, plain_pull = jax.vjp(lambda x: windows(x, size, reduce), x)
        return (pooled, pull(pulled)), (plain, plain_pull(pulled))

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), *both(x))


def test_convolution_by_hand():
    """A convolution is a weighted sum over each pixel's neighbourhood, zeros outside."""
    x, w = inputs((4, 5, 2), batch=2), inputs((3, 2, 3), batch=3, seed=1)
    b = np.array([1.0, 2.0, 3.0], np.float32)
    around = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    plain = np.zeros((2, 4, 5, 3))
    for n, row, column, out in np.ndindex(plain.shape):
        window = around[n, row : row + 3, column : column + 3]
        plain[n, row, column, out] = (window * w[..., out]).sum() + b[out]
    np.testing.assert_allclose(ALONE.conv(x, w, b), plain, atol=1e-5)
    inner = ALONE.conv(x, w, b, padding="VALID")
    np.testing.assert_allclose(inner, plain[:, 1:-1, 1:-1], atol=1e-5)


@pytest.mark.parametrize(
    ("image", "kernel", "stride"),
    [((8, 8), 3, 2), ((5, 7), 3, 2), ((2, 2), 5, 2), ((3, 9), 5, 3)],
)
def test_convolution_in_strides(image, kernel, stride):
    """A stride leaves rows / stride, rounded up; images smaller than the kernel included."""
    x, w = inputs((*image, 2)), inputs((kernel, 2, 3), batch=kernel, seed=1)
    kinds = ("NHWC", "HWIO", "NHWC")
    pulled = inputs((*(-(-side // stride) for side in image), 3), seed=2)

    def plain(x, w):
        steps = (stride, stride)
        return lax.conv_general_dilated(x, w, steps, "SAME", dimension_numbers=kinds)

    found = []
    for operation in (lambda x, w: ALONE.conv(x, w, stride=stride), plain):
        y, pull = jax.vjp(operation, x, w)
        found.append((y, *pull(pulled)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), *found)


def test_flatten_keeps_each_example_together():
    """Row i of the flat array holds the numbers of image i, in order."""
    x = np.arange(24).reshape(2, 2, 3, 2)
    np.testing.assert_array_equal(ALONE.flatten(x), [range(12), range(12, 24)])


@pytest.mark.parametrize("shape", [(7,), (2, 5)])
def test_cross_entropy(shape):
    """The cross-entropy is optax's, for any leading dimensions, with its gradient."""
    draw = np.random.default_rng(0)
    logits = (10 * draw.normal(size=(*shape, 6))).astype(np.float32)
    labels = draw.integers(0, 6, shape)
    plain, found = optax.softmax_cross_entropy_with_integer_labels, []
    for entropy in (ALONE.cross_entropy, plain):
        losses, pull = jax.vjp(jax.jit(lambda x, entropy=entropy: entropy(x, labels)), logits)
        found.append((losses, *pull(jnp.ones_like(losses))))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *found)


def test_a_label_that_is_no_class_gives_nan():
    """A label below 0 or past the last class is NaN, alone among its neighbours."""
    losses = ALONE.cross_entropy(jnp.zeros((4, 3)), jnp.array([-1, 0, 2, 3]))
    np.testing.assert_allclose(losses, [np.nan, np.log(3), np.log(3), np.nan], rtol=1e-6)


@pytest.mark.parametrize("causal", [False, True])
def test_attention(causal):
    """Each query gets the mean of the values, weighted by the softmax of its scores."""
    q, k, v = (inputs((5, 2, 3), batch=2, seed=seed) for seed in range(3))
    plain = np.zeros_like(v)
    for n, i, head in np.ndindex(2, 5, 2):
        last = i + 1 if causal else 5
        scores = np.exp(k[n, :last, head] @ q[n, i, head] / np.sqrt(3))
        plain[n, i, head] = scores / scores.sum() @ v[n, :last, head]
    np.testing.assert_allclose(ALONE.attention(q, k, v, causal=causal), plain, atol=1e-5)


def experts_by_hand(x, gate, up, down, *, top_k, slots):
    """Return what each token gets, and how often an expert was full, in loops."""
    share = np.exp(x @ gate) / np.exp(x @ gate).sum(-1, keepdims=True)
    order = np.argsort(-share, -1, kind="stable")[:, :top_k]
    taken, dropped, y = np.zeros(gate.shape[1], int), 0, np.zeros_like(x)
    for choice in range(top_k):
        for token, expert in enumerate(order[:, choice]):
            if taken[expert] == slots:
                dropped += 1
                continue
            taken[expert] += 1
            weight = share[token, expert]
            if top_k > 1:
                weight /= share[token, order[token]].sum()
            y[token] += weight * np.maximum(x[token] @ up[expert], 0) @ down[expert]
    return y, dropped, np.bincount(order.ravel(), minlength=gate.shape[1]), share.sum(0)


@pytest.mark.parametrize("tokens", [14, 3], ids=["many tokens", "fewer than experts"])
@pytest.mark.parametrize(
    ("top_k", "capacity"), [(1, None), (2, None), (1, 1.0), (2, 0.5), (5, 9.0)]
)
def test_experts(tokens, top_k, capacity):
    """First choices sit first, then earlier tokens; who finds no seat gets nothing there."""
    x = inputs((4,), batch=tokens)
    gate, up = inputs((5,), batch=4, seed=1), inputs((4, 6), batch=5, seed=2)
    down = inputs((6, 4), batch=5, seed=3)
    slots = np.inf if capacity is None else np.ceil(capacity * top_k * tokens / 5)
    plain, dropped, load, share = experts_by_hand(x, gate, up, down, top_k=top_k, slots=slots)
    options = {"top_k": top_k, "capacity": capacity}
    y, routing = jax.jit(functools.partial(ALONE.experts, **options))(x[None], gate, up, down)
    np.testing.assert_allclose(y, plain[None], atol=1e-4)
    np.testing.assert_allclose(routing.share, share, rtol=1e-5)
    np.testing.assert_array_equal(routing.load, load)
    assert routing.dropped == dropped


def test_the_gradient_of_experts_is_the_slope():
    """Through seats and gates too: along any direction outputs change as the gradient says."""
    given = (
        inputs((4,), batch=14),
        inputs((5,), batch=4, seed=1),
        inputs((4, 6), batch=5, seed=2),
        inputs((6, 4), batch=5, seed=3),
    )
    pulled, draw = inputs((4,), batch=14, seed=4), np.random.default_rng(0)
    experts = functools.partial(ALONE.experts, top_k=2, capacity=0.5)
    grads = jax.jit(lambda *given: jax.vjp(lambda *g: experts(*g)[0], *given)[1](pulled))(*given)

    def along(ways, far):
        moved = (np.float64(array) + far * way for array, way in zip(given, ways, strict=True))
        y, dropped, *_ = experts_by_hand(*moved, top_k=2, slots=np.ceil(0.5 * 2 * 14 / 5))
        assert dropped > 0
        return (y * pulled).sum()

    for _ in range(5):
        ways = [draw.normal(size=array.shape) for array in given]
        slope = sum(np.vdot(grad, way) for grad, way in zip(grads, ways, strict=True))
        plain = (along(ways, 1e-6) - along(ways, -1e-6)) / 2e-6
        np.testing.assert_allclose(slope, plain, rtol=1e-3)


def test_norm():
    """After `norm` the root mean square of a token is its scale, whatever it was."""
    x = 100 * inputs((3, 8))
    plain = x / np.sqrt((x**2).mean(-1, keepdims=True)) * np.arange(8)
    np.testing.assert_allclose(ALONE.norm(x, np.arange(8)), plain, rtol=1e-5)


def test_up_and_down_are_affine():
    """Into and out of a block's hidden axis: a product, and a bias where there is one."""
    x, w, b = inputs((3, 4)), inputs((6,), batch=4, seed=1), inputs((), batch=6)
    for operation in (ALONE.up, ALONE.down):
        np.testing.assert_allclose(operation(x, w, b), np.dot(x, w) + b, atol=1e-5)
        np.testing.assert_allclose(operation(x, w), np.dot(x, w), atol=1e-5)


def test_up_and_down_through_several_axes():
    """A hidden axis may be several, such as heads and their size: they come and go together."""
    x, w = inputs((3, 4)), inputs((2, 5), batch=4, seed=1)
    hidden = ALONE.up(x, w, inputs((5,), batch=2))
    np.testing.assert_allclose(
        hidden, np.einsum("bsd,dhe->bshe", x, w) + inputs((5,), batch=2), atol=1e-5
    )
    back = inputs((5, 4), batch=2, seed=2)
    plain = np.einsum("bshe,hed->bsd", hidden, back) + 1
    np.testing.assert_allclose(ALONE.down(hidden, back, np.ones(4)), plain, atol=1e-4)


def test_the_small_ones():
    """Embedding looks rows up, positions count from 0, a mean is a sum over its weight."""
    table = inputs((3,), batch=5)
    np.testing.assert_array_equal(ALONE.embed(np.array([[4, 0]]), table), table[None, [4, 0]])
    np.testing.assert_array_equal(ALONE.positions(4), [0, 1, 2, 3])
    assert ALONE.mean(6.0, 4.0) == 1.5
    assert ALONE.note("anything", 1) is None


# --- what does not fit


def loss_of(model, *batch):
    return jax.eval_shape(lambda key: model.loss(model.init(key), batch), jax.random.key(0))


MISTAKES = {
    "labels in a column": (
        lambda: loss_of(pdl.models.mlp(3, 2), np.ones((4, 3)), np.ones((4, 1), int)),
        r"labels of shape \[4, 1\] do not go with outputs of shape \[4, 2\]",
    ),
    "one-hot labels": (
        lambda: loss_of(pdl.models.cnn(classes=2), np.ones((4, 8, 8, 1)), np.ones((4, 2))),
        r"labels of shape \[4, 2\] do not go with outputs of shape \[4, 2\]",
    ),
    "targets in a row": (
        lambda: loss_of(pdl.models.mlp(3, 1, head=pdl.models.regress), np.ones((4, 3)), np.ones(4)),
        r"targets of shape \[4\] do not go with outputs of shape \[4, 1\].*\n.*\n.*y\[:, None\]",
    ),
    "nothing left of an image": (
        lambda: pdl.models.cnn((8, 8, 1), channels=(8, 16, 32, 64)),
        r"8 x 8 pixels has none left after 4 of 4 convolutions",
    ),
    "less than nothing": (
        lambda: pdl.models.cnn((8, 8, 1), padding="valid"),
        r'8 x 8 .* after 2 of 2 .*\n.*with padding="VALID" each takes 4 rows',
    ),
    "sides that do not halve": (
        lambda: loss_of(pdl.models.conv_autoencoder(), np.ones((4, 10, 8, 1))),
        r"shape \[4, 10, 8, 1\] come back as \[4, 12, 8, 1\].*\n.*\n.*multiples of 4",
    ),
    "more than all experts": (
        lambda: loss_of(pdl.models.moe(experts=4, top_k=8), *words()),
        r"cannot go through top_k=8 of 4 experts",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_does_not_fit_is_explained(mistake):
    """Shapes that NumPy would broadcast, and sizes that leave nothing, are no models."""
    make, says = MISTAKES[mistake]
    with pytest.raises(ValueError, match=says):
        make()
