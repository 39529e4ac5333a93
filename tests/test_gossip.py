"""Gossip: what averaging with neighbours does to copies, and what it sends."""

import collections

import jax
import loose
import numpy as np
import optax
import pytest
from test_law import STEPS, assert_close

import pdlkit as pdl
from pdlkit.strategies.gossip import Gossip, complete, mixing, ring, torus

SGD = optax.sgd(0.1)
GRAPHS = {"ring": ring, "torus": torus, "complete": complete}
each_graph = pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)


def of_each(state):
    """[devices, numbers], the weights of each copy."""
    leaves = jax.tree.leaves(jax.device_get(state.params))
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)


def scattered(program, seed=0):
    """Return a state whose copies are all drawn anew."""
    state = jax.device_get(program.init(loose.start()))
    draw = np.random.default_rng(seed)
    params = jax.tree.map(lambda x: draw.normal(size=x.shape).astype(x.dtype), state.params)
    return loose.placed(program, state._replace(params=params))


@pytest.mark.parametrize("axes", [{"data": 3}, {"data": 4, "model": 2}], ids=str)
def test_with_all_others_it_is_one_device(axes):
    """Averaging with all others after each step leaves the weights of one device."""
    batches = [jax.tree.map(lambda x: x[:96], batch) for batch in loose.batches(STEPS)]
    program = loose.build(Gossip(complete), **axes)
    state, _ = loose.run(program, batches)
    assert_close(program.gather(state), loose.alone(SGD, batches), 1e-6)


def test_two_devices_are_all_others():
    """On a ring of two, each has the other one for a neighbour, and once."""
    assert ring(2) == torus(2) == complete(2) == ((1, 0),)
    assert ring(1) == torus(1) == complete(1) == ()


@each_graph
@pytest.mark.parametrize("devices", [1, 2, 3, 4, 6, 7, 8, 12, 16])
def test_mixing_keeps_the_mean(graph, devices):
    """What devices give and what they take sums to 1, and neighbours are mutual."""
    matrix = mixing(graph(devices), devices)
    np.testing.assert_allclose(matrix.sum(0), 1)
    np.testing.assert_allclose(matrix.sum(1), 1)
    np.testing.assert_array_equal(matrix, matrix.T)


def test_the_torus_has_four_neighbours():
    """On 16 devices, 4 x 4, each hears from four; on 8, 2 x 4, up and down are one."""
    assert (np.count_nonzero(mixing(torus(16), 16), axis=1) == 5).all()
    assert (np.count_nonzero(mixing(torus(8), 8), axis=1) == 4).all()
    assert torus(7) == ring(7)


@each_graph
def test_devices_mix_as_the_matrix_says(graph):
    """Without a gradient, one step multiplies the copies by the mixing matrix."""
    program = loose.build(Gossip(graph), optax.sgd(0.0), data=8)
    state = scattered(program)
    after, metrics = program.step(state, loose.batches(1)[0])
    mixed = mixing(graph(8), 8) @ of_each(state)
    np.testing.assert_allclose(of_each(after), mixed, atol=1e-6)
    pulled = np.sqrt(np.mean((mixed - of_each(state)) ** 2, axis=1))
    np.testing.assert_allclose(metrics.notes["pulled"], pulled, rtol=1e-5)


def test_disagreement_shrinks_by_the_second_eigenvalue():
    """On a ring of n, a round leaves (1 + 2 cos(2 pi / n)) / 3 of it, and no more."""
    n, rate = 8, (1 + 2 * np.cos(2 * np.pi / 8)) / 3
    values = np.sort(np.abs(np.linalg.eigvals(mixing(ring(n), n))))
    np.testing.assert_allclose(values[-2:], [rate, 1])
    program = loose.build(Gossip(ring), optax.sgd(0.0), data=n)
    apart = lambda state: np.linalg.norm(of_each(state) - of_each(state).mean(0))  # noqa: E731
    state = scattered(program)
    for _ in range(3):
        before, (state, _) = apart(state), program.step(state, loose.batches(1)[0])
        assert apart(state) <= rate * before * (1 + 1e-5)
    wave = np.cos(2 * np.pi * np.arange(n) / n).astype(np.float32)  # the slowest to die out
    rows = jax.tree.map(lambda x: wave.reshape(n, *[1] * (x.ndim - 1)) + 0 * x, state.params)
    state = loose.placed(program, jax.device_get(state._replace(params=rows)))
    before, (state, _) = apart(state), program.step(state, loose.batches(1)[0])
    np.testing.assert_allclose(apart(state), rate * before, rtol=1e-5)


def test_the_mean_of_the_copies_follows_the_mean_gradient():
    """Each step moves the mean of the copies along the mean of their own gradients."""
    program = loose.build(Gossip(ring), data=4)
    state, _ = loose.run(program, loose.batches(2))
    copies = jax.device_get(state.params)
    batch = loose.digits().batch(2)
    grads = loose.mean(
        loose.gradient()(jax.tree.map(lambda x, i=i: x[i], copies), share)
        for i, share in enumerate(loose.shares(batch, 4))
    )
    expected = jax.tree.map(lambda x, g: x.mean(0) - 0.1 * g, copies, grads)
    assert_close(program.gather(program.step(state, batch)[0]), expected, 1e-6)


@each_graph
def test_sends_the_weights_to_each_neighbour(graph):
    """A step permutes the weights once a neighbour: on the ring, twice."""
    strategy, work, mesh = Gossip(graph), loose.digits(), pdl.mesh(data=8)
    report = pdl.inspect(loose.build(strategy, data=8), work)
    key = lambda each: (each.kind, each.axes, each.payload_bytes, each.times)  # noqa: E731
    said = collections.Counter(map(key, strategy.moves(work.model, mesh)))
    assert collections.Counter(map(key, report.asked)) == said
    neighbours = {ring: 2, torus: 3, complete: 7}[graph]
    assert {each.kind for each in report.collectives} == {"permute"}
    assert report.wire_bytes == neighbours * loose.weight_bytes()


def test_digits_are_learned():
    """Hearing two neighbours of seven reads nine digits of ten after 160 steps."""
    program = loose.build(Gossip(ring), loose.digits().optimizer, data=8)
    assert loose.digits().score(pdl.fit(program, loose.digits(), steps=160).params) > 0.9


def test_neighbours_that_are_no_permutation():
    """Two devices that send to one are refused, with the list that says so."""
    words = r"the neighbours of 4 devices are said to be \[1, 1, 3, 0\]\..*\n.*\n  try: pdl\.gossip"
    with pytest.raises(ValueError, match=words):
        loose.build(Gossip(lambda devices: ((1, 1, 3, 0),)), data=4)
