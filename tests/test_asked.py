"""What is counted in the traced program: what it asks for, and its arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import pallas as pl
from jax.sharding import PartitionSpec as P

from pdlkit.compat import vary
from pdlkit.devices import mesh, simulate_devices
from pdlkit.measure.flops import flops
from pdlkit.measure.jaxpr import asked
from pdlkit.records import Collective

X = np.ones((8, 8), np.float32)  # on 2 x 4 devices a share is f32[4,2]: 32 bytes


@pytest.fixture(autouse=True)
def _eight_devices():
    simulate_devices(8)


def wanted(function, *arguments):
    return asked(jax.make_jaxpr(function)(*arguments))


def mapped(function, in_specs=P("a", "b"), out_specs=P("a", "b")):
    grid = mesh(a=2, b=4)
    return jax.jit(jax.shard_map(function, mesh=grid, in_specs=in_specs, out_specs=out_specs))


def test_each_array_of_a_sum_is_asked_for():
    """A tree summed in one call is one entry an array, in the order of the tree."""

    def both(x):
        summed = lax.psum({"w": x, "b": x.mean()}, "b")
        return summed["w"] + summed["b"]

    program = mapped(both, out_specs=P("a"))
    assert [each.payload_bytes for each in wanted(program, X)] == [4, 32]


def test_marking_an_array_as_varying_asks_for_nothing():
    """`vary` only says something of an array; the sum is asked for when it is turned back."""

    def gradient(w, x):
        return jax.grad(lambda w: (vary(w, ("a", "b")) * x).sum())(w)

    program = mapped(gradient, in_specs=(P(), P("a", "b")), out_specs=P())
    (found,) = wanted(program, np.float32(1), X)
    assert found[:4] == ("all_reduce", ("a", "b"), 8, 4)
    assert found.source.startswith("test_asked.py:")


def test_a_sum_in_groups_has_their_size():
    """A collective among some devices of an axis has a group of that many."""
    pairs = [[0, 1], [2, 3]]
    unchecked = jax.shard_map(
        lambda x: lax.all_gather(x, "b", axis_index_groups=pairs),
        mesh=mesh(a=2, b=4),
        in_specs=P("a", "b"),
        out_specs=P(None, "a", "b"),
        check_vma=False,
    )
    (found,) = wanted(unchecked, X)
    assert found[:5] == ("all_gather", ("b",), 2, 32, 32)


def test_pmap_is_read_like_shard_map():
    """The sum of an old `pmap` program runs along its axis, over all its devices."""

    def mean(x):
        return lax.pmean(x, "i")

    line = mean.__code__.co_firstlineno + 1
    (found,) = wanted(jax.pmap(mean, axis_name="i"), X)
    wire = 2 * 7 * 32 // 8
    assert found == Collective("all_reduce", ("i",), 8, 32, wire, 1, f"test_asked.py:{line}")


@jax.custom_vjp
def _summed(x):
    return lax.psum(x, "b")


_summed.defvjp(lambda x: (_summed(x), None), lambda _, g: (vary(g, ("b",)),))


@pytest.mark.parametrize(
    "wrap",
    [
        jax.jit,
        jax.checkpoint,
        jax.named_call,
        lambda function: lambda x: lax.map(function, x[None])[0],
        lambda function: lambda x: jax.vmap(function)(x[None])[0],
        lambda function: lambda x: lax.cond(x.sum() > 0, function, function, x),
    ],
)
def test_a_collective_is_found_wherever_it_is_nested(wrap):
    """What is asked for inside of a jit, a checkpoint, a loop, a custom rule is seen once."""
    for sums in (lambda x: lax.psum(x, "b"), _summed):
        found = wanted(mapped(wrap(sums), out_specs=P("a")), X)
        assert [each[:4] for each in found] == [("all_reduce", ("b",), 4, 32)]


def test_a_permute_to_itself_sends_nothing():
    """A device that keeps what it has sends nothing."""
    stay = [(i, i) for i in range(4)]
    assert wanted(mapped(lambda x: lax.ppermute(x, "b", stay)), X) == ()


def operations(function, *arguments, devices=1):
    return flops(jax.make_jaxpr(function)(*arguments), devices)


def array(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def test_a_matrix_product_multiplies_and_adds():
    """[m, k] times [k, n] is 2 m k n operations; a batch of them as many times more."""
    assert operations(jnp.matmul, array(3, 5), array(5, 7)) == 2 * 3 * 5 * 7
    assert operations(jnp.matmul, array(4, 3, 5), array(4, 5, 7)) == 4 * 2 * 3 * 5 * 7
    assert operations(lambda x: jnp.tanh(x) + x, array(3, 5)) == 0


def test_a_kernel_counts_once_for_each_place_of_its_grid():
    """What a Pallas kernel multiplies, it multiplies in every block."""

    def kernel(x, y, out):
        out[...] = x[...] @ y[...]

    rows, whole = pl.BlockSpec((8, 16), lambda i: (i, 0)), pl.BlockSpec((16, 4), lambda i: (0, 0))
    product = pl.pallas_call(
        kernel,
        out_shape=array(32, 4),
        grid=(4,),
        in_specs=[rows, whole],
        out_specs=pl.BlockSpec((8, 4), lambda i: (i, 0)),
        interpret=True,
    )
    assert operations(product, array(32, 16), array(16, 4)) == 2 * 32 * 16 * 4


def convolution(**settings):
    """Return 2-D convolution of [batch, height, width, channels]."""
    order = ("NHWC", "HWIO", "NHWC")
    return lambda x, w: lax.conv_general_dilated(x, w, dimension_numbers=order, **settings)


VALID = {"window_strides": (1, 1), "padding": "VALID"}
IMAGE, KERNEL = (4, 9, 9, 6), (3, 3, 6, 8)


@pytest.mark.parametrize(
    ("settings", "kernel", "count"),
    [
        (VALID, KERNEL, 2 * 4 * 7 * 7 * 8 * 3 * 3 * 6),
        (VALID | {"window_strides": (2, 2)}, KERNEL, 2 * 4 * 4 * 4 * 8 * 3 * 3 * 6),
        (VALID | {"rhs_dilation": (2, 2)}, KERNEL, 2 * 4 * 5 * 5 * 8 * 3 * 3 * 6),
        (VALID | {"feature_group_count": 2}, (3, 3, 3, 8), 2 * 4 * 7 * 7 * 8 * 3 * 3 * 3),
        (VALID | {"batch_group_count": 2}, KERNEL, 2 * 2 * 7 * 7 * 8 * 3 * 3 * 6),
        # At the border, 9 places of 3 taps meet the image 25 times, not 27.
        (VALID | {"padding": "SAME"}, KERNEL, 2 * 4 * 8 * 6 * 25 * 25),
    ],
    ids=["plain", "strided", "dilated", "grouped", "batch-grouped", "padded"],
)
def test_a_convolution_counts_the_taps_that_meet_the_image(settings, kernel, count):
    """A convolution costs 2 operations a tap, input channel, result place and example."""
    assert operations(convolution(**settings), array(*IMAGE), array(*kernel)) == count


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("groups", [1, 2])
def test_the_gradient_of_a_convolution_costs_twice_itself(stride, padding, groups):
    """Both gradients pair the same inputs, taps and results as the convolution did."""
    strides = (stride, stride)
    apply = convolution(window_strides=strides, padding=padding, feature_group_count=groups)
    image, kernel = array(*IMAGE), array(3, 3, 6 // groups, 8)
    there_and_back = jax.grad(lambda x, w: (apply(x, w) ** 2).sum(), argnums=(0, 1))
    assert operations(there_and_back, image, kernel) == 3 * operations(apply, image, kernel)


def mlp_loss(weights, x):
    for weight in weights:
        x = jnp.tanh(x @ weight)
    return (x**2).mean()


def test_a_training_step_costs_six_operations_a_weight_and_example():
    """2 forwards and 4 back a weight and example, less the gradient of the first input."""
    weights, x = [array(10, 20), array(20, 5)], array(64, 10)
    every = 6 * 64 * (10 * 20 + 20 * 5)
    assert operations(jax.grad(mlp_loss), weights, x) == every - 2 * 64 * 10 * 20


def test_loops_are_multiplied_out():
    """A scan of twelve blocks costs twelve times one, within another loop three times that."""

    def blocks(x, weights):
        return lax.scan(lambda x, weight: (jnp.tanh(x @ weight), None), x, weights)[0]

    def again(x, weights):
        return lax.fori_loop(0, 3, lambda _, x: blocks(x, weights), x)

    assert operations(blocks, array(4, 8), array(12, 8, 8)) == 12 * 2 * 4 * 8 * 8
    assert operations(again, array(4, 8), array(12, 8, 8)) == 3 * 12 * 2 * 4 * 8 * 8


def test_of_a_conditional_the_branch_with_most_work_counts():
    """A device takes one branch, and is counted as taking the one that computes most."""

    def choose(x):
        return lax.cond(x.sum() > 0, lambda x: x @ x, lambda x: x @ x @ x, x)

    assert operations(choose, array(8, 8)) == 2 * 2 * 8**3


def test_a_loop_of_unknown_length_is_said_to_be():
    """A loop that ends when its data says so counts as one turn, with a warning."""

    def until_large(x):
        return lax.while_loop(lambda x: x.sum() < 100, lambda x: x @ x, x)

    with pytest.warns(UserWarning, match="loop at test_asked.py:.* counted once"):
        assert operations(until_large, array(8, 8)) == 2 * 8**3


def test_work_is_that_of_one_device():
    """Inside of `shard_map` a share is counted; outside, arrays are shared by all devices."""
    shared = mapped(lambda x: x @ x.T, in_specs=P(("a", "b")), out_specs=P(("a", "b")))
    assert operations(shared, array(64, 16), devices=8) == 2 * 8 * 16 * 8
    half = jax.shard_map(
        lambda x: x @ x.T,
        mesh=mesh(a=2, b=4),
        in_specs=P("a"),
        out_specs=P("a"),
        axis_names={"a"},
    )
    # A share of 32 rows, which the compiler is left to spread along b.
    assert operations(half, array(64, 16), devices=8) == 2 * 32 * 16 * 32 // 4
    assert operations(jnp.matmul, array(16, 8), array(8, 4), devices=8) == 2 * 16 * 8 * 4 // 8
