"""Runs in files: whole or not there at all, and never silently wrong."""

import dataclasses
import io
import pickle
import random
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pdlkit as pdl


@pytest.fixture(scope="module")
def patients():
    """A small real workload, with an optimizer that remembers much (Adam) and a note."""
    work = pdl.workloads.diabetes_mlp()
    model = pdl.models.mlp(10, 1, embed=8, hidden=8, head=pdl.models.regress)

    def loss(params, batch, layers=pdl.Layers()):  # noqa: B008
        layers.note("first rows", batch[0][:2])
        return model.loss(params, batch, layers)

    return dataclasses.replace(work, model=model._replace(loss=loss))


@pytest.fixture(scope="module")
def program(patients):
    return pdl.DataParallel().build(patients.model, patients.optimizer, pdl.mesh(data=8))


@pytest.fixture(scope="module")
def run(program, patients):
    """Five steps, stopped by hand."""
    stop = lambda record: pdl.Stop() if record.step == 4 else None  # noqa: E731
    return pdl.fit(program, patients, steps=10, watch=stop)


@pytest.fixture
def saved(run, tmp_path):
    return pdl.save(run, tmp_path / "run.npz")


def assert_equal(tree, other):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(tree), jax.device_get(other))


def assert_same_run(run, other):
    assert (run.name, run.ended) == (other.name, other.ended)
    assert_equal(run.state, other.state)
    assert len(run.history) == len(other.history)
    for one, two in zip(run.history, other.history, strict=True):
        assert (one.step, one.seconds, one.loss) == (two.step, two.seconds, two.loss)
        assert_equal(one.metrics, two.metrics)


# --- there and back


def test_a_run_comes_back_as_it_was(run, saved, program, patients):
    """Every number of a run comes back to the last bit: state, history, notes, how it ended."""
    back = pdl.load(saved, program, patients)
    assert run.ended == back.ended == "stopped"
    assert_same_run(run, back)
    for here, there in zip(*map(jax.tree.leaves, (back.state, run.state)), strict=True):
        assert here.dtype == there.dtype
        assert here.sharding.is_equivalent_to(there.sharding, here.ndim)
    assert back.history[3].notes["first rows"].shape == (8, 2, 10)


def test_a_weighted_loss_comes_back_too(patients, tmp_path):
    """Where devices hold unequal shares, their weights are kept, and so is the loss."""

    def loss(params, batch, layers=pdl.Layers()):  # noqa: B008
        held = (batch[0][:, 0] > 0).astype(jnp.float32)
        losses = (patients.model.predict(params, batch, layers) - batch[1])[:, 0] ** 2
        return layers.mean((held * losses).sum(), held.sum())

    work = dataclasses.replace(patients, model=patients.model._replace(loss=loss))
    program = pdl.DataParallel().build(work.model, work.optimizer, pdl.mesh(data=8))
    run = pdl.fit(program, work, steps=3)
    assert run.history[0].metrics.device_weight is not None
    assert_same_run(run, pdl.load(pdl.save(run, tmp_path / "weighted"), program, work))


def test_an_empty_run_comes_back(program, patients, tmp_path):
    """A run of no steps is a run."""
    run = pdl.fit(program, patients, steps=0)
    assert_same_run(run, pdl.load(pdl.save(run, tmp_path / "empty"), program, patients))


@pytest.mark.parametrize(
    ("strategy", "axes"),
    [
        (pdl.DataParallel(), {"data": 2}),
        (pdl.DataParallel(), {"data": 4, "model": 2}),
        (pdl.Automatic(), {"data": 4}),
        (pdl.OneDevice(), {"data": 1}),
    ],
    ids=str,
)
def test_going_on_with_other_devices(strategy, axes, run, saved, program, patients):
    """A run of 8 devices goes on with others, under another strategy, to the same end."""
    other = strategy.build(patients.model, patients.optimizer, pdl.mesh(**axes))
    back = pdl.load(saved, other, patients)
    assert_equal(back.state, run.state)
    rest = pdl.fit(other, patients, steps=5, state=back.state)
    whole = pdl.fit(program, patients, steps=10)
    losses = lambda run: [record.loss for record in run.history]  # noqa: E731
    np.testing.assert_allclose(losses(back) + losses(rest), losses(whole), rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), rest.params, whole.params
    )


def test_the_name_of_the_file(run, tmp_path, monkeypatch, program, patients):
    """`.npz` is added where it is missing, whatever dots a name has; text is a path too."""
    monkeypatch.chdir(tmp_path)
    for given, name in [("a", "a.npz"), ("b.npz", "b.npz"), ("rate0.1", "rate0.1.npz")]:
        assert pdl.save(run, given).name == name
        assert pdl.load(given, program, patients).name == run.name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "b.npz", "rate0.1.npz"]


# --- whole or not at all


def test_a_failed_save_leaves_the_older_file(run, saved, monkeypatch):
    """A save that breaks off half-way leaves the older file as it was, and nothing else."""
    before, whole = saved.read_bytes(), np.savez

    def broken(file, **arrays):
        whole(file, **dict(list(arrays.items())[:3]))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", broken)
    with pytest.raises(OSError, match="No space left on device"):
        pdl.save(dataclasses.replace(run, name="newer"), saved)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["run.npz"]


def test_an_interrupted_save_leaves_the_older_file(run, saved, monkeypatch):
    """So does one that is interrupted by Ctrl-C."""
    before = saved.read_bytes()

    def broken(file, **arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", broken)
    with pytest.raises(KeyboardInterrupt):
        pdl.save(run, saved)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["run.npz"]


def test_saving_again_replaces(run, saved, program, patients):
    """A second save to the same name takes the place of the first, and leaves no rest."""
    pdl.save(dataclasses.replace(run, name="newer"), saved)
    assert pdl.load(saved, program, patients).name == "newer"
    assert [path.name for path in saved.parent.iterdir()] == ["run.npz"]


# --- damage


def is_refused(path, run, program, patients) -> bool:
    """Return whether a file is refused in three lines; where it is not, it is whole."""
    try:
        back = pdl.load(path, program, patients)
    except ValueError as error:
        return bool(re.match(r"^run\.npz .*\n  why: .*\n  try: .*$", str(error)))
    assert_same_run(run, back)
    return False


def test_a_flipped_bit_is_never_silent(run, saved, program, patients):
    """A bit flipped anywhere is an error in three lines, or was one that nothing is read from.

    A zip file dates its members, for one; nobody asks when.
    """
    whole, draw = saved.read_bytes(), random.Random(0)
    for place in draw.sample(range(len(whole)), 60):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << draw.randrange(8)
        saved.write_bytes(damaged)
        is_refused(saved, run, program, patients)


def test_a_flipped_bit_in_an_array_is_found(run, saved, program, patients):
    """A single bit of a weight, or of a loss in the history, is never changed unnoticed."""
    whole = saved.read_bytes()
    weights = np.asarray(run.params["blocks"]["up"]["w"]).tobytes()
    figures = np.stack([record.device_loss for record in run.history]).tobytes()
    draw = random.Random(0)
    for held in (weights, figures):
        start = whole.index(held)
        for place in draw.sample(range(start, start + len(held)), 10):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << draw.randrange(8)
            saved.write_bytes(damaged)
            assert is_refused(saved, run, program, patients)


def test_a_damaged_table_of_contents(run, saved, program, patients):
    """Damage where the file says what it holds is an error of the same form."""
    whole = saved.read_bytes()
    contents = whole.index(b"PK\x01\x02")  # the first of the members' headers at the end
    places = [
        *range(contents, contents + 46),
        *range(len(whole) - 22, len(whole)),  # how many there are, and where
        *(found.start() for found in re.finditer(rb"about|history|state", whole[contents:])),
    ]
    refused = 0
    for place in places:
        for flip in (1, 8, 128):
            damaged = bytearray(whole)
            damaged[place] ^= flip
            saved.write_bytes(damaged)
            refused += is_refused(saved, run, program, patients)
    assert refused > len(places)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_file_cut_short(share, run, saved, program, patients):
    """A file that lost its end, or all of it, is damaged."""
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"^run\.npz is damaged: .*\n  why: .*\n  try: .*$"):
        pdl.load(saved, program, patients)


def test_no_such_file(tmp_path, program, patients):
    """A file that is not there is not called damaged."""
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
        pdl.load(tmp_path / "nowhere", program, patients)


def test_a_folder_is_not_a_damaged_file(tmp_path, program, patients):
    """What cannot be opened at all says so itself, and is not called damaged."""
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(OSError, match=r"folder\.npz"):
        pdl.load(tmp_path / "folder", program, patients)


def test_another_file(tmp_path, program, patients):
    """Arrays that are no run, or no arrays at all, are refused in the same form."""
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    (tmp_path / "text.npz").write_text("my diary")
    np.save(tmp_path / "array.npy", np.ones(3))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    for name in ("other", "text", "array"):
        with pytest.raises(ValueError, match=rf"^{name}\.npz .*\n  why: .*\n  try: .*$"):
            pdl.load(tmp_path / name, program, patients)


# --- another model


def test_another_model(saved, patients):
    """A run does not go on with a model of another size: the first array that differs is named."""
    model = pdl.models.mlp(10, 1, embed=16, hidden=8, head=pdl.models.regress)
    other = pdl.DataParallel().build(model, patients.optimizer, pdl.mesh(data=8))
    message = (
        r"^run\.npz holds float32 \[2, 8\] for \.params\['blocks'\]\['down'\]\['b'\], "
        r"but the program wants float32 \[2, 16\]\.\n"
        r"  why: a run goes on only with the model and optimizer it began with\.\n"
        r"  try: build the program as it was when the run was saved\.$"
    )
    with pytest.raises(ValueError, match=message):
        pdl.load(saved, other, dataclasses.replace(patients, model=model))


def test_another_optimizer(saved, patients):
    """Nor with an optimizer that remembers something else."""
    other = pdl.DataParallel().build(patients.model, optax.sgd(0.1, momentum=0.9), pdl.mesh(data=8))
    message = r"^run\.npz holds nothing for \.optimizer.*, but the program wants .*\n  why: "
    with pytest.raises(ValueError, match=message):
        pdl.load(saved, other, patients)


def test_copies_on_eight_devices_go_on_with_two(patients, tmp_path):
    """`pmap` keeps a row for each device; in the file stands one, and any number goes on."""
    build = lambda n: pdl.PmapDataParallel().build(  # noqa: E731
        patients.model, patients.optimizer, pdl.mesh(data=n)
    )
    run = pdl.fit(build(8), patients, steps=2)
    path = pdl.save(run, tmp_path / "run")
    assert_same_run(run, pdl.load(path, build(8), patients))
    fewer = pdl.load(path, build(2), patients)
    assert_equal(fewer.params, run.params)
    assert int(fewer.state.step[0]) == 2
    moments = jax.tree.leaves(fewer.state.optimizer)
    assert {leaf.shape[0] for leaf in moments} == {2}
    on_fewer = pdl.fit(build(2), patients, steps=1, state=fewer.state).params
    on_all = pdl.fit(build(8), patients, steps=1, state=run.state).params
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), on_fewer, on_all)


# --- nothing in a file is ever run


def test_no_code_in_a_file_is_run(saved, program, patients, tmp_path):
    """A file that carries a pickle is refused, and the pickle is not opened."""
    trap = tmp_path / "sprung"

    class Trap:
        def __reduce__(self):
            return (trap.write_text, ("sprung",))

    pickle.loads(pickle.dumps(Trap()))  # the trap works
    assert trap.exists()
    trap.unlink()
    with np.load(saved) as file:
        arrays = {name: file[name] for name in file.files}
    np.savez(saved, **{**arrays, "about": np.array([Trap()], dtype=object)})
    with pytest.raises(ValueError, match=r"^run\.npz is damaged: "):
        pdl.load(saved, program, patients)
    saved.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match=r"^run\.npz is damaged: "):
        pdl.load(saved, program, patients)
    assert not trap.exists()


def test_any_zip_reader_opens_it(run, saved):
    """The file is numpy's own format: nothing of ours is needed to read the weights."""
    with np.load(io.BytesIO(saved.read_bytes()), allow_pickle=False) as file:
        np.testing.assert_array_equal(
            file["state.params['last']['w']"], np.asarray(run.params["last"]["w"])
        )


def test_more_than_is_wanted(run, tmp_path, patients):
    """A file that holds more than the program wants is another optimizer's, and refused."""
    adam = pdl.DataParallel().build(patients.model, optax.adam(1e-3), pdl.mesh(data=8))
    plain = adam.on(pdl.mesh(data=8), optax.sgd(0.1))
    path = pdl.save(pdl.fit(adam, patients, steps=1), tmp_path / "adam")
    with pytest.raises(ValueError, match=r"holds .*optimizer.* as well, but the program wants"):
        pdl.load(path, plain, patients)


def test_the_seed_is_kept(tmp_path, program, patients):
    """A run knows the seed of its order, so that it can go on in the same one."""
    path = pdl.save(pdl.fit(program, patients, steps=1, seed=3), tmp_path / "run")
    assert pdl.load(path, program, patients).seed == 3


def test_a_seed_of_numpy(tmp_path, program, patients):
    """It may come out of `np.arange`."""
    run = pdl.fit(program, patients, steps=1, seed=np.int64(3))
    assert pdl.load(pdl.save(run, tmp_path / "run"), program, patients).seed == 3


def test_bfloat16_comes_back(tmp_path, patients):
    """Numbers that NumPy has no name for come back as what they were."""
    adam = optax.adam(1e-3, mu_dtype=jnp.bfloat16)
    program = pdl.DataParallel().build(patients.model, adam, pdl.mesh(data=8))
    run = pdl.fit(program, patients, steps=2)
    back = pdl.load(pdl.save(run, tmp_path / "run"), program, patients)
    jax.tree.map(np.testing.assert_array_equal, back.state, run.state)
    assert "bfloat16" in {leaf.dtype.name for leaf in jax.tree.leaves(back.state)}
