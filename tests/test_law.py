"""The law: a program leaves the weights of one device, and sends what it says.

One table of cases; a new strategy joins it, and with it every law here.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import plain
import pytest
from counting import counted, inspected, wire
from stand_ins import Tensor
from words import words

import pdlkit as pdl
from pdlkit.models.layers import ALONE


@dataclasses.dataclass(frozen=True)
class Own(pdl.Spmd):
    """Say how gradients come about, as a pipeline does, but say the usual."""

    def gradients(self, model, layers, mesh):
        return super().gradients(model, layers, mesh)


DATA, DATA_TENSOR = pdl.DataParallel(), pdl.DataParallel() | pdl.TensorParallel()
BOTH = pdl.DataParallel() | Tensor()
CASES = {  # name: strategy, mesh
    "one": (pdl.OneDevice(), {"data": 1}),
    "data 2": (pdl.DataParallel(), {"data": 2}),
    "data 8": (pdl.DataParallel(), {"data": 8}),
    "data 4, others idle": (pdl.DataParallel(), {"data": 4, "model": 2}),
    "data on another axis": (pdl.DataParallel(axis="model"), {"data": 2, "model": 4}),
    "pmap 8": (pdl.PmapDataParallel(), {"data": 8}),
    "pmap 2": (pdl.PmapDataParallel(), {"data": 2}),
    "automatic data 8": (pdl.Automatic(), {"data": 8}),
    "automatic data 2, others idle": (pdl.Automatic(), {"data": 2, "model": 2}),
    "tensor 4": (Tensor(), {"model": 4}),
    "data 2 | tensor 4": (BOTH, {"data": 2, "model": 4}),
    "tensor 2 | data 4": (Tensor() | pdl.DataParallel(), {"model": 2, "data": 4}),
    "own gradients | data 8": (Own() | pdl.DataParallel(), {"data": 8}),
    "automatic data 2 | tensor 4": (pdl.Automatic(BOTH), {"data": 2, "model": 4}),
    "accumulating 4 | data 4": (pdl.DataParallel(accumulate=4), {"data": 4}),
    "zero 1": (pdl.ZeRO(stage=1), {"data": 8}),
    "zero 2, accumulating": (pdl.ZeRO(stage=2, accumulate=2), {"data": 4}),
    "zero 3": (pdl.ZeRO(stage=3), {"data": 8}),
    "fully sharded": (pdl.FullySharded(), {"data": 8}),
    "automatic zero 3": (pdl.Automatic(pdl.ZeRO(stage=3)), {"data": 8}),
    "hierarchical": (pdl.ZeRO() | pdl.DataParallel(axis="node"), {"node": 2, "data": 4}),
    "fully sharded | tensor": (
        pdl.FullySharded() | pdl.TensorParallel(),
        {"data": 4, "model": 2},
    ),
}
WORDS = {  # on a language model
    "tensor": (pdl.TensorParallel(), {"model": 4}),
    "tensor, vocabulary": (pdl.TensorParallel(vocabulary=True), {"model": 2}),
    "tensor, sequence": (DATA | pdl.TensorParallel(sequence=True), {"data": 2, "model": 4}),
    "automatic data | tensor": (pdl.Automatic(DATA_TENSOR), {"data": 2, "model": 4}),
    "ring": (pdl.RingAttention(), {"seq": 8}),
    "zigzag": (DATA | pdl.RingAttention(zigzag=True), {"data": 2, "seq": 4}),
    "ulysses": (pdl.Ulysses(), {"seq": 4}),
    "automatic ring": (pdl.Automatic(pdl.RingAttention()), {"seq": 4}),
    "data | tensor | ring": (
        DATA_TENSOR | pdl.RingAttention(),
        {"data": 2, "model": 2, "seq": 2},
    ),
    "data | ulysses | pipeline": (
        DATA | pdl.Ulysses() | pdl.Pipeline(microbatches=4),
        {"data": 2, "seq": 2, "stage": 2},
    ),
    "zero | tensor | pipeline": (
        pdl.ZeRO() | pdl.TensorParallel() | pdl.Pipeline(microbatches=4),
        {"data": 2, "model": 2, "stage": 2},
    ),
    "data | tensor | ulysses | pipeline": (
        DATA_TENSOR | pdl.Ulysses() | pdl.Pipeline(pdl.schedules.gpipe, microbatches=2),
        {"data": 1, "model": 2, "seq": 2, "stage": 2},
    ),
}
# SGD, not Adam: Adam divides out a gradient that is n times too large.
OPTIMIZERS = {
    "sgd": (optax.sgd(0.1), 1e-6),
    "clipped": (optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(1.0)), 1e-6),
    "lamb": (optax.lamb(0.01), 2e-5),
    "adafactor": (optax.adafactor(0.01), 1e-6),
}
STEPS = 5
each_case = pytest.mark.parametrize("case", CASES)
each_family = pytest.mark.parametrize(
    "case",
    [
        "data 8",
        "pmap 2",
        "automatic data 8",
        "data 2 | tensor 4",
        "automatic data 2 | tensor 4",
        "zero 1",
        "zero 3",
        "fully sharded | tensor",
    ],
)
each_mean = pytest.mark.parametrize(
    "case", ["data 8", "pmap 2", "automatic data 8", "data 2 | tensor 4", "own gradients | data 8"]
)


@functools.cache
def alone(optimizer, steps=STEPS, given=pdl.workloads.digits_mlp):
    """Return what one device makes of a workload: params and losses."""
    work = given()
    batches = [work.batch(k) for k in range(steps)]
    start = work.model.init(jax.random.key(0))
    return plain.train(work.model.loss, OPTIMIZERS[optimizer][0], start, batches)


def run(strategy, axes, work, optimizer, steps=STEPS):
    """Return the params and metrics after some steps from fixed params."""
    program = strategy.build(work.model, optimizer, pdl.mesh(**axes))
    state, seen = program.init(work.model.init(jax.random.key(0))), []
    for k in range(steps):
        state, metrics = program.step(state, work.batch(k))
        seen.append(jax.device_get(metrics))
    return program.gather(state), seen


def agrees_on_one_step(case, digits, loss):
    """Check that one step with another loss is one device's; return its metrics."""
    work = dataclasses.replace(digits, model=digits.model._replace(loss=loss))
    start = work.model.init(jax.random.key(0))
    params, (whole,) = plain.train(loss, optax.sgd(0.1), start, [work.batch(0)])
    here, (metrics,) = run(*CASES[case], work, optax.sgd(0.1), steps=1)
    assert_close(here, params, 1e-6)
    np.testing.assert_allclose(metrics.loss, whole, rtol=1e-5)
    return metrics


def assert_close(tree, other, atol):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol, rtol=0), tree, other)


@each_case
def test_same_weights_as_one_device(case, digits):
    """Five steps leave the weights and losses of five steps on one device."""
    params, losses = alone("sgd")
    here, seen = run(*CASES[case], digits, OPTIMIZERS["sgd"][0])
    assert_close(here, params, 1e-6)
    np.testing.assert_allclose([metrics.loss for metrics in seen], losses, rtol=1e-5)


@pytest.mark.parametrize("case", WORDS)
def test_same_weights_on_words(case):
    """So they do on sequences of tokens, masked unevenly, whatever is cut."""
    params, losses = alone("sgd", STEPS, words)
    here, seen = run(*WORDS[case], words(), OPTIMIZERS["sgd"][0])
    assert_close(here, params, 1e-6)
    np.testing.assert_allclose([metrics.loss for metrics in seen], losses, rtol=1e-5)


@pytest.mark.parametrize("case", [case for case in WORDS if "automatic" not in case])
def test_moves_on_words(case):
    """And every byte of it is in `moves`, of weights, activations and weighted means."""
    report, said = inspected(*WORDS[case], words(), optax.sgd(0.1))
    staged = "pipeline" in case  # of a mean taken in a stage's loop, one sum falls away
    assert counted(m for m in report.asked if not staged or m.payload_bytes > 4) == counted(
        m for m in said if not staged or m.payload_bytes > 4
    )
    if not staged:  # XLA moves sums out of a stage's loop, and then each tick runs them
        assert report.wire_bytes <= wire(report.asked)


@pytest.mark.parametrize("case", [*CASES, *WORDS])
def test_keeps_as_much_as_its_shards(case, digits):
    """What the compiled step is given is what the state's shards hold, and the batch's."""
    (strategy, axes), work = {**CASES, **WORDS}[case], words() if case in WORDS else digits
    program = strategy.build(work.model, optax.adam(1e-3), pdl.mesh(**axes))
    held = [
        leaf.addressable_shards[0].data.nbytes
        for leaf in jax.tree.leaves(program.init(work.model.init(jax.random.key(0))))
    ]
    batch = [
        leaf.addressable_shards[0].data.nbytes
        for leaf in jax.tree.leaves(jax.tree.map(jnp.asarray, program.place(work.batch(0))))
    ]
    assert pdl.inspect(program, work).memory.arguments <= sum(held) + sum(batch)


@pytest.mark.parametrize("optimizer", ["clipped", "lamb", "adafactor"])
@each_family
def test_optimizers_that_look_across_arrays(case, optimizer, digits):
    """Clipping by the global norm, LAMB and Adafactor see what one device's would."""
    transform, tolerance = OPTIMIZERS[optimizer]
    if optimizer == "clipped":  # the clip must bite, or the test shows nothing
        start = digits.model.init(jax.random.key(0))
        assert optax.tree_utils.tree_norm(jax.grad(digits.model.loss)(start, digits.batch(0))) > 0.2
    here, _ = run(*CASES[case], digits, transform)
    assert_close(here, alone(optimizer)[0], tolerance)


@pytest.mark.parametrize("optimizer", ["clipped", "lamb", "adafactor"])
@pytest.mark.parametrize("case", ["tensor, vocabulary", "zigzag", "zero | tensor | pipeline"])
def test_optimizers_that_look_across_arrays_on_words(case, optimizer):
    """So they do where layers, sequences and stages are cut."""
    transform, tolerance = OPTIMIZERS[optimizer]
    here, _ = run(*WORDS[case], words(), transform)
    assert_close(here, alone(optimizer, STEPS, words)[0], tolerance)


def test_adam_too(digits):
    """Adam as well ends where one device ends, to the digits that it leaves alone."""
    transform = optax.adam(1e-3)
    start = digits.model.init(jax.random.key(0))
    params, _ = plain.train(digits.model.loss, transform, start, [digits.batch(0)])
    here, _ = run(pdl.DataParallel(), {"data": 8}, digits, transform, steps=1)
    assert_close(here, params, 1e-4)


@pytest.mark.parametrize("name", ["digits_cnn", "diabetes_mlp"])
@pytest.mark.parametrize(
    "strategy", [pdl.DataParallel(), pdl.PmapDataParallel(), pdl.Automatic()], ids=str
)
def test_every_workload(strategy, name):
    """The law holds for images and for regression as it does for the digits."""
    work, transform = getattr(pdl.workloads, name)(), optax.sgd(0.05)
    batches = [work.batch(k) for k in range(2)]
    start = work.model.init(jax.random.key(0))
    params, _ = plain.train(work.model.loss, transform, start, batches)
    here, _ = run(strategy, {"data": 8}, work, transform, steps=2)
    assert_close(here, params, 2e-6)


@pytest.mark.parametrize("case", ["data 8", "pmap 8", "automatic data 8", "data 2 | tensor 4"])
def test_each_device_shows_its_own_loss(case, digits):
    """The loss of a device is the model's loss on its slice, and their mean is the whole."""
    strategy, axes = CASES[case]
    _, (metrics,) = run(strategy, axes, digits, optax.sgd(0.1), steps=1)
    start = digits.model.init(jax.random.key(0))
    slices = jax.tree.map(lambda x: np.split(x, axes["data"]), digits.batch(0))
    own = [float(digits.model.loss(start, share)) for share in zip(*slices, strict=True)]
    replicas = len(metrics.device_loss) // axes["data"]
    np.testing.assert_allclose(metrics.device_loss, np.repeat(own, replicas), rtol=1e-5)
    np.testing.assert_allclose(metrics.loss, np.mean(own), rtol=1e-6)


@each_mean
def test_a_masked_loss_goes_through_mean(case, digits):
    """A loss over part of the examples is right where it says so by `layers.mean`."""

    def masked(params, batch, layers=ALONE):
        held = (batch[1] % 3 != 0).astype(jnp.float32)  # shares hold 5 to 13 of 16
        losses = layers.cross_entropy(digits.model.predict(params, batch, layers), batch[1])
        layers.note("held", held.sum())
        return layers.mean((held * losses).sum(), held.sum())

    metrics = agrees_on_one_step(case, digits, masked)
    assert len(metrics.notes["held"]) == len(metrics.device_loss)
    ways, start = CASES[case][1]["data"], digits.model.init(jax.random.key(0))
    shares = zip(*jax.tree.map(lambda x: np.split(x, ways), digits.batch(0)), strict=True)
    own = np.array([float(masked(start, share)) for share in shares])
    replicas = len(metrics.device_loss) // len(own)
    np.testing.assert_allclose(metrics.device_loss, np.repeat(own, replicas), rtol=1e-5)


@each_mean
def test_a_mean_beside_a_plain_loss(case, digits):
    """A balance term through `layers.mean` may stand beside a plain mean over examples."""

    def balanced(params, batch, layers=ALONE):
        logits = digits.model.predict(params, batch, layers)
        held = (batch[1] % 3 != 0).astype(jnp.float32)  # shares of other weights
        even = layers.mean((held * jax.nn.softmax(logits)[:, 0]).sum(), held.sum())
        return jnp.mean(layers.cross_entropy(logits, batch[1])) + 10 * even

    agrees_on_one_step(case, digits, balanced)


@each_mean
def test_statistics_of_the_whole_batch(case, digits):
    """Batch statistics through `layers.mean` are those of the batch, not of a share."""

    def standardised(params, batch, layers=ALONE):
        x, y = batch
        count = jnp.asarray(len(x), jnp.float32)
        mean = layers.mean(x.sum(0), count)
        spread = layers.mean(((x - mean[None]) ** 2).sum(0), count)
        scaled = (x - mean[None]) / jnp.sqrt(spread + 0.1)[None]
        losses = layers.cross_entropy(digits.model.predict(params, (scaled, y), layers), y)
        return jnp.sqrt(layers.mean(losses.sum(), count))

    agrees_on_one_step(case, digits, standardised)


@each_family
def test_the_check_agrees(case, digits):
    """What lessons end in, `check.same_update`, passes for each of them."""
    strategy, axes = CASES[case]
    program = strategy.build(digits.model, digits.optimizer, pdl.mesh(**axes))
    assert "same updates" in str(pdl.check.same_update(program, digits))


@pytest.mark.parametrize(
    "case",
    [
        "data 2",
        "data 8",
        "data 4, others idle",
        "pmap 8",
        "accumulating 4 | data 4",
        "zero 2, accumulating",
        "hierarchical",
        "fully sharded | tensor",
    ],
)
def test_moves_as_it_says(case, digits):
    """What a strategy says it moves is what the trace asks for, array by array."""
    report, said = inspected(*CASES[case], digits, optax.sgd(0.1))
    assert counted(report.asked) == counted(said)


@pytest.mark.parametrize(
    "case", ["data 2", "data 8", "data 4, others idle", "pmap 8", "automatic data 8"]
)
def test_the_compiled_bytes_are_those_of_the_weights(case, digits):
    """Data parallelism sends 2 (n - 1) / n of the weights' bytes, and no byte more."""
    strategy, axes = CASES[case]
    program = strategy.build(digits.model, optax.sgd(0.1), pdl.mesh(**axes))
    report, n = pdl.inspect(program, digits), axes["data"]
    weights = 4 * sum(x.size for x in jax.tree.leaves(digits.model.init(jax.random.key(0))))
    assert {each.kind for each in report.collectives} == {"all_reduce"}
    assert sum(each.payload_bytes * each.times for each in report.collectives) == weights
    assert abs(report.wire_bytes - 2 * (n - 1) / n * weights) <= len(report.collectives)
