"""What must hold for any size: who holds what, what each counts, and what is sent.

Mostly index arithmetic, on sizes drawn by hypothesis; little is compiled.
"""

import collections
import functools
import itertools
import math
import operator

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import PartitionSpec as P

import pdlkit as pdl
from pdlkit import schedules
from pdlkit.measure.jaxpr import asked
from pdlkit.models import routing
from pdlkit.strategies.compression import EightBit, PowerSGD, RandomK, Sign, TopK
from pdlkit.strategies.expert import ExpertParallel
from pdlkit.strategies.layout import lay_out
from pdlkit.strategies.uneven import UnevenDataParallel, apportioned

few = settings(max_examples=10, deadline=None, derandomize=True)
some = st.integers
SGD = optax.sgd(1.0)
PLAIN = pdl.Model(lambda key: {}, loss=abs, axes=None, parts=pdl.Parts(abs, abs, abs))


def grids(*axes):
    """Draw the sizes of some mesh axes: 1, 2 or 4 each, 8 devices at the most."""
    sizes = itertools.product((2, 4, 1), repeat=len(axes))
    return st.sampled_from([dict(zip(axes, n, strict=True)) for n in sizes if math.prod(n) <= 8])


def place_of(device, mesh) -> dict[str, int]:
    """Return where on the mesh a device stands."""
    return dict(zip(mesh.axis_names, np.argwhere(mesh.devices == device)[0], strict=True))


@settings(few, max_examples=30)
@given(grids("node", "data", "model"), st.permutations(["node", "data"]), some(1, 5), some(0, 1))
def test_a_batch_is_dealt_in_order(grid, order, share, over):
    """Each example goes to one device of the axes it is cut over, in order; a rest is refused."""
    program = operator.or_(*map(pdl.DataParallel, order)).build(PLAIN, SGD, pdl.mesh(**grid))
    ways = [grid[axis] for axis in order]
    examples = np.arange(share * math.prod(ways) + over % math.prod(ways))
    if over % math.prod(ways):
        with pytest.raises(ValueError, match=f"a batch of {len(examples)} examples does not"):
            program.place((examples,))
        return
    (placed,) = program.place((examples,))
    dealt = examples.reshape(*ways, share)
    for piece in placed.addressable_shards:
        where = place_of(piece.device, program.mesh)
        np.testing.assert_array_equal(piece.data, dealt[tuple(where[axis] for axis in order)])


@few
@given(st.lists(some(0, 50), min_size=1, max_size=8).filter(any), some(1, 99))
def test_uneven_shares_add_up(shares, examples):
    """They are whole, next to the exact ones, together the batch, and dealt in order."""
    rows = apportioned(shares, examples)
    assert sum(rows) == examples
    for count, share in zip(rows, shares, strict=True):
        assert abs(count * sum(shares) - share * examples) < sum(shares)
    program = UnevenDataParallel(tuple(shares)).build(PLAIN, SGD, pdl.mesh(data=len(shares)))
    (padded,) = program.place((np.arange(examples),)).rows
    dealt = [here[:count] for here, count in zip(np.asarray(padded), rows, strict=True)]
    np.testing.assert_array_equal(np.concatenate(dealt), np.arange(examples))


def weighing(examples: int, depth: int):
    """Return a model whose gradients are what each example counts, and their sum a block."""
    parts = pdl.Parts(
        first=lambda params, batch, layers: params[batch[0]],
        block=lambda params, x, layers: x + params,
        last=lambda params, x, batch, layers: layers.mean((batch[1] * x).sum(), batch[1].sum()),
    )
    params = {"first": jnp.zeros(examples), "blocks": jnp.zeros(depth), "last": {}}
    axes = {"first": (None,), "blocks": ("layers",), "last": {}}
    return pdl.models.from_parts(parts, None, init=lambda key: params, axes=axes)


def counting(times: int, ways: int) -> list:
    """Return strategies, those that can with so many micro-batches."""
    others = pdl.DataParallel(axis="other")
    return [
        pdl.DataParallel(accumulate=times) | others,
        pdl.ZeRO(stage=1, accumulate=times) | others,
        pdl.ZeRO(stage=2, accumulate=times),
        pdl.ZeRO(stage=3, accumulate=times) | pdl.ZeRO(axis="other"),
        pdl.FullySharded(accumulate=times),
        pdl.DataParallel() | pdl.Pipeline(schedules.gpipe, times, "other"),
        pdl.ZeRO() | pdl.Pipeline(schedules.zero_bubble_v, times, "other"),
        UnevenDataParallel((3, *[1] * (ways - 1))),
    ]


@pytest.mark.parametrize("which", range(8))
@settings(few, max_examples=2)
@given(grid=grids("data", "other"), times=some(2, 4), share=some(1, 3), seed=some(0, 99))
def test_each_example_counts_once(which, grid, times, share, seed):
    """By SGD at rate 1 an example moves by its weight's part of all, and a block by their sum, 1.

    So it is on one device, in one micro-batch, whatever the others weigh.
    """
    examples = math.prod(grid.values()) * times * share
    weight = np.float32(np.append(1, np.random.default_rng(seed).integers(0, 3, examples - 1)))
    strategy, model = counting(times, grid["data"])[which], weighing(examples, 2 * grid["other"])
    program = strategy.build(model, SGD, pdl.mesh(**grid))
    # Last first, so that no device keeps the gradients of just its own examples.
    state, _ = program.step(program.init(model.init(None)), (np.arange(examples)[::-1], weight))
    params = program.gather(state)
    np.testing.assert_allclose(-params["first"][::-1], weight / weight.sum(), atol=1e-6)
    np.testing.assert_allclose(-params["blocks"], 1, atol=1e-5)


RINGS = [pdl.RingAttention(), pdl.RingAttention(zigzag=True), pdl.Ulysses()]
SHARDED = [pdl.DataParallel(), *(pdl.ZeRO(stage=stage) for stage in (1, 2, 3)), pdl.FullySharded()]
CUT = {"mlp": "model", "expert": "expert", "layers": "stage"}  # axis of an array -> of the mesh
CUTTERS = {"mlp": pdl.TensorParallel(), "expert": ExpertParallel(), "layers": pdl.Pipeline()}
arrays = st.tuples(st.sets(st.sampled_from(list(CUT))), st.lists(some(1, 12), max_size=2))


@few
@given(
    st.sampled_from(SHARDED), grids("data", *CUT.values()), st.lists(arrays, min_size=1, max_size=3)
)
def test_keeps_its_share_and_no_more(first, grid, drawn):
    """Of each array a device keeps 1/n for each axis that cuts it; what does not divide, whole."""
    stage, n, mesh = getattr(first, "stage", 0), grid["data"], pdl.mesh(**grid)
    cut = {name for name in CUT if grid[CUT[name]] > 1 and (name, stage) != ("layers", 3)}
    strategy = functools.reduce(operator.or_, (CUTTERS[name] for name in sorted(cut)), first)
    axes = [(*sorted(named), *[None] * len(rest)) for named, rest in drawn]
    shapes = [(*[8] * len(named), *rest) for named, rest in drawn]
    model = PLAIN._replace(init=lambda key: [*map(jnp.zeros, shapes)], axes=axes)
    state = strategy.build(model, optax.adam(1.0), mesh).init(model.init(None))
    adam, held = state.optimizer[0], 8  # bytes: the steps of the state, and Adam's
    for names, shape, *kept in zip(axes, shapes, state.params, adam.mu, adam.nu, strict=True):
        ways = math.prod(grid[CUT[name]] for name in cut.intersection(names))
        free = [k for name, k in zip(names, shape, strict=True) if name not in {*cut, "layers"}]
        more = n if stage and any(k % n == 0 for k in free) else 1
        for array, parts in zip(kept, (more if stage == 3 else 1, more, more), strict=True):
            held += array.nbytes // (ways * parts)
            copies = np.zeros(shape, int)
            for piece in array.addressable_shards:
                copies[piece.index] += 1
            assert (copies * ways * parts == mesh.size).all()
    pieces = [piece for leaf in jax.tree.leaves(state) for piece in leaf.addressable_shards]
    for device in mesh.devices.flat:
        assert sum(piece.data.nbytes for piece in pieces if piece.device == device) == held


@few
@given(some(1, 4), some(1, 3), some(1, 3), st.booleans())
def test_each_layer_has_one_place_in_a_pipeline(stages, chunks, depth, folded):
    """A device's rows are its chunks' layers, chunk after chunk, momentum's too; and back."""
    interleaved = schedules.interleaved(stages, 2 * stages, chunks=chunks)
    table = schedules.zero_bubble_v(stages, 2 * stages) if folded else interleaved
    layers = np.arange(len(table.placement) * depth)
    of_chunk, params = layers.reshape(-1, depth), {"w": layers.astype(np.float32)}
    model = PLAIN._replace(init=lambda key: params, axes={"w": ("layers",)})
    program = pdl.Pipeline(table).build(model, optax.trace(0.9), pdl.mesh(stage=stages))
    state = program.init(params)
    for piece in state.params["w"].addressable_shards:
        (device,) = place_of(piece.device, program.mesh).values()
        here = of_chunk[[device, ~device]] if folded else of_chunk[device::stages]
        np.testing.assert_array_equal(piece.data, here.ravel())
    np.testing.assert_array_equal(program.gather(state)["w"], layers)
    moved = program.spread(state._replace(params=params, optimizer=optax.TraceState(params)))
    for there, expected in ((moved, state.params["w"]), (program.whole(moved), layers)):
        np.testing.assert_array_equal(there.params["w"], expected)
        np.testing.assert_array_equal(there.optimizer.trace["w"], expected)


@few
@given(st.sampled_from(RINGS), some(1, 8), some(1, 5))
def test_a_device_knows_which_tokens_it_has(strategy, devices, piece):
    """What `positions` says is where the tokens that a device is dealt stand; each is on one."""
    tokens = np.arange(2 * devices * piece)
    model, mesh = PLAIN._replace(batch_axes=("seq",)), pdl.mesh(seq=devices)
    positions = strategy.layers(mesh)["positions"]

    def seen(params, batch, micro=None):
        return batch, positions(len(batch))

    dealt = strategy.around(seen, lay_out(strategy, model, None, mesh))
    on_all = jax.shard_map(dealt, mesh=mesh, in_specs=(P(), P("seq")), out_specs=P("seq"))
    held, said = jax.jit(on_all)(None, tokens)
    np.testing.assert_array_equal(held, said)
    np.testing.assert_array_equal(np.sort(held), tokens)


@few
@given(some(1, 20), some(1, 6), some(1, 6), st.none() | st.floats(0.1, 2.0), some(0, 99))
def test_no_seat_is_taken_twice(tokens, experts, top_k, capacity, seed):
    """First choices, then earlier tokens take their expert's next slot; who finds none is dropped.

    There are `capacity` times an even share of them; a token's choices weigh as the gate says.
    """
    top_k = min(top_k, experts)
    x = np.random.default_rng(seed).normal(size=(tokens, experts)).astype(np.float32)
    slots = routing.slot_count(tokens, experts, top_k=top_k, capacity=capacity)
    route = jax.jit(functools.partial(routing.route, top_k=top_k, slots=slots))
    seats, figures = jax.device_get(route(x, np.eye(experts, dtype=np.float32)))
    best, taken = np.argsort(-x, 1)[:, :top_k], collections.Counter()
    np.testing.assert_array_equal(seats.expert, best)
    for choice, token in np.ndindex(top_k, tokens):
        assert seats.slot[token, choice] == taken[best[token, choice]]
        taken[best[token, choice]] += 1
    room = tokens if capacity is None else math.ceil(capacity * top_k * tokens / experts)
    seated = sum(min(load, room) for load in taken.values())
    assert (seats.slot < slots).sum() == seated == tokens * top_k - figures.dropped
    np.testing.assert_array_equal(figures.load, [taken[expert] for expert in range(experts)])
    of_best = np.take_along_axis(np.exp(x), best, 1)
    among = (of_best if top_k > 1 else np.exp(x)).sum(1, keepdims=True)
    np.testing.assert_allclose(seats.weight, of_best / among, rtol=1e-5)


RATIOS, RANKS = (0.05, 0.4, 1.0), (1, 3, 81)
CODECS = [*map(TopK, RATIOS), *map(RandomK, RATIOS), *map(PowerSGD, RANKS), Sign(), EightBit()]


@pytest.mark.parametrize("how", CODECS, ids=str)
@settings(few, max_examples=3)
@given(shape=st.lists(some(1, 9), max_size=3), devices=some(2, 8))
def test_a_codec_sends_the_bytes_that_it_says(how, shape, devices):
    """Message by message; at ratio 1 or full rank the total is the sum, and no residue is left."""
    mesh, cut = pdl.mesh(data=devices), P("data")

    def one(rows):
        key, x = jax.random.key(1), rows[0]
        return [y[None] for y in how.exchange(x, how.first(x), axes=("data",), key=key)[:2]]

    on_all = jax.shard_map(one, mesh=mesh, in_specs=cut, out_specs=cut, check_vma=False)
    rows = np.random.default_rng(0).normal(size=(devices, *shape)).astype(np.float32)
    said = how.messages(jax.ShapeDtypeStruct(shape, jnp.float32), devices)
    traced = asked(jax.make_jaxpr(on_all)(rows))
    assert sorted((each.kind, each.payload_bytes) for each in traced) == sorted(said)
    total, own = jax.jit(on_all)(rows)
    np.testing.assert_allclose(total, np.broadcast_to(own.sum(0), total.shape), atol=1e-4)
    if how in (TopK(1.0), RandomK(1.0), PowerSGD(81)):
        np.testing.assert_allclose(own, rows, atol=1e-5)
