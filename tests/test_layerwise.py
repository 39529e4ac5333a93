"""Whole layers on different devices: exact, and one device at work at a time."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import plain
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from test_law import OPTIMIZERS, STEPS, alone, assert_close, run

import pdlkit as pdl
from pdlkit.strategies.layerwise import LayerPlacement
from pdlkit.strategies.owners import owner_computes
from pdlkit.strategies.pieces import Recorder, Runner, on_one


@pytest.fixture(scope="module")
def deep(digits):
    """The digits by four narrow blocks."""
    model = pdl.models.mlp(64, 10, embed=8, hidden=16, blocks=4)
    return dataclasses.replace(digits, model=model)


def test_same_weights_as_one_device(deep):
    """Five steps over four devices leave the weights and losses of one."""
    batches = [deep.batch(k) for k in range(STEPS)]
    start = deep.model.init(jax.random.key(0))
    params, losses = plain.train(deep.model.loss, optax.sgd(0.1), start, batches)
    here, seen = run(LayerPlacement(), {"stage": 4}, deep, optax.sgd(0.1))
    assert_close(here, params, 1e-6)
    np.testing.assert_allclose([metrics.loss for metrics in seen], losses, rtol=1e-5)
    assert seen[0].device_loss.shape == (4,)


def test_convolutions_here_and_dense_layers_there():
    """A network without blocks is cut in two, and stays one network."""
    work = pdl.workloads.digits_cnn()
    work = dataclasses.replace(work, model=pdl.models.cnn(channels=(4, 8)))
    start = work.model.init(jax.random.key(0))
    params, _ = plain.train(work.model.loss, optax.sgd(0.05), start, [work.batch(0)])
    here, _ = run(LayerPlacement(), {"stage": 2}, work, optax.sgd(0.05), steps=1)
    assert_close(here, params, 2e-6)


@pytest.mark.parametrize("optimizer", ["clipped", "lamb", "adafactor"])
def test_optimizers_that_look_across_arrays(optimizer, digits):
    """Clipping by the global norm, LAMB and Adafactor see what one device's would."""
    transform, tolerance = OPTIMIZERS[optimizer]
    here, _ = run(LayerPlacement(), {"stage": 2}, digits, transform)
    assert_close(here, alone(optimizer)[0], tolerance)


def test_the_check_agrees_for_adam(deep):
    """`check.same_update` passes, with the workload's own Adam too."""
    program = LayerPlacement().build(deep.model, deep.optimizer, pdl.mesh(stage=2))
    assert "same updates" in str(pdl.check.same_update(program, deep))


def test_no_device_holds_the_layers_of_another(deep):
    """After a step, weights and Adam's memory of them lie where their layer is."""
    mesh = pdl.mesh(stage=4)
    program = LayerPlacement().build(deep.model, optax.adam(1e-3), mesh)
    state, _ = program.step(program.init(deep.model.init(jax.random.key(0))), deep.batch(0))
    for held in (state.params, state.optimizer[0].mu):
        assert {x.device for x in jax.tree.leaves(held["first"])} == {mesh.devices[0]}
        assert {x.device for x in jax.tree.leaves(held["last"])} == {mesh.devices[3]}
        for stacked in jax.tree.leaves(held["blocks"]):
            assert [len(piece.data) for piece in stacked.addressable_shards] == [1] * 4
            assert stacked.sharding.device_set == set(mesh.devices)


class Watching(Runner):
    """Runs pieces one after another, and keeps where each ran."""

    def __init__(self):
        self.places, self.sent = [], []

    def run(self, function, place, *arguments):
        self.places.append(place.device_set)
        return jax.block_until_ready(super().run(function, place, *arguments))

    def send(self, tree, source, target):
        self.sent += [(source, target)] * (source is not None and tree is not None)
        return super().send(tree, source, target)


def test_one_device_works_while_the_others_wait(deep):
    """Forward from the first to the last, and back: never two at a time.

    Each piece takes what the one before it sent: there is no other order. This is why
    pipelines exist.
    """
    mesh, seen = pdl.mesh(stage=4), Watching()
    program = LayerPlacement().build(deep.model, optax.sgd(0.1), mesh)
    state = program.init(deep.model.init(jax.random.key(0)))
    program.step.through(seen, state, deep.batch(0))
    there, places = [{device} for device in mesh.devices], seen.places[:8]
    assert places == there + there[::-1]
    chain = [next(iter(place)) for place in places]
    sent = [(next(iter(a.device_set)), next(iter(b.device_set))) for a, b in seen.sent]
    assert [hop for hop in sent if hop[0] != hop[1]] == [
        hop for hop in itertools.pairwise(chain) if hop[0] != hop[1]
    ]


def test_moves_activations_there_and_gradients_back(deep):
    """Over each of three boundaries [128, 8] numbers go on, and as many come back."""
    mesh = pdl.mesh(stage=4)
    moves = LayerPlacement().moves(deep.model, mesh)
    assert [move.payload_bytes for move in moves[:3] + moves[-3:]] == [128 * 8 * 4] * 6
    assert {(move.kind, move.axes, move.group, move.times) for move in moves} == {
        ("copy", ("stage",), 2, 1)
    }
    assert sum(move.wire_bytes for move in moves) == 6 * 128 * 8 * 4
    report = pdl.inspect(LayerPlacement().build(deep.model, optax.sgd(0.1), mesh), deep)
    assert report.asked == report.collectives == moves


def test_adam_sends_nothing_of_its_own(deep):
    """Adam works weight by weight, so it runs where each is: only activations are sent."""
    mesh = pdl.mesh(stage=4)
    report = pdl.inspect(LayerPlacement().build(deep.model, optax.adam(1e-3), mesh), deep)
    assert report.asked == LayerPlacement().moves(deep.model, mesh)


def test_clipping_sends_norms_and_no_weights(digits):
    """What the optimizer must know of other devices' arrays is a number for each place."""
    mesh = pdl.mesh(stage=2)
    program = LayerPlacement().build(digits.model, OPTIMIZERS["clipped"][0], mesh)
    report = pdl.inspect(program, digits)
    rest = set(report.asked) - set(LayerPlacement().moves(digits.model, mesh))
    assert {each.payload_bytes for each in rest} == {4}


def test_the_operations_are_shared_out(digits):
    """Each device computes its own layers; the busiest of two has more than half."""
    one, two = (
        pdl.inspect(strategy.build(digits.model, optax.sgd(0.1), mesh), digits)
        for strategy, mesh in (
            (pdl.OneDevice(), pdl.mesh(data=1)),
            (LayerPlacement(), pdl.mesh(stage=2)),
        )
    )
    block = 3 * 2 * 2 * 128 * 64 * 128  # forward and two gradients of two products
    first = 2 * 2 * 128 * 64 * 64  # nobody asks for the gradient of the batch
    last = 3 * 2 * 128 * 64 * 10
    assert one.flops == 2 * block + first + last
    assert two.flops == block + first


def test_each_piece_is_started_by_the_host(deep):
    """A step in pieces is as many programs as it has pieces and copies; any other is one."""
    one = pdl.DataParallel().build(deep.model, optax.sgd(0.1), pdl.mesh(data=2))
    assert pdl.inspect(one, deep).programs == 1
    mesh = pdl.mesh(stage=2)
    report = pdl.inspect(LayerPlacement().build(deep.model, optax.sgd(0.1), mesh), deep)
    copies = sum(each.kind == "copy" for each in report.asked)
    assert report.programs >= copies + 2 * 2  # forward and backward on each device at least
    host = dataclasses.replace(pdl.hardware.h100, host_seconds=1.0)
    found = pdl.predict(report, pdl.cluster(host, devices=2))
    assert found.compute_seconds == pytest.approx(report.programs, rel=0.01)


def test_it_trains_in_the_loop(deep, tmp_path):
    """`fit`, `save`, `load` and a change of devices in the midst of it work as ever."""

    def fewer(record):
        return pdl.Set(devices=2) if record.step == 4 else None

    program = LayerPlacement().build(deep.model, deep.optimizer, pdl.mesh(stage=4))
    run = pdl.fit(program, deep, steps=8, watch=fewer)
    assert [record.device_loss.size for record in run.history] == [4] * 5 + [2] * 3
    one = pdl.fit(
        pdl.OneDevice().build(deep.model, deep.optimizer, pdl.mesh(data=1)), deep, steps=8
    )
    assert_close(run.params, one.params, 1e-4)
    pdl.save(run, tmp_path / "run.npz")
    back = pdl.load(tmp_path / "run.npz", program, deep)
    assert_close(back.params, run.params, 0)
    assert jax.tree.leaves(back.state.params["last"])[0].device == program.mesh.devices[3]


@pytest.mark.parametrize(
    ("name", "axes", "message"),
    [
        ("digits_mlp", {"stage": 4}, r"2 blocks do not divide among stage=4(.|\n)*with 4 blocks"),
        ("digits_cnn", {"stage": 4}, r"cannot go on stage=4(.|\n)*pdl.mesh\(stage=2\)"),
        ("gan", {"stage": 2}, "does not say where it can be cut"),
        ("digits_mlp", {"stage": 2, "data": 2}, "along `stage` alone, but this mesh is stage=2 x"),
        ("digits_mlp", {"data": 2}, "works along mesh axis `stage`"),
    ],
)
def test_models_that_cannot_be_placed(name, axes, message):
    """What does not fit the devices is told in `build`, with what would."""
    work = getattr(pdl.workloads, name)()
    with pytest.raises(ValueError, match=message):
        LayerPlacement().build(work.model, work.optimizer, pdl.mesh(**axes))


def test_owners_compute():
    """Each equation runs where its largest array is; sums travel, and constants are remade."""
    mesh = pdl.mesh(stage=2)
    here, there, all_over = (
        on_one(mesh.devices[0]),
        on_one(mesh.devices[1]),
        NamedSharding(mesh, P()),
    )

    def scaled(a, b):
        whole = jnp.sum(a) + jnp.sum(b)
        return a * whole, b / whole + jnp.arange(3.0), jnp.zeros(4), 2.0

    a, b = jnp.arange(8.0), jnp.arange(3.0)
    shapes, results = (a, b), (here, there, there, all_over)
    compute = owner_computes(
        scaled, shapes, places=(here, there), results=results, everywhere=all_over
    )
    found = compute(Runner(), jax.device_put(a, here), jax.device_put(b, there))
    assert_close(found, scaled(a, b), 1e-6)
    assert [x.sharding.device_set for x in found] == [x.device_set for x in results]
    recorder = Recorder(mesh)
    compute(recorder, *shapes)
    # Two sums to where they are added up; from there both have the total already.
    assert [copy.payload_bytes for copy in recorder.copies] == [4, 4]
