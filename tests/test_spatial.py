"""Spatial parallelism: slabs of an image, and the rows that lie past their edges."""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import plain
import pytest
from test_law import OPTIMIZERS, STEPS, assert_close, run

import pdlkit as pdl
from pdlkit.measure.jaxpr import asked
from pdlkit.models.layers import ALONE
from pdlkit.models.parts import param_shapes
from pdlkit.strategies.spatial import SpatialParallel

SGD = optax.sgd(0.1)
BOTH = pdl.DataParallel() | SpatialParallel()


def of_images(rows, model, *labels):
    """Return a workload of 8 images a batch, [8, rows, 8, 2] of noise."""
    images = np.random.default_rng(0).normal(size=(32, rows, 8, 2)).astype(np.float32)
    given = (images, *(np.arange(32, dtype=np.int32) % count for count in labels))
    return pdl.Workload("images", model, SGD, pdl.batches(*given, size=8))


def pooled(rows=16, **options):
    """Return a workload of the classic CNN: two 5x5 convolutions, each pooled."""
    return of_images(rows, pdl.models.cnn((rows, 8, 2), 3, channels=(4, 4), **options), 3)


def strided(rows=8, *, kernel=(3, 3), stride=2, padding="SAME"):
    """Return a workload of two strided convolutions whose outputs are to be small."""

    def init(key):
        return {"w": 0.3 * jax.random.normal(key, (2, *kernel, 2, 2)), "b": jnp.zeros((2, 2))}

    def loss(params, batch, layers=ALONE):
        x = batch[0]
        for w, b in zip(params["w"], params["b"], strict=True):
            x = jnp.tanh(layers.conv(x, w, b, padding=padding, stride=stride))
        return jnp.mean(x**2)

    axes = {"w": (None,) * 5, "b": (None, None)}
    rows_named = (("batch", "rows", None, None),)
    return of_images(rows, pdl.Model(init, loss, axes, batch_axes=rows_named))


WORK = {
    "pooled": pooled,
    "statistics": functools.partial(pooled, reduce=jnp.mean, normalise=True),
    "strided": strided,
    "even kernel": functools.partial(strided, kernel=(4, 2), stride=1),
    "a kernel below its stride": functools.partial(strided, kernel=(1, 1), padding="VALID"),
    "slabs of one row": functools.partial(strided, rows=4, kernel=(5, 1), stride=1),
    "an autoencoder": lambda: of_images(16, pdl.models.conv_autoencoder(2, widths=(4, 2))),
}
CASES = {  # name: strategy, mesh, workload
    "rows 4": (SpatialParallel(), {"rows": 4}, "pooled"),
    "rows 1": (SpatialParallel(), {"rows": 1}, "pooled"),
    "rows 2, statistics": (SpatialParallel(), {"rows": 2}, "statistics"),
    "on another axis": (SpatialParallel(axis="data"), {"data": 2}, "strided"),
    "data 2 | rows 4": (BOTH, {"data": 2, "rows": 4}, "pooled"),
    "data 2 | rows 2": (BOTH, {"data": 2, "rows": 2}, "a kernel below its stride"),
    "even kernel on rows 8": (SpatialParallel(), {"rows": 8}, "even kernel"),
    "several hops": (SpatialParallel(), {"rows": 4}, "slabs of one row"),
    "rows 4, up again": (SpatialParallel(), {"rows": 4}, "an autoencoder"),
    "automatic rows 4": (pdl.Automatic(SpatialParallel()), {"rows": 4}, "pooled"),
}
each_case = pytest.mark.parametrize("case", CASES)


@functools.cache
def alone(name, optimizer="sgd"):
    """Return what one device makes of a workload in five steps: params and losses."""
    work, transform = WORK[name](), OPTIMIZERS[optimizer][0]
    start = work.model.init(jax.random.key(0))
    return plain.train(work.model.loss, transform, start, [work.batch(k) for k in range(STEPS)])


@each_case
def test_the_weights_of_one_device(case):
    """Five steps leave the weights and losses of five steps on one device."""
    strategy, axes, name = CASES[case]
    params, losses = alone(name)
    here, seen = run(strategy, axes, WORK[name](), SGD)
    assert_close(here, params, 1e-6)
    np.testing.assert_allclose([metrics.loss for metrics in seen], losses, rtol=1e-5)


@pytest.mark.parametrize("optimizer", ["clipped", "lamb", "adafactor"])
def test_optimizers_that_look_across_arrays(optimizer):
    """They see whole weights, as all slabs do."""
    transform, tolerance = OPTIMIZERS[optimizer]
    here, _ = run(SpatialParallel(), {"rows": 2}, WORK["strided"](), transform)
    assert_close(here, alone("strided", optimizer)[0], tolerance)


# What the compiler finds is not said, nor what statistics of the batch send going back.
@pytest.mark.parametrize("case", sorted(CASES.keys() - {"automatic rows 4", "rows 2, statistics"}))
def test_moves_as_it_says(case):
    """What is said is what the trace asks for, message by message."""
    strategy, axes, name = CASES[case]
    work, mesh = WORK[name](), pdl.mesh(**axes)
    said = strategy.moves(work.model, mesh)
    assert counted(said) == counted(asks(strategy, work, mesh))


@pytest.mark.parametrize("data", [1, 2])
def test_halos_are_the_closed_form(data):
    """Rows above and below, times what is in a row; twice, but for the images' own.

    Two devices have one link between them: what one sends up, the other sends down.
    """
    for rows, links in ((4, 2), (2, 1)):
        mesh = pdl.mesh(data=data, rows=rows)
        moves = BOTH.moves(pooled(16).model, mesh)
        sent = collections.Counter()
        for each in moves:
            sent[each.kind] += each.payload_bytes * each.times
        images = 8 // data
        assert sent["permute"] == links * 2 * (8 * 2 + 2 * 4 * 4) * images * 4
        assert sent["all_gather"] * rows == sent["reduce_scatter"] == 4 * 2 * 4 * images * 4


def test_the_strategy_asks_for_its_rows():
    """A report names the line of the strategy, not the one deep in a library of hops."""
    strategy, axes, name = CASES["rows 4"]
    sent = asks(strategy, WORK[name](), pdl.mesh(**axes))
    permutes = {each.source for each in sent if each.kind == "permute"}
    assert {line.split(":")[0] for line in permutes} == {"pdlkit/strategies/spatial.py"}


def test_compiled_bytes():
    """What is compiled sends the bytes that were asked for."""
    work, strategy = pooled(16), SpatialParallel()
    report = pdl.inspect(strategy.build(work.model, SGD, pdl.mesh(rows=4)), work)
    asked_for = sum(each.wire_bytes * each.times for each in report.asked)
    assert abs(report.wire_bytes - asked_for) <= len(report.collectives)


def test_each_device_shows_its_own_loss():
    """The loss over pixels is that of a slab; of a class, that of the whole images."""
    strategy, axes, name = CASES["rows 4, up again"]
    work = WORK[name]()
    (images,), start = work.batch(0), work.model.init(jax.random.key(0))
    off = (work.model.predict(start, (images,)) - images) ** 2
    _, (metrics,) = run(strategy, axes, work, SGD, steps=1)
    slabs = off.reshape(8, 4, -1).mean((0, 2))
    np.testing.assert_allclose(metrics.device_loss, slabs, rtol=1e-5)
    _, (metrics, *_) = run(*CASES["rows 4"][:2], pooled(), SGD, steps=1)
    np.testing.assert_allclose(metrics.device_loss, np.full(4, alone("pooled")[1][0]), rtol=1e-5)


def asks(strategy, work, mesh):
    """Return what the traced step asks for, nothing compiled."""
    program = strategy.build(work.model, SGD, mesh)
    state = jax.eval_shape(program.init, param_shapes(work.model))
    return asked(jax.make_jaxpr(program.step)(state, work.batch(0)))


def counted(moves):
    """Return how often each message is sent."""
    return collections.Counter(each._replace(source="") for each in moves)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (
            lambda: (pooled(8), 4),
            r"pooling 2 rows into one meets slabs of 1: 4 rows on rows=4\.\n"
            r"  why: slabs stay .* 2 rows\.\n"
            r"  try: rows=2 or fewer, or images at least 2 times as high\.",
        ),
        (
            lambda: (strided(12), 4),
            r"a stride of 2 meets slabs of 3: 12 rows on rows=4\.\n.*\n"
            r"  try: rows=3 or fewer, or images at least 2",
        ),
        (
            lambda: (strided(15, stride=3), 5),
            r"a stride of 3 meets slabs of 1: 5 rows on rows=5\.\n.*\n"
            r"  try: rows=1, or images at least 3",
        ),
        (
            lambda: (strided(stride=1, padding="VALID"), 2),
            r"puts 0 rows round an image, where a kernel of 3 rows in strides of 1 wants 2\.\n"
            r'  why: .* no row\.\n  try: padding="SAME"\.',
        ),
        (lambda: (pooled(16), 3), r"a `rows` of 16 does not divide among rows=3\.\n  why: "),
        (
            lambda: (pdl.workloads.digits_mlp(), 4),
            r"cuts batches along `rows`, but this model's have `batch`\.\n  why: ",
        ),
    ],
)
def test_what_cannot_be_is_explained(wrong, says):
    """Slabs that a layer would leave uneven are said before anything is run."""
    work, rows = wrong()
    with pytest.raises(ValueError, match=says):
        run(SpatialParallel(), {"rows": rows}, work, SGD, steps=1)
