"""Training on two cores beside PyTorch's: DDP and FSDP, of two processes over gloo.

    python -m pytest tests/benchmarks/bench_torch.py -s [-k "ddp and mlp"]

`PDLKIT_TORCH_PYTHON` names the Python of an environment with torch 2.13 and NumPy; where
it is not set, one is made, which takes a download. The same model, weights, batch and
optimizer (SGD), on the same two cores: theirs two processes of one thread, ours one
process of two simulated devices, each step fed by `pdl.train`. They take turns of about
half a second; the figure is how many times as many examples a second ours does, by the
median of the ratios, with a 95 % bootstrap interval. Theirs is PyTorch as its tutorials
use it, not compiled.
"""

import os
import socket
import subprocess
import sys
import venv
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from pairs import compare

import pdlkit as pdl

HERE, TURN, PAIRS = Path(__file__).parent, 0.5, 25  # seconds a turn; pairs of turns
SIZES = {  # name -> sizes, as both sides call them
    "mlp": dict(features=512, classes=10, embed=512, hidden=512, blocks=2),
    "transformer": dict(vocabulary=64, embed=128, heads=4, hidden=512, blocks=4, length=64),
    "cnn": dict(image=(28, 28, 1), classes=10, channels=(32, 64), hidden=128),
    "rnn": dict(features=8, outputs=8, hidden=128),
}
WANTED = {"mlp": 1.5, "transformer": 1.5, "cnn": 1.0, "rnn": 1.0}
STRATEGIES = {"ddp": pdl.DataParallel, "fsdp": pdl.FullySharded}
TRIED = [("ddp", name) for name in SIZES] + [("fsdp", name) for name in ("mlp", "transformer")]


def workload(name):
    """Return the model and one batch, [512, ...] of an MLP, smaller of others."""
    sizes, draws = dict(SIZES[name]), np.random.default_rng(0)
    if name == "mlp":
        features, classes = sizes.pop("features"), sizes.pop("classes")
        model = pdl.models.mlp(features, classes, **sizes)
        x, y = draws.random((512, features), np.float32), draws.integers(0, classes, 512)
    elif name == "transformer":
        length, vocabulary = sizes.pop("length"), sizes.pop("vocabulary")
        model = pdl.models.transformer(vocabulary, **sizes)
        x, y = draws.integers(0, vocabulary, (2, 32, length)).astype(np.int32)
    elif name == "cnn":
        image, classes, hidden = sizes["image"], sizes["classes"], (sizes["hidden"],)
        model = pdl.models.cnn(image, classes, channels=sizes["channels"], hidden=hidden)
        x, y = draws.random((128, *image), np.float32), draws.integers(0, classes, 128)
    else:
        features, outputs = sizes.pop("features"), sizes.pop("outputs")
        model = pdl.models.rnn(features, outputs, **sizes)
        x, y = draws.random((2, 128, 64, features), np.float32)
    y = y if y.dtype == np.float32 else y.astype(np.int32)
    return pdl.Workload(name, model, optax.sgd(0.01), [(x, y)])


def for_torch(name, params):
    """Return the weights under PyTorch's names, in its layout: [out, in]."""
    found = {}

    def dense(key, weights):
        found[f"{key}.weight"], found[f"{key}.bias"] = weights["w"].T, weights["b"]

    first, last, blocks = params["first"], params["last"], params.get("blocks")
    if name == "mlp":
        count = len(blocks["up"]["b"])
        dense("0", first)
        dense(f"{2 + count}", last)
        for i in range(count):
            for half in ("up", "down"):
                dense(f"{2 + i}.{half}", {key: x[i] for key, x in blocks[half].items()})
    elif name == "transformer":
        found |= {"table.weight": first["table"], "norm.weight": last["scale"]}
        found["head.weight"] = last["head"].T
        attention, inner = blocks["attention"], blocks["mlp"]
        for i in range(len(inner["scale"])):
            embed, own = inner["scale"].shape[1], f"blocks.{i}."
            found[own + "norm.weight"] = attention["scale"][i]
            found[own + "qkv.weight"] = attention["qkv"][i].reshape(embed, -1).T
            found[own + "out.weight"] = attention["out"][i].reshape(-1, embed).T
            found[own + "scale.weight"] = inner["scale"][i]
            found |= {own + half + ".weight": inner[half][i].T for half in ("up", "down")}
    elif name == "cnn":
        for i, conv in enumerate(first):
            found[f"{3 * i}.weight"] = conv["w"].transpose(3, 2, 0, 1)
            found[f"{3 * i}.bias"] = conv["b"]
        into, out = last  # theirs flattens channel by channel, ours pixel by pixel
        pixels = into["w"].reshape(7, 7, -1, into["w"].shape[1]).transpose(2, 0, 1, 3)
        dense("7", {"w": pixels.reshape(into["w"].shape), "b": into["b"]})
        dense("9", out)
    else:
        cell = blocks["candidate"]
        dense("first", first)
        dense("last", last)
        found |= {"cell.weight_ih_l0": cell["w"][0].T, "cell.weight_hh_l0": cell["u"][0].T}
        found["cell.bias_ih_l0"] = cell["b"][0]
    return {key: np.ascontiguousarray(x) for key, x in found.items()}


class Side:
    """Processes that train when they are told to, and answer with a loss."""

    def __init__(self, commands, cores, environment):
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        made = os.environ | environment
        self._processes = [subprocess.Popen(each, env=made, **pipes) for each in commands]
        for each in self._processes:
            os.sched_setaffinity(each.pid, cores)  # and so the threads that it will start
        for each in self._processes:
            while (line := each.stdout.readline()) != "ready\n":
                assert line, "a side ended before it was ready"

    def steps(self, count) -> float:
        """Make so many steps; return the loss before the last of them."""
        for each in self._processes:
            print(count, file=each.stdin, flush=True)
        losses = [float(each.stdout.readline()) for each in self._processes]
        return losses[0]

    def end(self):
        for each in self._processes:
            each.stdin.close()
            each.wait()


@pytest.fixture(scope="session")
def torch_python(tmp_path_factory):
    """The Python with torch: the one that is named, or one made for the occasion."""
    if named := os.environ.get("PDLKIT_TORCH_PYTHON"):
        return named
    folder = tmp_path_factory.mktemp("torch")
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "-q", "torch==2.13.0", "numpy"], check=True)
    return python


@pytest.mark.parametrize(("way", "name"), TRIED)
def test_torch(way, name, torch_python, tmp_path, benchmark):
    work = workload(name)
    params = jax.device_get(work.model.init(jax.random.key(0)))
    x, y = work.batch(0)
    images = {"x": x.transpose(0, 3, 1, 2).copy() if name == "cnn" else x, "y": y}
    np.save(tmp_path / "sizes.npy", SIZES[name])
    np.savez(tmp_path / "weights.npz", **for_torch(name, params))
    np.savez(tmp_path / "batch.npz", **images)
    cores = sorted(os.sched_getaffinity(0))[:2]
    ours = Side([[sys.executable, __file__, way, name]], cores, {})
    script, port = str(HERE / "by_hand_torch.py"), str(free_port())
    commands = [
        [torch_python, script, str(rank), way, name, port, str(tmp_path)] for rank in range(2)
    ]
    theirs = Side(commands, cores, {"OMP_NUM_THREADS": "1"})
    try:
        np.testing.assert_allclose(ours.steps(1), theirs.steps(1), rtol=1e-4)
        np.testing.assert_allclose(ours.steps(3), theirs.steps(3), rtol=1e-4)
        benchmark.pedantic(ours.steps, (5,), rounds=3)
        count = max(2, round(TURN * 5 / benchmark.stats["median"]))
        ratio = compare(lambda: ours.steps(count), lambda: theirs.steps(count), pairs=PAIRS)
    finally:
        ours.end()
        theirs.end()
    rate = len(x) * count / 1e-3 / np.array([ratio.ours_ms, ratio.theirs_ms])
    found = 1 / np.array([ratio.ratio, ratio.high, ratio.low])
    benchmark.extra_info.update(times_as_fast=found.tolist(), examples_per_second=rate.tolist())
    print(
        f"\n{way} {name}: {found[0]:.2f} [{found[1]:.2f}, {found[2]:.2f}] times as fast, "
        f"{rate[0]:,.0f} against {rate[1]:,.0f} examples a second, {PAIRS} pairs of {count} "
        f"steps; {WANTED[name]} is wanted"
    )


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def main(way, name):
    """Our side, in a process of its own: two devices on the cores that it may use."""
    pdl.simulate_devices(2)
    work = workload(name)
    program = STRATEGIES[way]().build(work.model, work.optimizer, pdl.mesh(data=2))
    records = pdl.train(program, work, steps=10**9)
    print("ready", flush=True)
    for line in sys.stdin:
        for _ in range(int(line)):
            record = next(records)
        print(float(np.mean(record.metrics.device_loss)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
