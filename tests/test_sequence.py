"""Attention over a sequence in pieces is attention over the sequence."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from counting import counted, inspected, wire
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import PartitionSpec as P
from words import words

import pdlkit as pdl
from pdlkit.models.layers import attention
from pdlkit.strategies.ring import pieces_of

SGD = optax.sgd(0.1)


def arrays(length, heads=4, size=4):
    keys = jax.random.split(jax.random.key(length), 3)
    return [3 * jax.random.normal(key, (2, length, heads, size)) for key in keys]


def in_pieces(strategy, devices, causal):
    """Return attention as a strategy does it, over so many devices: q, k, v -> out."""
    mesh = pdl.mesh(seq=devices)
    attend = strategy.layers(mesh)["attention"]
    spec = P(None, "seq")
    return jax.jit(
        jax.shard_map(
            lambda q, k, v: attend(q, k, v, causal=causal),
            mesh=mesh,
            in_specs=(spec, spec, spec),
            out_specs=spec,
        )
    )


def zigzag(devices: int, length: int):
    """Return the tokens in the order in which devices hold them by zigzag."""
    pieces = np.arange(length).reshape(2 * devices, -1)
    order = [piece for device in range(devices) for piece in pieces_of(device, devices, True)]
    return pieces[order].ravel()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("devices", [1, 2, 4, 8])
@pytest.mark.parametrize("strategy", [pdl.RingAttention(), pdl.Ulysses()], ids=["ring", "ulysses"])
def test_attention_and_its_gradient(strategy, devices, causal):
    """Out of pieces on any number of devices comes what comes out of the whole, and back."""
    if isinstance(strategy, pdl.Ulysses) and devices == 8:
        pytest.skip("four heads")
    whole, cut = arrays(16), in_pieces(strategy, devices, causal)
    check(cut, lambda *x: attention(*x, causal=causal), whole)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_by_zigzag(devices, causal):
    """With the tokens dealt out from both ends, each sees what it saw in order."""
    order = zigzag(devices, 16)
    dealt = in_pieces(pdl.RingAttention(zigzag=True), devices, causal)
    back = np.argsort(order)

    def cut(*x):
        return dealt(*(each[:, order] for each in x))[:, back]

    check(cut, lambda *x: attention(*x, causal=causal), arrays(16))


def check(cut, whole, x):
    np.testing.assert_allclose(cut(*x), whole(*x), atol=1e-5)
    weight = jnp.cos(jnp.arange(x[0].size)).reshape(x[0].shape)
    slopes = [jax.grad(lambda x, f=f: (f(*x) * weight).sum())(tuple(x)) for f in (cut, whole)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=5e-5), *slopes)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 64))
def test_zigzag_gives_all_the_same_to_do(devices):
    """Every device sees as many pairs of pieces; in plain order the last sees n times as many."""
    seen = collections.Counter()
    in_order = collections.Counter()
    for count, folded in ((seen, True), (in_order, False)):
        for device in range(devices):
            for other in range(devices):
                for query in pieces_of(device, devices, folded):
                    for key in pieces_of(other, devices, folded):
                        count[device] += (query > key) + (query == key) / 2
    assert len(set(seen.values())) == 1
    assert in_order[devices - 1] == (2 * devices - 1) * in_order[0]


@pytest.mark.parametrize("devices", [2, 4])
def test_what_a_ring_sends(devices):
    """(n - 1) / n of keys and values going forward, and twice that, and a hop home, going back."""
    work = words()
    report, said = inspected(pdl.RingAttention(), {"seq": devices}, work, SGD)
    assert counted(report.asked) == counted(said)
    tokens, embed, blocks = work.batch(0)[0].size, 32, 2
    hop = 2 * 4 * tokens * embed // devices  # keys and values of one piece
    forward, back = (devices - 1) * hop, (devices - 1) * hop + devices * hop
    assert wire(each for each in report.asked if each.kind == "permute") == blocks * (
        forward + back
    )
    assert report.wire_bytes == wire(said)


@pytest.mark.parametrize("devices", [2, 4])
def test_what_ulysses_sends(devices):
    """Four exchanges of b s h / n each way: 8 (b s h / n) (n - 1) / n elements a layer."""
    work = words()
    report, said = inspected(pdl.Ulysses(), {"seq": devices}, work, SGD)
    assert counted(report.asked) == counted(said)
    tokens, embed, blocks = work.batch(0)[0].size, 32, 2
    exchanged = wire(each for each in report.asked if each.kind == "all_to_all")
    assert exchanged == 8 * blocks * (4 * tokens * embed // devices) * (devices - 1) // devices


def test_a_ring_never_has_the_scores_of_a_whole_row():
    """The compiled step holds scores of a piece by a piece; a whole row would be n times that."""
    work = words(length=64)
    mesh = pdl.mesh(seq=4)
    program = pdl.RingAttention().build(work.model, SGD, mesh)
    state = jax.eval_shape(program.init, work.model.init(jax.random.key(0)))
    text = program.step.lower(state, work.batch(0)).compile().as_text()
    assert "f32[16,4,16,16]" in text  # [batch, heads, query, key]
    assert "f32[16,4,16,64]" not in text


def test_heads_fewer_than_devices():
    """Ulysses needs a head for each device, and says that a ring does not."""
    work = words()
    words_ = r"4 heads do not divide among seq=8\.\n  why: .*\n  try: "
    with pytest.raises(ValueError, match=words_):
        pdl.Ulysses().build(work.model, SGD, pdl.mesh(seq=8))


def test_sequences_that_make_no_two_pieces():
    """By zigzag a device takes two pieces, so an odd number of tokens cannot be dealt."""
    work = words(length=12)
    with pytest.raises(ValueError, match=r"3 tokens on each device do not make two pieces\."):
        pdl.RingAttention(zigzag=True).build(work.model, SGD, pdl.mesh(seq=4))


def test_images_have_no_sequence(digits):
    """A batch without a `seq` axis cannot be cut along it: refused by name in `build`."""
    with pytest.raises(ValueError, match="RingAttention cuts batches along `seq`, but this model"):
        pdl.RingAttention().build(digits.model, SGD, pdl.mesh(seq=2))
