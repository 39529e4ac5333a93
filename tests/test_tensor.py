"""Tensor parallelism: two all-reduces a block going forward, two going back, 1/n kept."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from counting import counted, inspected, wire
from jax.sharding import PartitionSpec as P
from words import words

import pdlkit as pdl
from pdlkit.models.layers import cross_entropy
from pdlkit.strategies.vocabulary import cross_entropy_of_part, rows_of_part

SGD = optax.sgd(0.1)


@pytest.mark.parametrize("ways", [2, 4])
def test_what_each_layer_sends(ways):
    """8 b s h (n - 1) / n elements for each layer, as Megatron-LM counts."""
    work = words()
    report, said = inspected(pdl.TensorParallel(), {"model": ways}, work, SGD)
    tokens, embed, blocks = work.batch(0)[0].size, 32, 2
    assert wire(report.asked) == 4 * 8 * tokens * embed * blocks * (ways - 1) // ways
    assert counted(report.asked) == counted(said)
    assert report.wire_bytes == wire(said)


def test_a_cut_sequence_sends_the_same_between_blocks_and_keeps_less():
    """With `sequence` each all-reduce is a scatter and a gather: the same bytes, less memory."""
    work = words()
    whole, _ = inspected(pdl.TensorParallel(vocabulary=True), {"model": 4}, work, SGD)
    cut, said = inspected(pdl.TensorParallel(sequence=True), {"model": 4}, work, SGD)
    assert counted(cut.asked) == counted(said)
    assert cut.memory.temporaries < whole.memory.temporaries
    tokens, embed, blocks = work.batch(0)[0].size, 32, 2
    inside = [each for each in cut.asked if each.times == blocks]  # what the scan over blocks runs
    assert wire(inside) == 4 * 8 * tokens * embed * blocks * 3 // 4


def test_what_each_device_keeps():
    """A half of the heads and of the hidden axis; norms and biases of what comes out whole."""
    work = words()
    program = pdl.TensorParallel().build(work.model, SGD, pdl.mesh(model=2))
    blocks = program.init(work.model.init(jax.random.key(0))).params["blocks"]
    shapes = jax.tree.map(lambda leaf: leaf.addressable_shards[0].data.shape, blocks)
    assert shapes["attention"]["qkv"] == (2, 32, 3, 2, 8)
    assert shapes["attention"]["out"] == (2, 2, 8, 32)
    assert shapes["mlp"]["up"] == (2, 32, 32)
    assert shapes["mlp"]["scale"] == (2, 32)


def over_four(function, *specs, out):
    mesh = pdl.mesh(model=4)
    return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=out))


def test_the_loss_of_a_cut_vocabulary():
    """The loss and its gradient are those of whole rows of logits, for labels on any device."""
    keys = jax.random.split(jax.random.key(0))
    logits = 30 * jax.random.normal(keys[0], (3, 5, 16))  # steep: without the top taken off, inf
    labels = jax.random.randint(keys[1], (3, 5), 0, 16)
    part = functools.partial(cross_entropy_of_part, axis="model")
    cut = over_four(part, P(None, None, "model"), P(), out=P())
    np.testing.assert_allclose(
        cut(logits, labels), cross_entropy(logits, labels), atol=2e-5, rtol=1e-6
    )
    slopes = [jax.grad(lambda x, f=f: f(x, labels).sum())(logits) for f in (cut, cross_entropy)]
    np.testing.assert_allclose(*slopes, atol=1e-6)


def test_a_label_that_is_no_class():
    """It gives NaN, here as with whole rows, so that training stops at it by name."""
    part = functools.partial(cross_entropy_of_part, axis="model")
    cut = over_four(part, P(None, "model"), P(), out=P())
    losses = cut(jnp.zeros((3, 16)), jnp.array([15, 16, -1]))
    assert np.isnan(losses).tolist() == [False, True, True]


def test_a_row_is_found_where_it_is():
    """Every token finds its row on exactly one of the devices."""
    table = jnp.arange(32.0).reshape(16, 2)
    find = over_four(
        lambda tokens, table: jax.lax.psum(rows_of_part(tokens, table, "model"), "model"),
        P(),
        P("model"),
        out=P(),
    )
    np.testing.assert_array_equal(find(jnp.arange(16), table), table)


def test_heads_that_do_not_divide():
    """Four heads are no work for eight devices."""
    work = words()
    with pytest.raises(ValueError, match="a dimension of 4, which does not divide among model=8"):
        pdl.TensorParallel().build(work.model, SGD, pdl.mesh(model=8))


def test_a_model_without_hidden_axes():
    """A CNN calls neither `up` nor `down`: there is nothing that could be cut this way."""
    work = pdl.workloads.digits_cnn()
    with pytest.raises(ValueError, match=r"TensorParallel replaces `layers.down`, but this model"):
        pdl.TensorParallel().build(work.model, SGD, pdl.mesh(model=2))
