"""Models: shapes, sizes, and each layer operation against a plain thing."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import pdlkit as pdl
from pdlkit.models.layers import ALONE, recording
from pdlkit.models.parts import from_parts, is_axes, repeat

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
    "lenet": (pdl.models.lenet(), (32, 32, 3), 10),
}
each_model = pytest.mark.parametrize("name", MODELS)


def inputs(shape, batch=4, seed=0):
    return np.random.default_rng(seed).normal(size=(batch, *shape)).astype(np.float32)


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


@each_model
def test_the_table_of_axes_fits_the_params(name):
    """Each array of the params has a name for each of its dimensions, and nothing else has."""
    model, *_ = MODELS[name]
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
    layers, called = recording(ALONE)
    params = jax.eval_shape(model.init, jax.random.key(0))
    batch = inputs(shape), np.zeros(4, np.int32)
    jax.eval_shape(lambda params: model.loss(params, batch, layers), params)
    assert called == {"conv", "pool", "flatten", "cross_entropy"}


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


def test_experts():
    """Each token goes through the expert its gate likes best, times the gate's share."""
    x, gate = inputs((3, 4), batch=2), inputs((5,), batch=4, seed=1)
    up, down = inputs((4, 6), batch=5, seed=2), inputs((6, 4), batch=5, seed=3)
    plain, chosen = np.zeros_like(x), set()
    for place in np.ndindex(2, 3):
        share = np.exp(x[place] @ gate)
        best = int(share.argmax())
        hidden = np.maximum(x[place] @ up[best], 0)
        plain[place] = hidden @ down[best] * share[best] / share.sum()
        chosen.add(best)
    assert len(chosen) > 1
    np.testing.assert_allclose(ALONE.experts(x, gate, up, down), plain, atol=1e-4)


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


def test_the_small_ones():
    """Embedding looks rows up, positions count from 0, a mean is a sum over its weight."""
    table = inputs((3,), batch=5)
    np.testing.assert_array_equal(ALONE.embed(np.array([[4, 0]]), table), table[None, [4, 0]])
    np.testing.assert_array_equal(ALONE.positions(4), [0, 1, 2, 3])
    assert ALONE.mean(6.0, 4.0) == 1.5
    assert ALONE.note("anything", 1) is None
