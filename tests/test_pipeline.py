"""A pipeline leaves one device's weights, whatever the schedule, and holds what it must."""

import collections
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import plain
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr
from stand_ins import Tensor
from test_law import STEPS

import pdlkit as pdl
from pdlkit import schedules
from pdlkit.measure.jaxpr import asked
from pdlkit.models.layers import ALONE
from pdlkit.strategies.pipeline import Pipeline
from pdlkit.strategies.pipeline.plan import plan
from pdlkit.strategies.pipeline.splitting import split

DATA = pdl.DataParallel()
SGD = optax.sgd(0.1)
CASES = {  # name: strategy, mesh
    "gpipe, 2": (Pipeline(schedules.gpipe, microbatches=2), {"stage": 2}),
    "1f1b": (Pipeline(), {"stage": 4}),
    "interleaved": (Pipeline(schedules.interleaved), {"stage": 4}),
    "zb-h2, 16": (Pipeline(schedules.zero_bubble_h2, microbatches=16), {"stage": 8}),
    "zb-v on one": (Pipeline(schedules.zero_bubble_v, microbatches=2), {"stage": 1}),
    "1f1b on one": (Pipeline(microbatches=2), {"stage": 1}),
    "zb-v | data": (DATA | Pipeline(schedules.zero_bubble_v), {"stage": 4, "data": 2}),
    "zb-h1 | tensor": (Pipeline(schedules.zero_bubble_h1) | Tensor(), {"stage": 4, "model": 2}),
    "all three": (
        DATA | Tensor() | Pipeline(schedules.interleaved(2, 4)),
        {"data": 2, "model": 2, "stage": 2},
    ),
}
OPTIMIZERS = {
    "sgd": (SGD, 1e-6),
    "clipped": (optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(1.0)), 1e-6),
    "lamb": (optax.lamb(0.01), 2e-5),
}


def deep(head=pdl.models.classify):
    """Return digits and a narrow MLP of eight blocks."""
    model = pdl.models.mlp(64, 10, embed=16, hidden=24, blocks=8, head=head)
    return pdl.Workload("deep", model, SGD, pdl.workloads.digits_mlp().batches)


@pytest.fixture(scope="module")
def work():
    return deep()


def start(work):
    return jax.device_get(work.model.init(jax.random.key(0)))


def run(strategy, axes, work, optimizer=SGD, steps=1):
    """Return the params and metrics after some steps from fixed params."""
    program = strategy.build(work.model, optimizer, pdl.mesh(**axes))
    state, seen = program.init(start(work)), []
    for k in range(steps):
        state, metrics = program.step(state, work.batch(k))
        seen.append(jax.device_get(metrics))
    return program.gather(state), seen


def agrees(strategy, axes, work, optimizer="sgd", steps=1):
    """Check that a case leaves one device's weights and losses; return its first metrics."""
    transform, tolerance = OPTIMIZERS[optimizer]
    batches = [work.batch(k) for k in range(steps)]
    params, losses = plain.train(work.model.loss, transform, start(work), batches)
    here, seen = run(strategy, axes, work, transform, steps)
    assert_close(here, params, tolerance)
    np.testing.assert_allclose([metrics.loss for metrics in seen], losses, rtol=1e-5)
    return seen[0]


def assert_close(tree, other, atol=1e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol, rtol=0), tree, other)


@pytest.mark.parametrize("case", CASES)
def test_same_weights_as_one_device(case, work):
    """Five steps leave the weights and losses of one device's, each device its slice's loss."""
    strategy, axes = CASES[case]
    metrics = agrees(strategy, axes, work, steps=STEPS)
    slices = jax.tree.map(lambda x: np.split(x, axes.get("data", 1)), work.batch(0))
    own = [work.model.loss(start(work), share) for share in zip(*slices, strict=True)]
    shown = metrics.device_loss.reshape(*axes.values())
    here = [-1 if name == "data" else 1 for name in axes]
    np.testing.assert_allclose(*np.broadcast_arrays(shown, np.reshape(own, here)), rtol=1e-5)


@pytest.mark.parametrize("optimizer", ["clipped", "lamb"])
def test_optimizers_that_look_across_arrays(optimizer, work):
    """Clipping by the global norm and LAMB see all stages, in rows moved from their place."""
    agrees(Pipeline(schedules.zero_bubble_v, 4), {"stage": 2}, work, optimizer, steps=STEPS)


def masked(logits, labels, layers):
    held = (labels % 3 != 0).astype(jnp.float32)  # micro-batches of other weights
    layers.note("held", held.sum())
    return layers.mean((held * layers.cross_entropy(logits, labels)).sum(), held.sum())


def test_a_masked_loss():
    """A mean over part of the examples is the whole batch's, not of each micro-batch."""
    agrees(Pipeline(microbatches=4) | DATA, {"stage": 2, "data": 2}, deep(masked))


def test_a_loss_that_is_no_sum_is_refused():
    """A root of a mean is not the sum of those of the micro-batches, and is refused."""
    root = deep(lambda *arguments: jnp.sqrt(masked(*arguments)))
    with pytest.raises(ValueError, match=r"not a sum of its means(.|\n)*why: (.|\n)*try: "):
        run(*CASES["1f1b"], root)


def test_a_mean_inside_a_block_is_refused(work):
    """Statistics of the whole batch are not there while its first part passes a block."""
    first, block, last = work.model.parts

    def centred(params, x, layers):
        return block(params, x - layers.mean(x.sum(0), jnp.float32(len(x))), layers)

    model = work.model._replace(parts=pdl.Parts(first, centred, last))
    with pytest.raises(ValueError, match=r"inside a loop or a block(.|\n)*why: (.|\n)*try: "):
        run(*CASES["1f1b"], pdl.Workload("centred", model, SGD, work.batches))


def test_what_passes_may_be_a_tree(work):
    """Blocks may hand on several arrays, whole numbers among them."""

    def first(params, batch, layers):
        x = work.model.parts.first(params, batch, layers)
        return {"x": x, "size": 0 * x[:, 0], "depth": (0 * batch[1]).astype(jnp.int32)}

    def block(params, tree, layers):
        x = work.model.parts.block(params, tree["x"], layers)
        return {"x": x, "size": tree["size"] + (x**2).mean(-1), "depth": tree["depth"] + 1}

    def last(params, tree, batch, layers):
        loss = work.model.parts.last(params, tree["x"], batch, layers)
        return loss + 0.01 * (tree["size"] * tree["depth"]).mean()

    model = pdl.models.from_parts(
        pdl.Parts(first, block, last), None, init=work.model.init, axes=work.model.axes
    )
    tree = pdl.Workload("tree", model, SGD, work.batches)
    agrees(Pipeline(schedules.zero_bubble_h1, 4), {"stage": 2}, tree)


def test_a_stage_in_three_parts(work):
    """The parts give what `jax.vjp` gives, and none repeats a product of another."""
    blocks = [jax.tree.map(lambda x, i=i: x[i], start(work)["blocks"]) for i in range(2)]
    x, gradient = jax.random.normal(jax.random.key(1), (2, 4, 16))

    def stage(blocks, x):
        for params in blocks:
            x = work.model.parts.block(params, x, ALONE)
        return x

    parts = split(stage, blocks, x)
    y, saved = parts.forward(blocks, x)
    of_x, kept = parts.backward(blocks, saved, gradient)
    wanted, pull = jax.vjp(stage, blocks, x)
    assert_close((y, (parts.weight(blocks, saved, kept), of_x)), (wanted, pull(gradient)))
    assert products(parts.forward, blocks, x) == 4  # two blocks of two products
    assert products(parts.backward, blocks, saved, gradient) == 4
    assert products(parts.weight, blocks, saved, kept) == 4
    weights = {leaf.shape for leaf in jax.tree.leaves(blocks)}
    assert weights.isdisjoint(array.shape for array in (*saved, *kept))


def products(function, *arguments):
    """Return how many matrix products a traced function has."""
    return count(jax.make_jaxpr(function)(*arguments), "dot_general")


def count(jaxpr, name=None):
    """Return how many equations there are, or of one name, in a program and all it calls."""
    found = 0
    for equation in jaxpr.eqns:
        found += name in (None, equation.primitive.name)
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                if isinstance(inner, (ClosedJaxpr, Jaxpr)):
                    found += count(inner, name)
    return found


@functools.cache
def traced(schedule, microbatches):
    """Return the trace of one step on 2 stages, 4 examples a micro-batch."""
    model = deep().model._replace(example=None)
    program = Pipeline(schedule, microbatches).build(model, SGD, pdl.mesh(stage=2))
    shapes = jax.eval_shape(program.init, jax.eval_shape(model.init, jax.random.key(0)))
    batch = np.zeros((4 * microbatches, 64), np.float32), np.zeros(4 * microbatches, np.int32)
    return program.step.trace(shapes, batch)


@pytest.mark.parametrize(
    "schedule", [schedules.gpipe, schedules.interleaved, schedules.zero_bubble_h1]
)
def test_the_program_does_not_grow_with_micro_batches(schedule):
    """With 64 micro-batches the traced program has as many equations as with 8."""
    few, many = (count(traced(schedule, times).jaxpr) for times in (8, 64))
    assert few == many


def test_no_gradient_is_found_twice():
    """A step has as many products for each gradient as forward, and the ends' own."""
    blocks = 3 * 2 * 4  # forward, input, weights; two products each; four blocks a stage
    ends = (1 + 2) + 3  # the first does its forward anew for its weights; the last
    for schedule in (schedules.one_f_one_b, schedules.zero_bubble_h1):
        assert count(traced(schedule, 8).jaxpr, "dot_general") == blocks + ends


@pytest.mark.parametrize(
    ("schedule", "slots"),
    [(schedules.gpipe, {2: 2, 16: 16}), (schedules.one_f_one_b, {2: 2, 16: 2})],
)
def test_slots_of_the_compiled_program(schedule, slots):
    """Compiled buffers hold all m hidden activations for GPipe, and p of them for 1F1B."""
    for microbatches, wanted in slots.items():
        text = traced(schedule, microbatches).lower().compile().as_text()
        found = {int(size) for size in re.findall(r"f32\[(\d+),4,24\]", text)}
        assert found - {1} == {wanted}  # one: a slot that is being read


@pytest.mark.parametrize(
    "schedule",
    [
        *(schedules.gpipe, schedules.one_f_one_b, schedules.interleaved),
        *(schedules.zero_bubble_h1, schedules.zero_bubble_h2, schedules.zero_bubble_v),
    ],
)
def test_slots_are_what_the_schedule_holds(schedule):
    """There are as many slots for activations as the busiest device of the table holds."""
    made = schedule(4, 8)
    assert plan(made).slots.saved == max(made.peak_activations)


@pytest.mark.parametrize("case", ["gpipe, 2", "1f1b", "interleaved"])
def test_moves_as_it_says(case, work):
    """What it says it moves is what the trace asks for, array by array."""
    strategy, axes = CASES[case]
    mesh = pdl.mesh(**axes)
    program = strategy.build(work.model, SGD, mesh)
    trace = program.step.trace(program.init(start(work)), work.batch(0))
    key = lambda each: (each.kind, each.axes, each.payload_bytes, each.times)  # noqa: E731
    said = collections.Counter(map(key, strategy.moves(work.model, mesh)))
    assert collections.Counter(map(key, asked(trace.jaxpr))) == said


@pytest.mark.filterwarnings("ignore:the loop at")
def test_what_the_compiled_program_sends(work):
    """A permute on each way in each tick that needs it, of one micro-batch's activations."""
    strategy, axes = Pipeline(schedules.zero_bubble_v, 4), {"stage": 4}
    report = pdl.inspect(strategy.build(work.model, SGD, pdl.mesh(**axes)), work)
    sent = [each for each in report.collectives if each.kind == "permute"]
    table, busy = schedules.zero_bubble_v(4, 4), collections.defaultdict(set)
    for task, op in table.tasks().items():
        step = {"forward": 1, "backward": -1, "weight": 0}[task.kind]
        if step and 0 <= task.virtual + step < 8:
            busy[(table.placement[task.virtual + step] - op.device) % 4].add(op.tick)
    ticks = [len(busy[hop]) for hop in (1, 3)]
    assert sorted(each.times for each in sent) == sorted(ticks)
    assert {each.payload_bytes for each in sent} == {128 // 4 * 16 * 4}
    assert max(ticks) < table.ticks


def test_a_ring_of_two_sends_once(work):
    """With two stages there and back is the same hop, which takes both."""
    moves = Pipeline(microbatches=2).moves(work.model, pdl.mesh(stage=2))
    assert len([move for move in moves if move.kind == "permute"]) == 1


LATE = schedules.Table(
    "late", (0, 1), 1, tuple(schedules.Op(k, d, 0, 0) for k in ("forward", "both") for d in (0, 1))
)
WRONG = {
    "layers": (Pipeline(), {"stage": 3}, r"dimension of 8, which does not divide among stage=3"),
    "chunks": (
        Pipeline(schedules.interleaved),
        {"stage": 8},
        r"^8 blocks do not divide among 16 stages, chunks counted\.",
    ),
    "table": (
        Pipeline(schedules.gpipe(2, 4)),
        {"stage": 4},
        r"^GPipe is a schedule for 2 stages, but this mesh has stage=4\.",
    ),
    "overlap": (Pipeline(LATE), {"stage": 2}, r"^device 0 has two ops at tick 0"),
    "groups": (Pipeline(schedules.interleaved, 6), {"stage": 4}, r"^6 micro-batches are no multi"),
    "axis": (Pipeline(axis="pipe"), {"stage": 4}, r"works along mesh axis `pipe`"),
    "nothing": (Pipeline(microbatches=0), {"stage": 2}, r"^microbatches=0 is no number of"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_refused(case, work):
    """`build` refuses what cannot be cut or run, in three lines, before anything runs."""
    strategy, axes, words = WRONG[case]
    with pytest.raises(ValueError, match=rf"{words}(.|\n)*\n  why: .*\n  try: "):
        strategy.build(work.model, SGD, pdl.mesh(**axes))


def test_a_model_without_blocks_is_refused():
    """A model that does not name its blocks cannot be cut between them."""
    model = pdl.models.cnn((8, 8, 1), 10)
    with pytest.raises(ValueError, match=r"^this model has no blocks(.|\n)*why: .*\n  try: "):
        Pipeline().build(model, SGD, pdl.mesh(stage=2))


def test_a_share_that_does_not_divide_is_refused(work):
    """The examples of a share divide among the micro-batches."""
    words = r"^a share of 128 examples does not divide into 7 micro-batches\.\n  why: "
    with pytest.raises(ValueError, match=words):
        run(Pipeline(microbatches=7), {"stage": 2}, work)
