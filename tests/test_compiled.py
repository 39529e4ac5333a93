"""What is counted in the compiled program."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AbstractMesh, NamedSharding
from jax.sharding import PartitionSpec as P

from pdlkit import workloads
from pdlkit.devices import mesh, simulate_devices
from pdlkit.measure.compiled import inspect
from pdlkit.measure.hlo import collectives
from pdlkit.measure.jaxpr import asked
from pdlkit.measure.traffic import traffic
from pdlkit.records import Collective, Program
from pdlkit.strategies.data import DataParallel
from pdlkit.strategies.strategy import donating, placed_shapes

SIZES = {"a": 2, "b": 4}
X = np.ones((8, 8), np.float32)  # a device's share is f32[4,2]: 32 bytes
AROUND = [(i, (i + 1) % 4) for i in range(4)]


@pytest.fixture(autouse=True)
def _eight_devices():
    simulate_devices(8)


def mapped(function, out=P("a", "b")):
    """Return `function` of one device's share of an array, on 2 x 4 devices."""
    return jax.jit(jax.shard_map(function, mesh=mesh(**SIZES), in_specs=P("a", "b"), out_specs=out))


def sent(function, *arguments, sizes=SIZES):
    return collectives(function.lower(*arguments).compile().as_text(), sizes)


def unsourced(found):
    return [each._replace(source="") for each in found]


def looped(send, lengths):
    """Return `send` once a turn of loops within loops; each turn needs the last one's x."""
    if not lengths:
        return lambda x: x + jnp.sin(send(x)).mean()
    turn = looped(send, lengths[1:])
    return lambda x: lax.scan(lambda x, _: (turn(x), None), x, length=lengths[0])[0]


ONE_OF_EACH = {
    "psum": (lambda x: lax.psum(x, "a"), ("all_reduce", ("a",), 2, 32, 2 * 32 // 2)),
    "psum of both": (
        lambda x: lax.psum(x, ("b", "a")),
        ("all_reduce", ("a", "b"), 8, 32, 2 * 7 * 32 // 8),
    ),
    "pmax": (lambda x: lax.pmax(x, "b"), ("all_reduce", ("b",), 4, 32, 2 * 3 * 32 // 4)),
    "all_gather": (lambda x: lax.all_gather(x, "b"), ("all_gather", ("b",), 4, 32, 3 * 32)),
    "psum_scatter": (
        lambda x: lax.psum_scatter(x, "a", tiled=True),
        ("reduce_scatter", ("a",), 2, 32, 32 // 2),
    ),
    "all_to_all": (
        lambda x: lax.all_to_all(x, "a", 0, 1, tiled=True),
        ("all_to_all", ("a",), 2, 32, 32 // 2),
    ),
    "ppermute": (lambda x: lax.ppermute(x, "b", AROUND), ("permute", ("b",), 4, 32, 32)),
}


@pytest.mark.parametrize("lengths", [(), (5,), (3, 5)], ids=["alone", "in a loop", "in two loops"])
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_each_collective_is_counted_as_often_as_it_runs(name, lengths):
    """A collective is asked for and sent once for every turn of the loops round it."""
    send, (kind, axes, group, payload, wire) = ONE_OF_EACH[name]
    program = mapped(looped(send, lengths))
    expected = Collective(kind, axes, group, payload, wire, times=int(np.prod(lengths)))
    assert unsourced(asked(jax.make_jaxpr(program)(X))) == [expected]
    assert unsourced(sent(program, X)) == [expected]


def test_what_the_compiler_adds_itself_is_counted():
    """A matrix product cut along the summed axis becomes one all-reduce of its result."""
    grid = mesh(**SIZES)
    product = jax.jit(jnp.matmul, out_shardings=NamedSharding(grid, P()))
    left = jax.ShapeDtypeStruct((16, 32), jnp.float32, sharding=NamedSharding(grid, P(None, "b")))
    right = jax.ShapeDtypeStruct((32, 8), jnp.float32, sharding=NamedSharding(grid, P("b", None)))
    size = 16 * 8 * 4
    expected = Collective("all_reduce", ("b",), 4, size, 2 * 3 * size // 4)
    assert unsourced(sent(product, left, right)) == [expected]
    assert asked(jax.make_jaxpr(product)(left, right)) == ()


def test_sums_that_the_compiler_merged_are_one_entry():
    """Two arrays summed together are asked for as two and sent as one, bytes unchanged."""
    program = mapped(lambda x: sum(lax.psum((x, x[:1] * x[1:2]), "a")))
    wanted, done = asked(jax.make_jaxpr(program)(X)), sent(program, X)
    assert [each.payload_bytes for each in wanted] == [32, 8]
    assert [each.payload_bytes for each in done] == [40]


def test_bfloat16_is_reported_as_compiled():
    """The CPU sums bfloat16 as float32: half the bytes are asked for that are sent."""
    program = mapped(lambda x: lax.psum(x, "a"), P(None, "b"))
    x = X.astype(jnp.bfloat16)
    assert [each.payload_bytes for each in asked(jax.make_jaxpr(program)(x))] == [16]
    assert [each.payload_bytes for each in sent(program, x)] == [32]


def test_a_group_of_one_sends_nothing():
    """Along an axis of one device nothing is sent, so nothing is listed."""
    sizes = {"a": 4, "one": 1}
    program = jax.jit(
        jax.shard_map(
            lambda x: lax.psum(lax.psum(x, "one"), "a"),
            mesh=mesh(**sizes),
            in_specs=P("a", "one"),
            out_specs=P(),
        )
    )
    assert [each.axes for each in sent(program, X, sizes=sizes)] == [("a",)]
    assert [each.axes for each in asked(jax.make_jaxpr(program)(X))] == [("a",)]


def test_of_a_conditional_the_heaviest_branch_counts():
    """A device takes one branch, and is counted as taking the one that sends most."""

    def once(x):
        return lax.ppermute(jnp.sin(x), "b", AROUND)

    def choose(x):
        return lax.cond(lax.axis_index("a") == 0, lambda x: once(once(x)), once, x)

    program = mapped(choose)
    for found in (sent(program, X), asked(jax.make_jaxpr(program)(X))):
        assert [each.in_branch for each in found] == [True, True]


def test_a_loop_of_unknown_length_is_said_to_be():
    """A loop that ends when its data says so counts as one turn, with a warning."""

    def until_large(x):
        return lax.while_loop(
            lambda x: x.max() < 100, lambda x: lax.ppermute(2 * x, "b", AROUND), x
        )

    program = mapped(until_large)
    line = until_large.__code__.co_firstlineno + 1
    expected = rf"loop at test_compiled.py:{line} .* counted once"
    with pytest.warns(UserWarning, match=expected):
        (done,) = sent(program, X)
    with pytest.warns(UserWarning, match=expected):
        (wanted,) = asked(jax.make_jaxpr(program)(X))
    assert done.times == wanted.times == 1


def test_the_line_that_asked_is_named():
    """Whatever calls it, a collective names the line that its `lax` call stands on."""

    def ask(x):
        return lax.psum(x, "a")

    program = mapped(lambda x: ask(jnp.sin(x)), P(None, "b"))
    line = f"test_compiled.py:{ask.__code__.co_firstlineno + 1}"
    assert [each.source for each in sent(program, X)] == [line]
    assert [each.source for each in asked(jax.make_jaxpr(program)(X))] == [line]


def summing(grid):
    """Return a program whose step sums the batch over all devices."""
    everywhere, cut = NamedSharding(grid, P()), P("data")

    def on_each_device(batch):
        return lax.psum(batch.sum(0), "data")

    add = jax.shard_map(on_each_device, mesh=grid, in_specs=cut, out_specs=P())
    return Program(
        init=jax.jit(lambda params: params, out_shardings=everywhere),
        step=jax.jit(lambda state, batch: (state + add(batch), {})),
        gather=jax.device_get,
        on=summing,
        mesh=grid,
    )


def only_traced(values):
    assert isinstance(values, jax.core.Tracer)
    return jnp.zeros(10)


WORK = SimpleNamespace(
    model=SimpleNamespace(init=only_traced),
    # On one device, as a learner may have it; the program decides where it will be.
    batch=lambda k: jax.device_put(np.zeros((64, 10)), jax.devices()[0]),
)


def test_a_report_joins_what_is_asked_sent_and_held():
    """A report gives wire bytes by the ring algorithm, and the bytes one device holds."""
    report = inspect(summing(mesh(data=8)), WORK)
    expected = Collective("all_reduce", ("data",), 8, 40, 2 * 7 * 40 // 8)
    assert unsourced(report.asked) == unsourced(report.collectives) == [expected]
    assert report.wire_bytes == 70
    assert report.mesh == {"data": 8}
    assert report.memory.arguments == 40 + 8 * 40  # the state whole, an eighth of the batch
    assert report.memory.outputs == 40


@pytest.mark.parametrize("elsewhere", [{"data": 64}, AbstractMesh((64,), ("data",))])
def test_a_mesh_that_is_not_here_is_compiled_for(elsewhere):
    """On 64 devices that do not exist, the group is 64 and each has one example."""
    report = inspect(summing(mesh(data=8)), WORK, mesh=elsewhere)
    (found,) = report.collectives
    assert (found.group, found.payload_bytes, found.wire_bytes) == (64, 40, -(-2 * 63 * 40 // 64))
    assert report.mesh == {"data": 64}
    assert report.memory.arguments == 40 + 40


def test_a_mesh_that_is_here_is_used():
    """A mesh of devices that are here is taken as it is."""
    report = inspect(summing(mesh(data=8)), WORK, mesh=mesh(data=2))
    assert [each.group for each in report.collectives] == [2]


def test_a_mesh_that_the_batch_does_not_fit_is_refused():
    """The batch keeps its size on another mesh, and the strategy says where it is too small."""
    work = workloads.digits_mlp()
    program = DataParallel().build(work.model, work.optimizer, mesh(data=8))
    with pytest.raises(ValueError, match=r"128 examples .* data=256\.\n  why: .*\n  try: "):
        inspect(program, work, mesh={"data": 256})


def test_nothing_is_run_nor_need_it_be_jitted():
    """A learner's own functions need no `jit`, and are only ever traced."""
    program = summing(mesh(data=8))

    def step(state, batch):
        only_traced(batch)
        return program.step(state, batch)

    own = program._replace(init=only_traced, step=step)
    expected = unsourced(inspect(program, WORK).collectives)
    assert unsourced(inspect(own, WORK).collectives) == expected


@pytest.mark.parametrize("work", ["digits_cnn", "autoencoder", "gan"])
def test_bytes_accessed_are_the_compilers_own(work):
    """Without loops, what operations and messages touch is XLA's count, to a thousandth."""
    work = getattr(workloads, work)()
    program = DataParallel().build(work.model, work.optimizer, mesh(data=2))
    state, batch = placed_shapes(program, work.model), jax.eval_shape(lambda b: b, work.batch(0))
    analysis = donating(program.step).lower(state, batch).compile().cost_analysis()
    found = analysis[0] if isinstance(analysis, list) else analysis  # a list before JAX 0.10
    report = inspect(program, work)
    sent = sum(2 * each.payload_bytes for each in report.collectives)  # read, and written
    assert report.bytes_accessed + sent == pytest.approx(found["bytes accessed"], rel=1e-3)
    assert report.operations > 10


def test_a_loop_touches_its_slices_once():
    """A scan over [8, 4, 4] reads a slice a turn, writes a slice a turn, and starts as often."""
    x = np.ones((8, 64, 64), np.float32)

    def one(x):
        return jnp.cos(x @ x)

    def scanned(x):
        return lax.scan(lambda carry, x: (carry, one(x)), 0.0, x)[1]

    alone = traffic(jax.jit(one).lower(x[0]).compile().as_text())
    found = traffic(jax.jit(scanned).lower(x).compile().as_text())
    assert 8 * alone.operations <= found.operations <= 8 * alone.operations + 40
    assert 8 * alone.bytes_accessed <= found.bytes_accessed < 2 * 8 * alone.bytes_accessed
