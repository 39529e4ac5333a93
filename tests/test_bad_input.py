"""Mistakes: each is told in three lines, before anything is run or lost."""

import ast
import dataclasses
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from stand_ins import Tensor

import pdlkit as pdl
from pdlkit.errors import lesson, names
from pdlkit.models.layers import ALONE

PACKAGE = Path(pdl.__file__).parent
EVERY_FAMILY = [
    pdl.OneDevice(),
    pdl.DataParallel(),
    pdl.Automatic(),
    pdl.PmapDataParallel(),
]
each_family = pytest.mark.parametrize("strategy", EVERY_FAMILY, ids=str)
each_that_cuts = pytest.mark.parametrize("strategy", EVERY_FAMILY[1:], ids=str)


class Pipeline(pdl.Spmd):
    """A stand-in that says how gradients come about."""

    def gradients(self, model, layers, mesh):
        return super().gradients(model, layers, mesh)


class Accumulation(Pipeline):
    """Another one."""

    def gradients(self, model, layers, mesh):
        return super().gradients(model, layers, mesh)


@dataclasses.dataclass(frozen=True)
class Cuts(pdl.Spmd):
    """Cut any axis of a batch."""

    axes: tuple

    def cuts(self):
        return dict(self.axes)


def message(what: str, why: str, fix: str) -> str:
    """Return the pattern of a whole error message; its lines are patterns too.

    JAX adds a note of its own below a rule to what is raised while it traces.
    """
    return f"^{what}\n  why: {why}\n  try: {fix}(\n-+\nFor simplicity, JAX .*)?$"


def build(strategy, work, optimizer=None, **axes):
    return strategy.build(work.model, optimizer or optax.sgd(0.1), pdl.mesh(**axes or {"data": 8}))


def fresh(program, work):
    return program.init(work.model.init(jax.random.key(0)))


# --- batches


@each_that_cuts
def test_a_batch_that_does_not_divide(strategy, digits):
    """A batch that cannot be shared out equally is refused, with the nearest sizes that can."""
    program = build(strategy, digits)
    state, short = fresh(program, digits), jax.tree.map(lambda x: x[:100], digits.batch(0))
    words = message(
        "a batch of 100 examples does not divide among data=8.",
        "each device takes a share of the same size.",
        "a size of 96 or 104, or another number of devices.",
    )
    with pytest.raises(ValueError, match=words):
        program.step(state, short)
    after, _ = program.step(state, digits.batch(0))  # nothing was lost
    assert np.isfinite(program.gather(after)["last"]["w"]).all()


def test_a_batch_smaller_than_its_devices(digits):
    """Of fewer examples than devices there is no smaller size to go to."""
    program = build(pdl.DataParallel(), digits)
    few = jax.tree.map(lambda x: x[:5], digits.batch(0))
    with pytest.raises(
        ValueError, match=r"a batch of 5 examples .*\n  why: .*\n  try: a size of 8"
    ):
        program.step(fresh(program, digits), few)


@each_that_cuts
def test_training_refuses_a_batch_that_does_not_divide(strategy, digits):
    """The loop says the same of a workload's first batch, before the first step."""
    arrays = pdl.batches(*digits.batches.arrays, size=100)
    work = dataclasses.replace(digits, batches=arrays)
    program = build(strategy, work)
    with pytest.raises(ValueError, match=r"a batch of 100 examples .*\n  why: .*\n  try: .* 96 or"):
        next(pdl.train(program, work, steps=3))


@each_that_cuts
def test_training_refuses_a_shorter_batch_later(strategy, digits):
    """A list whose last batch is shorter is refused there, in the same words; nothing is lost."""
    mine = [digits.batch(0), digits.batch(1), jax.tree.map(lambda x: x[:50], digits.batch(2))]
    work = pdl.Workload("mine", digits.model, optax.sgd(0.1), mine)
    program = build(strategy, work)
    with pytest.raises(
        ValueError, match=r"a batch of 50 examples .*\n  why: .*\n  try: .* 48 or"
    ) as it:
        pdl.fit(program, work, steps=3)
    assert np.isfinite(it.value.run.params["last"]["w"]).all()


@each_family
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda x, y: (x[:, :63], y),
            message(
                r"batch\[0\] is float32 \[128, 63\], but this workload's is float32 \[128, 64\]\.",
                "only the number of examples, the first dimension, may differ.",
                r"reshape or convert it to be like work\.batch\(0\)\.",
            ),
        ),
        (
            lambda x, y: (x.reshape(-1, 8, 8), y),
            r"batch\[0\] is float32 \[128, 8, 8\], but .* \[128, 64\]\.\n  why: .*\n  try: ",
        ),
        (
            lambda x, y: (x, y[:, None]),
            r"batch\[1\] is int32 \[128, 1\], but .* int32 \[128\]\.\n  why: .*\n  try: ",
        ),
        (
            lambda x, y: (x, y.astype(np.float32)),
            r"batch\[1\] is float32 \[128\], but .* int32 \[128\]\.\n  why: .*\n  try: ",
        ),
        (
            lambda x, y: ((255 * x).astype(np.uint8), y),
            r"batch\[0\] is uint8 \[128, 64\], but .* float32 .*\n  why: .*\n  try: ",
        ),
        (
            lambda x, y: {"x": x, "y": y},
            r"the batch is {'x': \*, 'y': \*}, but this workload's batches are "
            r"\(\*, \*\)\.\n  why: .*\n  try: a batch like work\.batch\(0\)\.",
        ),
        (lambda x, y: (x, y, y), r"the batch is .*\(\*, \*, \*\).*\n  why: .*\n  try: "),
        (
            lambda x, y: (x, y[:64]),
            message(
                r"batch\[1\] has shape \[64\], the first array \[128, 64\]\.",
                "example i of a batch is row i of every array in it.",
                "arrays whose first dimensions are equal.",
            ),
        ),
    ],
    ids=["width", "rank", "labels' rank", "dtype", "bytes", "structure", "one more", "lengths"],
)
def test_a_batch_that_is_another(strategy, spoil, words, digits):
    """A batch of another shape, dtype or structure than the workload's is refused by name."""
    program = build(strategy, digits)
    with pytest.raises(ValueError, match=words):
        program.step(fresh(program, digits), spoil(*digits.batch(0)))


def test_another_number_of_examples_is_no_mistake(digits):
    """The first dimension may differ, and wider or narrower numbers of one kind too."""
    program = build(pdl.DataParallel(), digits)
    x, y = digits.batch(0)
    _, metrics = program.step(fresh(program, digits), (x[:64].astype(float), y[:64].astype(int)))
    start = digits.model.init(jax.random.key(0))
    assert metrics.loss == pytest.approx(float(digits.model.loss(start, (x[:64], y[:64]))), 1e-5)


def test_a_cut_axis_that_does_not_divide(digits):
    """Not only examples are cut: a sequence too must divide, and is named."""
    model = digits.model._replace(batch_axes=(("batch", "seq"), ("batch",)))
    strategy = Cuts((("seq", "data"),))
    program = strategy.build(model, optax.sgd(0.1), pdl.mesh(data=6))
    with pytest.raises(
        ValueError, match=r"a `seq` of 64 does not divide among data=6\.\n.*\n.* 66"
    ):
        program.step(fresh(program, digits), digits.batch(0))


# --- meshes


@pytest.mark.parametrize(
    ("strategy", "name"),
    [
        (pdl.DataParallel(), "DataParallel"),
        (pdl.Automatic(), r"Automatic\(DataParallel\)"),
        (pdl.PmapDataParallel(), "PmapDataParallel"),
        (pdl.DataParallel() | Tensor(), r"DataParallel \| Tensor"),
    ],
)
def test_an_axis_that_is_not_there(strategy, name, digits):
    """A strategy whose mesh axis is missing says which it looked for, and which there are."""
    words = message(
        rf"{name} works along mesh axis `data`, but this mesh has "
        r"`rows`, `model`\.",
        "a strategy finds its devices by the name of their axis.",
        r"pdl\.mesh\(data=8\), or tell the strategy axis=\.\.\.",
    )
    with pytest.raises(ValueError, match=words):
        build(strategy, digits, rows=4, model=2)


def test_a_rule_along_an_axis_that_is_not_there(digits):
    """The same of an axis that a rule names."""
    with pytest.raises(ValueError, match=r"Tensor works along mesh axis `model`, but .* `data`"):
        build(Tensor(), digits, data=8)


def test_pmap_has_one_axis(digits):
    """`pmap` on a grid of two axes is refused, with the two ways out."""
    words = message(
        r"PmapDataParallel works along `data` alone, but this mesh is "
        r"data=4 x model=2\.",
        "pmap has one axis; a mesh of two is what shard_map came for.",
        r"pdl\.mesh\(data=8\), or DataParallel\.",
    )
    with pytest.raises(ValueError, match=words):
        build(pdl.PmapDataParallel(), digits, data=4, model=2)


def test_a_mesh_too_large():
    """A mesh of more cells than devices says how many there are, and how to get more."""
    words = message(
        "mesh data=8 x model=8 needs 64 devices, but 8 are here.",
        "each cell of the grid is one device.",
        r"pdl\.simulate_devices\(64\) in the first cell, or a smaller mesh\.",
    )
    with pytest.raises(ValueError, match=words):
        pdl.mesh(data=8, model=8)


# --- params


def test_an_array_that_does_not_divide():
    """A dimension that cannot be cut equally is named with its array, and what would fit."""
    model = pdl.models.mlp(64, 10, hidden=30)
    words = message(
        r"params\['blocks'\]\['(down|up)'\]\['[bw]'\] has a dimension of 30, "
        r"which does not divide among model=8\.",
        "each device of an axis holds a share of the same size.",
        r"model=6, or a size of 24 or 32\.",
    )
    with pytest.raises(ValueError, match=words):
        Tensor().build(model, optax.sgd(0.1), pdl.mesh(model=8))


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        (
            {"w": ("features",)},
            r"params\['w'\] has shape \[4, 8\], but axes\['w'\] is \('features',\)\.",
        ),
        (
            {"w": ("a", "b", "c")},
            r"params\['w'\] has shape \[4, 8\], but axes\['w'\] is \('a', .*\)\.",
        ),
        ({}, r"params\['w'\] has shape \[4, 8\], but axes\['w'\] is None\."),
        (
            {"v": ("features", "mlp")},
            r"params\['w'\] has shape \[4, 8\], but axes\['w'\] is None\.",
        ),
        (("features", "mlp"), r"params\['w'\] has shape \[4, 8\], but axes\['w'\] is None\."),
    ],
    ids=["too few", "too many", "empty", "another name", "no tree"],
)
@pytest.mark.parametrize("strategy", [pdl.DataParallel(), pdl.Automatic()], ids=str)
def test_a_table_of_axes_that_does_not_fit(strategy, axes, words):
    """A table that lacks an array, or names too few of its dimensions, is refused in `build`."""
    model = pdl.Model(lambda key: {"w": jnp.zeros((4, 8))}, lambda *_: 0.0, axes)
    with pytest.raises(ValueError, match=words + "\n  why: .*\n  try: "):
        strategy.build(model, optax.sgd(0.1), pdl.mesh(data=8))


def test_no_table_of_axes_is_no_mistake():
    """Arrays without names are kept whole, which data parallelism needs no names for."""
    loss = lambda params, batch, layers=ALONE: jnp.mean((batch[0] @ params["w"]) ** 2)  # noqa: E731
    model = pdl.Model(lambda key: {"w": jnp.ones(4)}, loss, None)
    program = pdl.DataParallel().build(model, optax.sgd(0.5), pdl.mesh(data=8))
    state, _ = program.step(program.init({"w": jnp.ones(4)}), (np.eye(8, 4, dtype="f"),))
    np.testing.assert_allclose(program.gather(state)["w"], 1 - 0.5 * 2 / 8)


# --- strategies together


@pytest.mark.parametrize(
    ("join", "what"),
    [
        (
            lambda: pdl.DataParallel() | pdl.DataParallel(accumulate=2),
            r"DataParallel \| DataParallel cannot be: both say `batch` of its cuts\.",
        ),
        (
            lambda: Tensor() | Tensor(axis="data"),
            r"Tensor \| Tensor cannot be: both say `mlp` of its rules\.",
        ),
        (
            lambda: (pdl.DataParallel() | Tensor()) | Tensor(axis="data"),
            r"Tensor \| Tensor cannot be: both say `mlp` of its rules\.",
        ),
    ],
    ids=["cuts", "rules", "three"],
)
def test_parts_that_collide(join, what):
    """Two strategies that say the same thing differently do not go together, by name."""
    words = message(
        what,
        "in a hybrid each part changes something else.",
        "give one of them another axis, or leave one out.",
    )
    with pytest.raises(ValueError, match=words):
        join()


def test_parts_that_replace_the_same_layer(digits):
    """Nor do two that replace the same layer operation."""

    class Other(pdl.Spmd):
        def layers(self, mesh):
            return {"down": lambda x, w, b: x @ w + b}

    with pytest.raises(ValueError, match=r"Tensor \| Other .* `down` of its layers\.\n.*\n"):
        build(Tensor() | Other(), digits, model=8)


def test_two_ways_to_gradients(digits):
    """At most one part of a hybrid says how gradients come about."""
    both = Pipeline() | pdl.DataParallel() | Accumulation()
    words = r"Pipeline \| Accumulation cannot be: both say how gradients come about\.\n.*\n  try: "
    with pytest.raises(ValueError, match=words.replace("Pipeline", "(Pipeline|Hybrid)")):
        build(both, digits)
    build(Pipeline() | pdl.DataParallel(), digits)


# --- models


def by_hand(params, batch, layers=ALONE):
    """Return the loss of an MLP that writes out what it should call."""
    del layers
    hidden = jax.nn.relu(batch[0] @ params["up"])
    return jnp.mean((hidden @ params["down"] - batch[1][:, None]) ** 2)


@pytest.fixture(scope="module")
def deaf():
    """A workload whose model calls no layer operation at all."""
    init = lambda key: {"up": jnp.ones((4, 8)), "down": jnp.ones((8, 1))}  # noqa: E731
    axes = {"up": ("embed", "mlp"), "down": ("mlp", "embed")}
    data = np.ones((128, 4), np.float32), np.ones(128, np.float32)
    return pdl.Workload("deaf", pdl.Model(init, by_hand, axes), optax.sgd(0.1), data)


def test_a_model_that_never_calls_what_is_replaced(deaf):
    """A strategy that could not reach into a model refuses to build: it would be wrong."""
    words = message(
        r"Tensor replaces `layers\.down`, but this model never calls it; it calls none\.",
        "the strategy would leave the model as it was, and wrong.",
        r"call layers\.down in the loss where the model does that by hand, or choose "
        r"another strategy\.",
    )
    with pytest.raises(ValueError, match=words):
        build(Tensor(), deaf, model=8)
    with pytest.raises(ValueError, match=r"^DataParallel \| Tensor replaces `layers\.down`"):
        build(pdl.DataParallel() | Tensor(), deaf, data=2, model=4)
    build(pdl.DataParallel(), deaf)  # replaces nothing, needs nothing


def test_what_a_model_does_call_is_named(digits):
    """The error lists what the model does call, so that the slip can be seen."""

    class Norms(pdl.Spmd):
        def layers(self, mesh):
            return {"norm": lambda x, scale: x}

    words = r"never calls it; it calls `block`, `cross_entropy`, `down`, `up`\.\n"
    with pytest.raises(ValueError, match=words):
        build(Norms(), digits)


@each_family
def test_a_note_inside_a_loop(strategy, digits):
    """A figure noted inside a `scan` cannot come out by itself; the error names the figure."""

    def loss(params, batch, layers=ALONE):
        def body(x, _):
            layers.note("energy", x)
            return x + 1, None

        x, _ = lax.scan(body, digits.model.loss(params, batch, layers), None, length=3)
        return x

    work = dataclasses.replace(digits, model=digits.model._replace(loss=loss))
    words = message(
        "`energy` was noted inside a loop or another transformation of the loss.",
        "its value does not leave the loop by itself.",
        "run equal blocks by pdl.models.repeat, which hands notes out.",
    )

    def build_and_step():
        program = build(strategy, work)
        program.step(fresh(program, work), work.batch(0))

    with pytest.raises(ValueError, match=words):
        build_and_step()


# --- the form


def test_the_form_of_every_error():
    """What happened, why, and what to try: three lines, the last two indented."""
    assert lesson("It broke.", why="it was thin.", fix="a thicker one.") == (
        "It broke.\n  why: it was thin.\n  try: a thicker one."
    )
    with pytest.raises(TypeError, match="fix"):
        lesson("It broke.", why="it was thin.")
    assert names(["data", "model"]) == "`data`, `model`"
    assert names([]) == "none"


MODULES = sorted(PACKAGE.rglob("*.py"))
ALONE_IN_ITS_PROCESS = PACKAGE / "cli" / "probe.py"  # what it says is worded by `doctor`


def called(node) -> str:
    """Return the name of what a node calls, or nothing."""
    function = getattr(node, "func", None)
    return getattr(function, "id", getattr(function, "attr", ""))


def worded(tree) -> set[str]:
    """Return the functions and variables of a module that hold what `lesson` words."""
    found = {"lesson"}
    for function in ast.walk(tree):
        for node in ast.walk(function) if isinstance(function, ast.FunctionDef) else ():
            if isinstance(node, ast.Return) and called(node.value) == "lesson":
                found.add(function.name)
            if isinstance(node, ast.Assign) and called(node.value) == "lesson":
                found |= {target.id for target in node.targets}
    return found


def worded_elsewhere(tree) -> set[str]:
    """Return the names that a module imports from one that words them."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("pdlkit."):
            path = PACKAGE.parent / f"{node.module.replace('.', '/')}.py"
            if path.exists():
                there = worded(ast.parse(path.read_text(encoding="utf-8")))
                found |= there & {name.name for name in node.names}
    return found


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if path != ALONE_IN_ITS_PROCESS],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_every_error_is_worded_by_the_one_helper(path):
    """Whatever the package raises itself was worded by `lesson`, so has its why and its try."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    helpers, wrong = worded(tree) | worded_elsewhere(tree), []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Raise) or not isinstance(node.exc, ast.Call):
            continue  # passed on as it came
        first = node.exc.args[0] if node.exc.args else None
        by = getattr(first, "id", called(first))
        if called(node.exc) != "AttributeError" and by not in helpers:
            wrong.append(f"{path.name}:{node.lineno}")
    assert wrong == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_line_of_an_error_is_one_line(path):
    """No part of a message holds a line break; each part ends like a sentence."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if called(node) != "lesson":
            continue
        assert [keyword.arg for keyword in node.keywords] == ["why", "fix"]
        for part in [*node.args, *(keyword.value for keyword in node.keywords)]:
            texts = [n.value for n in ast.walk(part) if isinstance(n, ast.Constant)]
            assert not any("\n" in text for text in texts if isinstance(text, str))


# --- last, for it changes what the others stand on


def test_a_mesh_whose_devices_were_replaced(digits):
    """A mesh made before `simulate_devices` changed their number is named, not used."""
    old = pdl.mesh(data=4, model=2)
    try:
        pdl.simulate_devices(4)
        words = message(
            "mesh data=4 x model=2 was made for 8 simulated devices, but 4 are here now.",
            "simulate_devices replaces the devices, and a mesh keeps those it was made of.",
            re.escape("make it again with pdl.mesh, of at most 4."),
        )
        for strategy in EVERY_FAMILY:
            with pytest.raises(ValueError, match=words):
                strategy.build(digits.model, optax.sgd(0.1), old)
        build(pdl.DataParallel(), digits, data=4)
    finally:
        pdl.simulate_devices(8)
    build(pdl.DataParallel(), digits, data=4, model=2)
