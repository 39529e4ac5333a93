"""Collectives hop by hop: each is `lax`'s own, and sends what its table says."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.sharding import PartitionSpec as P
from numpy.lib.stride_tricks import sliding_window_view

from pdlkit import collectives
from pdlkit.collectives import Hop, Hops
from pdlkit.collectives.running import permutes
from pdlkit.compat import vary, varying_axes
from pdlkit.devices import mesh
from pdlkit.measure.jaxpr import asked

AXES = ("across", "inside")  # a ring goes through both, row by row


class Case(NamedTuple):
    """A collective, the table it follows, and the one of `lax` that it equals."""

    ours: Callable  # x -> result; both inside of `shard_map`, along AXES
    lax: Callable
    hops: Callable  # devices across, devices inside -> Hops
    permutes: int = 1  # a tick, on three devices or more


def summed(x):
    return vary(lax.psum(x, AXES), AXES)


def flat(hops, **options):
    return lambda across, inside: hops(across * inside, **options)


def swapped(hops):
    return lambda across, inside: hops(inside, across)


CASES = {
    "ring all-reduce": Case(
        lambda x: collectives.ring_all_reduce(x, AXES),
        summed,
        flat(collectives.ring_all_reduce_hops),
    ),
    "bidirectional ring all-reduce": Case(
        lambda x: collectives.bidirectional_ring_all_reduce(x, AXES),
        summed,
        flat(collectives.bidirectional_ring_all_reduce_hops),
        permutes=2,
    ),
    "tree all-reduce": Case(
        lambda x: collectives.tree_all_reduce(x, AXES),
        summed,
        flat(collectives.tree_all_reduce_hops),
    ),
    "halving-doubling all-reduce": Case(
        lambda x: collectives.halving_doubling_all_reduce(x, AXES),
        summed,
        flat(collectives.halving_doubling_all_reduce_hops),
    ),
    "hierarchical all-reduce": Case(
        lambda x: collectives.hierarchical_all_reduce(x, "inside", "across"),
        summed,
        swapped(collectives.hierarchical_all_reduce_hops),
    ),
    "reduce-scatter": Case(
        lambda x: collectives.ring_reduce_scatter(x, AXES, dimension=1),
        lambda x: lax.psum_scatter(x, AXES, scatter_dimension=1, tiled=True),
        flat(collectives.ring_reduce_scatter_hops),
    ),
    "all-gather": Case(
        lambda x: collectives.ring_all_gather(x, AXES, dimension=1),
        lambda x: lax.all_gather(x, AXES, axis=1, tiled=True),
        flat(collectives.ring_all_gather_hops),
    ),
    "broadcast": Case(
        lambda x: collectives.tree_broadcast(x, AXES, root=0),
        lambda x: lax.all_gather(x, AXES)[0],
        flat(collectives.tree_broadcast_hops),
    ),
    "all-to-all": Case(
        lambda x: collectives.all_to_all(x, AXES, 1, 0),
        lambda x: lax.all_to_all(x, AXES, 1, 0, tiled=True),
        flat(collectives.all_to_all_hops),
    ),
    "ring shift": Case(
        lambda x: collectives.ring_shift(x, AXES),
        lambda x: lax.ppermute(x, AXES, [(i, (i + 1) % ring()) for i in range(ring())]),
        flat(collectives.ring_shift_hops),
    ),
}
ALL_REDUCES = [name for name in CASES if name.endswith("all-reduce")]
GRIDS = [(1, 1), (2, 1), (2, 3), (2, 4)]  # devices across, inside
each_case = pytest.mark.parametrize("name", CASES)


def ring() -> int:
    return lax.axis_size(AXES)


def on(grid, function, *arguments):
    """Return what a function of each device's share gives, one row a device."""
    return jax.jit(spread(grid, function))(*arguments)


def spread(grid, function):
    def share(*rows):
        results = function(*(row[0] for row in rows))
        return jax.tree.map(lambda result: vary(result, AXES)[None], results)

    axes = mesh(across=grid[0], inside=grid[1])
    return jax.shard_map(share, mesh=axes, in_specs=P(AXES), out_specs=P(AXES))


def numbers(*shape, dtype=np.float32):
    """Return whole numbers, whose sum is the same in any order."""
    return np.random.default_rng(0).integers(-9, 10, shape).astype(dtype)


def takes(name, devices) -> bool:
    return "halving" not in name or devices.bit_count() == 1


def cases(counts):
    """Return each case with each number of devices that it takes."""
    return [(name, count) for name in CASES for count in counts if takes(name, int(np.prod(count)))]


@pytest.mark.parametrize(("name", "grid"), cases(GRIDS), ids=str)
def test_devices_lax_and_a_replay_agree(name, grid):
    """Carried out by devices, by `lax` itself, or by NumPy: the numbers are the same."""
    case, hops = CASES[name], CASES[name].hops(*grid)
    x = numbers(hops.devices, 1, 2 * hops.devices, 1)
    ours, laxs = on(grid, lambda x: (case.ours(x), case.lax(x)), x)
    np.testing.assert_array_equal(ours, laxs)
    played = collectives.play(hops, x.reshape(hops.devices, -1))
    np.testing.assert_array_equal(ours.reshape(hops.devices, -1), played.result)


@each_case
def test_gradients_are_those_of_laxs_own(name):
    """What comes back through the hops is what comes back through `lax`'s own."""

    def back(collective, x):
        result, pull = jax.vjp(collective, x)
        weights = jnp.arange(result.size, dtype=x.dtype).reshape(result.shape)
        return pull(weights + 7 * lax.axis_index(AXES).astype(x.dtype))

    case = CASES[name]
    ours, laxs = on((2, 2), lambda x: (back(case.ours, x), back(case.lax, x)), numbers(4, 3, 8, 2))
    np.testing.assert_array_equal(ours, laxs)


@pytest.mark.parametrize("name", ["ring all-reduce", "broadcast"])
def test_any_shape_and_dtype(name):
    """An array need not divide among the devices; it comes back as it went in."""
    case = CASES[name]
    arrays = [
        numbers(3),
        numbers(3, 5).astype(jnp.bfloat16),
        numbers(3, 2, 7, dtype=np.int32),
        numbers(3, 2, 0, 3),
    ]
    ours, laxs = on((1, 3), lambda *xs: [list(map(each, xs)) for each in case[:2]], *arrays)
    for array, result, expected in zip(arrays, ours, laxs, strict=True):
        assert (result.shape, result.dtype) == (array.shape, array.dtype)
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(("cut", "joined"), [(0, 2), (1, 1), (-1, -3)])
def test_any_dimension(cut, joined):
    """Whichever dimension is cut or grows, the parts lie as `lax` lays them."""
    axis = "inside"

    def both(x):
        return (
            collectives.all_to_all(x, axis, cut, joined),
            collectives.ring_all_gather(x, axis, dimension=joined),
            collectives.ring_reduce_scatter(x, axis, dimension=cut),
        ), (
            lax.all_to_all(x, axis, cut % 3, joined % 3, tiled=True),
            lax.all_gather(x, axis, axis=joined % 3, tiled=True),
            lax.psum_scatter(x, axis, scatter_dimension=cut % 3, tiled=True),
        )

    jax.tree.map(np.testing.assert_array_equal, *on((1, 3), both, numbers(3, 3, 6, 9)))


@each_case
def test_the_program_asks_for_what_the_table_says(name):
    """As many `ppermute`s are traced as the table has messages, with as many bytes."""
    case, grid = CASES[name], (2, 4)
    hops, x = case.hops(*grid), numbers(8, 8, 48)
    found = asked(jax.make_jaxpr(spread(grid, case.ours))(x))
    chunk = x[0].nbytes // len(hops.begin[0])
    assert [each.kind for each in found] == ["permute"] * case.permutes * hops.ticks
    assert sum(each.wire_bytes for each in found) == case.permutes * hops.in_turn * chunk
    assert [each.wire_bytes // chunk for each in found] == list(permutes(hops))


LOG = {devices: (devices - 1).bit_length() for devices in (1, 2, 3, 4, 6, 8, 16, 64)}  # rounded up
COSTS = {  # devices -> ticks; what the busiest device sends, and what crosses in turn, in arrays
    "ring all-reduce": lambda p: (2 * (p - 1), 2 * (p - 1) / p, 2 * (p - 1) / p),
    "bidirectional ring all-reduce": lambda p: (2 * (p - 1), 2 * (p - 1) / p, (p - 1) / p),
    "tree all-reduce": lambda p: (2 * LOG[p], LOG[p], 2 * LOG[p]),
    "halving-doubling all-reduce": lambda p: (2 * LOG[p], 2 * (p - 1) / p, 2 * (p - 1) / p),
    "reduce-scatter": lambda p: (p - 1, (p - 1) / p, (p - 1) / p),
    "all-gather": lambda p: (p - 1, p - 1, p - 1),
    "broadcast": lambda p: (LOG[p], LOG[p], LOG[p]),
    "all-to-all": lambda p: (p - 1, (p - 1) / p, (p - 1) / p),
    "ring shift": lambda p: (min(p - 1, 1),) * 3,
}


@pytest.mark.parametrize("name", COSTS)
def test_costs_are_the_closed_forms(name):
    """Ticks and bytes are those of Thakur et al. 2005; the tree's, of a binomial tree."""
    for devices in (devices for devices in LOG if takes(name, devices)):
        if name == "bidirectional ring all-reduce" and devices == 2:
            continue  # both ways are one link
        hops = CASES[name].hops(1, devices)
        chunks = len(hops.begin[0])
        counted = hops.ticks, max(hops.sent) / chunks, hops.in_turn / chunks
        assert counted == pytest.approx(COSTS[name](devices))


@pytest.mark.parametrize(("inside", "across"), [(4, 2), (8, 16), (1, 4), (4, 1)])
def test_a_hierarchy_sends_little_across(inside, across):
    """Each device sends 2 (g - 1) / g inside, and 2 (N - 1) / N of 1 / g of it across."""
    hops = collectives.hierarchical_all_reduce_hops(inside, across)
    far = sum(hop.source // inside != hop.target // inside for hop in hops.hops)
    near, arrays = len(hops.hops) - far, hops.devices * hops.slots
    assert far / arrays == pytest.approx(2 * (across - 1) / across / inside)
    assert near / arrays == pytest.approx(2 * (inside - 1) / inside)
    assert hops.ticks == 2 * (inside - 1) + 2 * (across - 1)


@settings(max_examples=10, deadline=None)
@given(devices=st.integers(1, 9), root=st.integers(0, 8), by=st.integers(-9, 9))
def test_tables_hold_for_any_number_of_devices(devices, root, by):
    """Sums, parts, copies and turns come out right on 1 to 9 devices."""
    values = numbers(devices, 2 * devices)
    total = np.tile(values.sum(0), (devices, 1))
    root %= devices
    expected = [
        (collectives.ring_all_reduce_hops(devices), total),
        (collectives.tree_all_reduce_hops(devices), total),
        (collectives.ring_reduce_scatter_hops(devices), values.sum(0).reshape(devices, -1)),
        (collectives.ring_all_gather_hops(devices), np.tile(values.ravel(), (devices, 1))),
        (collectives.tree_broadcast_hops(devices, root=root), values[[root] * devices]),
        (
            collectives.all_to_all_hops(devices),
            values.reshape(devices, devices, 2).swapaxes(0, 1).reshape(devices, -1),
        ),
        (collectives.ring_shift_hops(devices, by=by), np.roll(values, by, axis=0)),
    ]
    for hops, result in expected:
        np.testing.assert_array_equal(collectives.play(hops, values).result, result)


@settings(max_examples=10, deadline=None)
@given(
    devices=st.integers(1, 5),
    rows=st.integers(1, 4),
    above=st.integers(0, 9),
    below=st.integers(0, 9),
)
def test_a_halo_is_the_image_round_a_slab(devices, rows, above, below):
    """Its rows are those of the whole image; a row goes one slab a tick, none from outside."""
    hops = collectives.halo_exchange_hops(devices, rows, above, below)
    image = numbers(devices * rows) + 20  # no row is zero
    played = collectives.play(hops, image.reshape(devices, rows))
    seen = sliding_window_view(np.pad(image, (above, below)), above + rows + below)[::rows]
    np.testing.assert_array_equal(played.result, seen)
    assert hops.ticks == min(-(-max(above, below) // rows), devices - 1)
    behind = [rows * device for device in range(devices)]  # rows of the image on one side
    assert len(hops.hops) == sum(min(above, each) + min(below, each) for each in behind)


@pytest.mark.parametrize(("above", "below"), [(1, 1), (0, 2), (5, 3), (0, 0)])
def test_a_halo_and_its_gradient_are_one_devices(above, below):
    """Devices receive what one device reads, and gradients flow back the same way."""
    image, weights = numbers(3, 8, 2), numbers(4, 3, 2 + above + below, 2)

    def exchanged(image):
        def share(slab):
            return collectives.halo_exchange(slab, "inside", above, below, dimension=1)[None]

        axes = mesh(inside=4)
        rows, each = P(None, "inside"), P("inside")
        return jax.shard_map(share, mesh=axes, in_specs=rows, out_specs=each)(image)

    def read(image):
        padded = jnp.pad(image, ((0, 0), (above, below), (0, 0)))
        return jnp.stack([padded[:, at : at + above + 2 + below] for at in (0, 2, 4, 6)])

    def with_gradient(function):
        result, back = jax.vjp(jax.jit(function), image)
        return result, *back(result * weights)

    jax.tree.map(np.testing.assert_array_equal, with_gradient(exchanged), with_gradient(read))


def test_an_axis_beside_others_is_left_alone():
    """A ring along one axis of a mesh runs once for each place on the others."""
    x = numbers(2, 3, 4)
    share = jax.shard_map(
        lambda x: collectives.ring_all_reduce(x, "inside"),
        mesh=mesh(across=2, inside=3),
        in_specs=P("across", "inside"),
        out_specs=P("across", "inside"),
    )
    np.testing.assert_array_equal(jax.jit(share)(x), np.tile(x.sum(1, keepdims=True), (1, 3, 1)))


@pytest.mark.parametrize("devices", [1, 3])
def test_what_all_devices_share_counts_once_for_each(devices):
    """An array that is the same everywhere is summed, and its gradient, once a device."""

    def share(x):
        summed = collectives.ring_all_reduce(x, "inside")
        assert varying_axes(summed) == {"inside"}  # on one device too, so that types agree
        return summed

    axes, x = mesh(inside=devices), numbers(4)
    spread_out = jax.shard_map(share, mesh=axes, in_specs=P(), out_specs=P("inside"))
    result, back = jax.vjp(jax.jit(spread_out), x)
    np.testing.assert_array_equal(result, np.tile(devices * x, devices))
    np.testing.assert_array_equal(back(np.ones_like(result)), [np.full(4, devices**2)])


def test_a_table_of_ones_own_runs_and_plays():
    """A tick sends what was there before it; devices and replay follow any table."""
    everyone = tuple(Hop(0, device, 0, 0, into=device) for device in (1, 2))
    onwards = (Hop(1, 0, 1, 0, reduces=True), Hop(1, 1, 2, 0), Hop(1, 1, 0, 0, True, into=2))
    mine = Hops("mine", 3, ((0,),) * 3, ((0, 1, 2),) * 3, everyone + onwards)
    values = np.array([[1], [10], [100]])
    here = on((1, 3), lambda x: collectives.run(mine, x[None], AXES).ravel(), values)
    assert here.tolist() == [[1, 10, 110], [11, 0, 0], [10, 0, 0]]
    np.testing.assert_array_equal(collectives.play(mine, values).result, here)


def test_chunks_are_counted_from_the_back_too():
    """`dimension=-1` is the last."""
    hops = collectives.ring_all_gather_hops(3)
    values = np.arange(6).reshape(3, 2)  # two rows of one chunk for each device
    ran = lambda dimension: on(  # noqa: E731
        (1, 3), lambda x: collectives.run(hops, x[:, None], AXES, dimension=dimension), values
    )
    np.testing.assert_array_equal(ran(1), ran(-1))


def test_a_play_remembers_every_tick():
    """After each tick it knows what each device holds, and what is still to come."""
    played = collectives.play(collectives.ring_all_gather_hops(3), [[4], [5], [6]])
    assert played.states[..., 0].tolist() == [
        [[4, 0, 0], [0, 5, 0], [0, 0, 6]],
        [[4, 0, 6], [4, 5, 0], [0, 5, 6]],
        [[4, 5, 6], [4, 5, 6], [4, 5, 6]],
    ]
    assert played.held.sum((1, 2)).tolist() == [3, 6, 9]


def hops_of(*hops):
    every = ((0, 1),) * 3
    return Hops("mine", 2, every, every, hops)


def once(function, *shape):
    return lambda: jax.eval_shape(spread((1, 3), function), np.ones((3, *shape), np.float32))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (
            lambda: collectives.halving_doubling_all_reduce_hops(6),
            r"6 devices cannot halve.*\n.*partner.*\n.*4 or 8 devices, or ring_all_reduce",
        ),
        (
            once(lambda x: collectives.ring_reduce_scatter(x, "inside"), 4),
            r"dimension 0 of \[4\] is 4 long.* 3 chunks.*\n.*one size.*\n.*3 or 6",
        ),
        (
            once(lambda x: collectives.ring_all_gather(x, "inside", dimension=1), 4),
            r"dimension=1 is not one of \[4\].*\n.*counted from 0.*\n.*0 to 0",
        ),
        (
            once(lambda x: collectives.ring_all_gather(x, "inside")),
            r"dimension=0 is not one of \[\].*\n.*\n.*x\[None\]",
        ),
        (
            once(lambda x: collectives.tree_broadcast(x, "inside", root=3), 4),
            r"root=3 is none of 3 devices.*\n.*counted from 0.*\n.*0 to 2",
        ),
        (
            once(lambda x: collectives.halo_exchange(x, "inside", -1, 0, dimension=0), 4),
            r"slabs of 4 rows with -1 above and 0 below.*\n.*\n.*0 or more",
        ),
        (
            once(lambda x: collectives.run(hops_of(), x, "inside"), 4),
            r"<mine: devices=3, ticks=0> was run by 3 devices, each with 4 .*\n.*\n.*\(2, -1\)",
        ),
        (lambda: hops_of(Hop(0, 2, 3, 0)), r"target=3.* 3 devices of 2 slots.*\n.*0 to 2.*\n.*% 3"),
        (lambda: hops_of(Hop(0, 0, 1, 2)), r"chunk=2.*\n.*0 to 1, in tick 0 or later"),
        (
            lambda: hops_of(Hop(1, 0, 1, 0), Hop(1, 2, 1, 1, into=0)),
            r"two chunks arrive in slot 0 of device 1 in tick 1.*\n.*\n.*tick=2",
        ),
        (
            lambda: collectives.play(hops_of(), np.ones((2, 4))),
            r"values of shape \[2, 4\] are not \[3, n\].*\n.*a row.*\n.*reshape\(3, -1\)",
        ),
        (
            lambda: collectives.play(hops_of(), np.ones((3, 5))),
            r"dimension 1 of \[3, 5\] is 5 long.*2 chunks.*\n.*\n.*4 or 6",
        ),
        (
            lambda: collectives.play(hops_of(), np.ones((3, 4))).at(1),
            r"cannot be looked at after 1.*\n.*over after 0.*\n.*at\(0\)",
        ),
    ],
)
def test_what_cannot_be_is_explained(wrong, says):
    """An error names the reader's own numbers, why, and what to try."""
    with pytest.raises(ValueError, match=says):
        wrong()
