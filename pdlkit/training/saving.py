"""A run in a file: one `.npz`, whole or not there, checked when it is read."""

import json
import operator
import os
import zipfile
from pathlib import Path

import jax
import numpy as np

from pdlkit.errors import lesson
from pdlkit.records import Metrics, Program, Record
from pdlkit.strategies.strategy import placed_shapes
from pdlkit.training.run import Run


def save(run: Run, path) -> Path:
    """Write a run to `path` (.npz) and return it; an older file stays until the end.

    The arrays are written as one device would keep them, so a run of 8 devices can
    go on with 2.
    """
    path = _npz(path)
    arrays = {
        f"state{name}": leaf for name, leaf in _named(jax.device_get(run.program.whole(run.state)))
    }
    arrays |= {f"history.{name}": figures for name, figures in _columns(run.history).items()}
    # NumPy writes bfloat16 as bytes without a name.
    named = {name: np.asarray(array).dtype for name, array in arrays.items()}
    unknown = {name: dtype.name for name, dtype in named.items() if dtype.kind == "V"}
    seed = operator.index(run.seed)
    about = json.dumps(
        {"format": 1, "name": run.name, "ended": run.ended, "seed": seed, "dtypes": unknown}
    )
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        with unfinished.open("wb") as file:
            np.savez(file, about=np.array(about), **arrays)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def load(path, program: Program, work) -> Run:
    """Return the run in a file, its state placed as `program` wants it.

    Args:
        path: what `save` wrote.
        program: built for the same model and optimizer; any mesh.
        work: the workload, for the shapes of its params.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or holds another model or optimizer.
    """
    path = _npz(path)
    arrays = _read(path)
    places = placed_shapes(program, work.model)
    wanted = jax.eval_shape(program.whole, places)
    leaves = [_fitting(path, name, like, arrays) for name, like in _named(wanted)]
    _check_no_more(path, {f"state{name}" for name, _ in _named(wanted)}, arrays)
    whole = jax.tree.unflatten(jax.tree.structure(wanted), leaves)
    state = jax.tree.map(
        lambda leaf, like: jax.device_put(leaf, like.sharding), program.spread(whole), places
    )
    about = json.loads(str(arrays["about"]))
    return Run(about["name"], _records(arrays), state, program, about["ended"], about["seed"])


def _npz(path) -> Path:
    path = Path(path)
    return path if path.suffix == ".npz" else path.with_name(path.name + ".npz")


def _named(tree):
    return [
        (jax.tree_util.keystr(path), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]


def _columns(history) -> dict:
    if not history:
        return {}
    rows = {"device_loss": [record.device_loss for record in history]}  # a row for each device
    if history[0].metrics.device_weight is not None:
        rows["device_weight"] = [record.metrics.device_weight for record in history]
    for name in history[0].notes:
        rows[f"notes.{name}"] = [record.notes[name] for record in history]
    return {
        "step": [record.step for record in history],
        "seconds": [record.seconds for record in history],
        "waiting": [record.waiting for record in history],
        "devices": [record.device_loss.size for record in history],  # may change on the way
        **{name: np.concatenate(each) for name, each in rows.items()},
    }


def _records(arrays) -> tuple[Record, ...]:
    columns = {
        name.removeprefix("history."): array
        for name, array in arrays.items()
        if name.startswith("history.")
    }
    if not columns:
        return ()
    ends = np.cumsum(columns["devices"])[:-1]
    rows = {
        name: np.split(column, ends)
        for name, column in columns.items()
        if name.startswith(("device_", "notes."))
    }
    losses, weights = rows.pop("device_loss"), rows.pop("device_weight", None)
    return tuple(
        Record(
            int(step),
            Metrics(
                losses[i],
                {name.removeprefix("notes."): row[i] for name, row in rows.items()},
                None if weights is None else weights[i],
            ),
            float(columns["seconds"][i]),
            waiting=float(columns["waiting"][i]),
        )
        for i, step in enumerate(columns["step"])
    )


def _read(path: Path) -> dict:
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file):  # asks first, for np.load takes other files too
                arrays = dict(np.load(file, allow_pickle=False))
        except Exception as error:  # a damaged file may be wrong in any way
            raise ValueError(
                lesson(
                    f"{path.name} is damaged: {error}.",
                    why="a run is an .npz file whose checksums fit what stands in it.",
                    fix="an earlier save.",
                )
            ) from error
    if "about" not in arrays:
        raise ValueError(
            lesson(
                f"{path.name} holds arrays, but no run.",
                why="it was not written by pdl.save.",
                fix="np.load, to see what it holds.",
            )
        )
    for name, dtype in json.loads(str(arrays["about"])).get("dtypes", {}).items():
        arrays[name] = arrays[name].view(dtype)
    return arrays


def _check_no_more(path: Path, wanted: set[str], arrays) -> None:
    for name in arrays:
        if name.startswith("state") and name not in wanted:
            more = name.removeprefix("state")
            raise ValueError(_mismatch(path, f"{more} as well", "nothing of that name"))


def _mismatch(path: Path, holds: str, wants: str) -> str:
    return lesson(
        f"{path.name} holds {holds}, but the program wants {wants}.",
        why="a run goes on only with the model and optimizer it began with.",
        fix="build the program as it was when the run was saved.",
    )


def _fitting(path: Path, name: str, like, arrays):
    found = arrays.get(f"state{name}")
    if found is None or found.shape != like.shape or found.dtype != like.dtype:
        has = "nothing" if found is None else f"{found.dtype} {list(found.shape)}"
        wants = f"{like.dtype} {list(like.shape)}"
        raise ValueError(_mismatch(path, f"{has} for {name}", wants))
    return found
