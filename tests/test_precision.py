"""Mixed precision is still the law, within the error that it states."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import plain
import pytest
from counting import counted, wire
from test_law import STEPS
from words import words

import pdlkit as pdl
from pdlkit.measure.jaxpr import asked
from pdlkit.models.layers import ALONE
from pdlkit.models.precision import ROUNDING

SGD = optax.sgd(0.1)
DATA = pdl.DataParallel()
GIVEN = {
    "digits": pdl.workloads.digits_mlp,
    "images": pdl.workloads.digits_cnn,
    "words": words,
    "sines": pdl.workloads.rnn,
    "experts": pdl.workloads.moe,
    "gan": pdl.workloads.gan,
}
CASES = {  # strategy, mesh, what is trained
    "one": (pdl.OneDevice(), {"data": 1}, "digits"),
    "data": (DATA, {"data": 8}, "digits"),
    "fully sharded": (pdl.FullySharded(), {"data": 4}, "digits"),
    "layers on devices": (pdl.LayerPlacement(), {"stage": 2}, "digits"),
    "tensor": (pdl.TensorParallel(sequence=True, vocabulary=True), {"model": 4}, "words"),
    "ring": (pdl.RingAttention(zigzag=True), {"seq": 4}, "words"),
    "ulysses": (pdl.Ulysses(), {"seq": 4}, "words"),
    "pipeline": (pdl.Pipeline(microbatches=4), {"stage": 2}, "words"),
    "spatial": (pdl.SpatialParallel(), {"rows": 2}, "images"),
    "experts": (DATA | pdl.ExpertParallel(), {"data": 2, "expert": 4}, "experts"),
    "recurrent": (DATA, {"data": 4}, "sines"),
    "gan": (DATA, {"data": 4}, "gan"),
}


@functools.cache
def whole(name):
    """Return where a workload begins, its batches, and where float32 takes one device."""
    work = GIVEN[name]()
    start = jax.device_get(work.model.init(jax.random.key(0)))
    batches = [work.batch(k) for k in range(STEPS)]
    return start, batches, plain.train(work.model.loss, SGD, start, batches)


def mixed(name, **options):
    work = GIVEN[name]()
    model = pdl.mixed_precision(work.model, **options)
    return pdl.Workload(work.name, model, SGD, work.batches, work.metric)


def apart(tree, other):
    gaps = jax.tree.map(lambda a, b: np.sum((np.float64(a) - b) ** 2), tree, other)
    return sum(jax.tree.leaves(gaps)) ** 0.5


@pytest.mark.parametrize("case", CASES)
def test_same_weights_within_the_stated_error(case):
    """Five steps end as far from those of float32 as the docstring says, or nearer."""
    strategy, axes, name = CASES[case]
    start, batches, (params, losses) = whole(name)
    work = mixed(name)
    program = strategy.build(work.model, SGD, pdl.mesh(**axes))
    state, seen = program.init(start), []
    for batch in batches:
        state, metrics = program.step(state, batch)
        seen.append(metrics.loss)
    here = program.gather(state)
    assert {leaf.dtype for leaf in jax.tree.leaves(here)} == {np.dtype("float32")}
    assert apart(here, params) <= ROUNDING * apart(params, start)
    np.testing.assert_allclose(seen, losses, rtol=2e-2)


@pytest.mark.parametrize("case", ["data", "fully sharded"])
def test_the_check_knows_of_it(case):
    """`check.same_update` allows for the bits, and still finds a sum that is missing."""
    strategy, axes, name = CASES[case]
    work = mixed(name)
    program = strategy.build(work.model, work.optimizer, pdl.mesh(**axes))
    assert "same updates" in str(pdl.check.same_update(program, work))


def products(model, batch):
    """Return the dtypes that enter the products of matrices of a step."""
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    found = set()

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name in ("dot_general", "conv_general_dilated"):
                found.add(frozenset(str(x.aval.dtype) for x in equation.invars))
            for value in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns")):
                inner = getattr(value, "jaxpr", value)
                if hasattr(inner, "eqns"):
                    walk(inner)

    walk(jax.make_jaxpr(jax.grad(model.loss))(shapes, batch).jaxpr)
    return found


@pytest.mark.parametrize("name", ["digits", "images", "words", "sines", "gan"])
def test_all_products_are_of_few_bits(name):
    """No product of matrices, forward or back, is of float32."""
    work = mixed(name)
    assert products(work.model, work.batch(0)) == {frozenset({"bfloat16"})}


def test_only_the_gate_is_of_many_bits():
    """A token is sent by float32: the last digit would send it elsewhere."""
    work = mixed("experts")
    assert products(work.model, work.batch(0)) == {
        frozenset({"bfloat16"}),
        frozenset({"float32"}),
        frozenset({"bfloat16", "float32"}),  # answers times the gate's weights
    }


def test_small_gradients_live_by_the_scale():
    """What underflows in float16 comes through when the loss is scaled, and only then."""
    work = pdl.workloads.digits_mlp()
    tiny = work.model._replace(
        loss=lambda params, batch, layers=ALONE: 1e-6 * work.model.loss(params, batch, layers),
        parts=None,
    )
    start, batch = work.model.init(jax.random.key(0)), work.batch(0)

    def off(**options):
        model = pdl.mixed_precision(tiny, jnp.float16, **options)
        there, here = (jax.grad(each.loss)(start, batch) for each in (tiny, model))
        zeros = jax.tree.map(np.zeros_like, there)
        return apart(here, there) / apart(there, zeros)

    assert off() > 0.5
    assert off(scale=2.0**15) < 0.01


@pytest.mark.parametrize("case", ["fully sharded", "tensor", "ring"])
def test_moves_as_it_says(case):
    """What is sent between layers takes two bytes a number, and `moves` knows it."""
    strategy, axes, name = CASES[case]
    work, mesh = mixed(name), pdl.mesh(**axes)
    program = strategy.build(work.model, SGD, mesh)
    trace = program.step.trace(program.init(whole(name)[0]), work.batch(0))
    assert counted(asked(trace.jaxpr)) == counted(strategy.moves(work.model, mesh))


def test_half_the_bytes_between_layers():
    """Tensor parallelism sends activations: in half the bits, all but the loss's parts."""
    strategy, axes, name = pdl.TensorParallel(), {"model": 4}, "words"
    mesh = pdl.mesh(**axes)
    many, few = (wire(strategy.moves(work.model, mesh)) for work in (GIVEN[name](), mixed(name)))
    assert few == pytest.approx(many / 2, rel=0.01)


def test_it_is_scored_in_float32():
    """What a model predicts comes out in float32, and a workload scores it as before."""
    work = mixed("digits")
    start = work.model.init(jax.random.key(0))
    assert work.model.predict(start, work.batch(0)).dtype == jnp.float32
    assert 0 <= work.score(start) <= 1


def test_any_loss_over_a_tree():
    """A loss that calls no layer operation is computed in fewer bits as well."""
    params = {"w": np.ones((64, 10), np.float32), "count": np.arange(3)}

    def loss(params, batch):
        assert params["w"].dtype == batch[0].dtype == jnp.bfloat16
        return jnp.mean((batch[0] @ params["w"]) ** 2)

    model = pdl.mixed_precision(pdl.from_loss(loss, params))
    grads = jax.grad(model.loss)(model.init(jax.random.key(0)), GIVEN["digits"]().batch(0))
    assert grads["w"].dtype == jnp.float32


@pytest.mark.parametrize("compute", [jnp.float32, jnp.int8, jnp.float8_e4m3fn])
def test_other_types_are_refused(compute):
    """What has not 16 bits, or is no real number, is refused."""
    with pytest.raises(ValueError, match=r"mixed precision cannot compute in \w+\."):
        pdl.mixed_precision(GIVEN["digits"]().model, compute)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf"), float("nan")])
def test_a_scale_is_positive(scale):
    """A scale that would lose the gradient is refused."""
    with pytest.raises(ValueError, match=r"a loss cannot be scaled by (0|-1|inf|nan)\."):
        pdl.mixed_precision(GIVEN["digits"]().model, scale=scale)
