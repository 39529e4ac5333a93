"""Does a loop that never reads its results live? Measured with and without our guard.

Run by hand (`python tests/benchmarks/stall.py`, 1 to 2 minutes) or by pytest (the
same path). Up to jaxlib 0.11 raw JAX waits for ever here, until XLA ends the process.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

DEVICES, CORES, STEPS, PATIENCE_SECONDS = (8, 16), (1, 2), 500, 20
GUARDS = ("simulate_devices", "none")


def test_simulated_devices_never_stall():
    """500 steps that nobody reads come to their end, on one core and on two."""
    rows = [row for row in every_case() if row["guard"] == "simulate_devices"]
    assert [row["outcome"] for row in rows] == ["ok"] * len(rows), rows


def main() -> None:
    """Print the table, then what the guard costs."""
    from jaxlib.version import __version__

    heading = ("jaxlib", "devices", "cores", "guard", "outcome", "ms/step")
    print("measured:", " ".join(f"{word:>16}" for word in heading))
    for row in every_case():
        print(" " * 9, " ".join(f"{word!s:>16}" for word in (__version__, *row.values())))
    for devices in DEVICES:
        subprocess.run([sys.executable, __file__, "--cost", str(devices)], env=raw(), check=True)


def every_case() -> list[dict]:
    """Run each case in a fresh process: guarded ones by turns, the rest at once."""
    cases = [(devices, cores) for devices in DEVICES for cores in CORES if cores <= os.cpu_count()]
    guarded = [finish(case, GUARDS[0], start(case, GUARDS[0])) for case in cases]
    waiting = [(case, start(case, GUARDS[1])) for case in cases]
    return guarded + [finish(case, GUARDS[1], process) for case, process in waiting]


def start(case, guard: str) -> subprocess.Popen:
    command = [sys.executable, __file__, "--case", *map(str, case), guard]
    return subprocess.Popen(
        command, env=raw(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def finish(case, guard: str, process: subprocess.Popen) -> dict:
    """Wait for a case and return its row of the table."""
    row = dict(zip(("devices", "cores"), case, strict=True)) | {"guard": guard}
    try:
        printed, _ = process.communicate(timeout=PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return row | {"outcome": "stalled", "ms/step": "-"}
    if process.returncode != 0:
        return row | {"outcome": f"died ({process.returncode})", "ms/step": "-"}
    return row | {"outcome": "ok", "ms/step": printed.strip()}


def raw() -> dict[str, str]:
    """Return the environment without what a parent's own simulate_devices left in it."""
    ours = ("PJRT_NPROC", "NPROC", "XLA_FLAGS", "JAX_NUM_CPU_DEVICES")
    return {name: value for name, value in os.environ.items() if name not in ours}


def run_case(devices: int, cores: int, guard: str) -> None:
    """Run the loop here and print its milliseconds a step."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    import jax

    if guard == "simulate_devices":
        from pdlkit.devices import simulate_devices

        simulate_devices(devices)
    else:
        from pdlkit.compat import knows_collective_timeouts

        if knows_collective_timeouts():  # die in seconds, not in a minute
            os.environ["XLA_FLAGS"] = (
                "--xla_cpu_collective_call_warn_stuck_timeout_seconds=3 "
                "--xla_cpu_collective_call_terminate_timeout_seconds=5"
            )
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", devices)
    train, weights, batch = training_loop(jax.devices())
    weights, _ = train(weights, batch, steps=1, read_every=1)
    begin = time.perf_counter()
    weights, _ = train(weights, batch, steps=STEPS, read_every=None)
    jax.block_until_ready(weights)
    print(f"{(time.perf_counter() - begin) / STEPS * 1e3:.2f}")


def training_loop(devices):
    """Return a data-parallel loop over these devices, its weights and its batch."""
    import jax
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    mesh = Mesh(np.array(devices), ("data",))

    def loss(weights, batch):
        return jax.lax.pmean(((batch @ weights) ** 2).mean(), "data")

    def share(weights, batch):
        value, gradient = jax.value_and_grad(loss)(weights, batch)
        return weights - 1e-3 * gradient, value

    whole, cut = PartitionSpec(), PartitionSpec("data")
    step = jax.jit(jax.shard_map(share, mesh=mesh, in_specs=(whole, cut), out_specs=(whole, whole)))

    def train(weights, batch, steps, read_every):
        losses = []
        for index in range(steps):
            weights, value = step(weights, batch)
            losses.append(value)
            if read_every and index % read_every == 0:
                value.block_until_ready()
        return weights, losses

    random = np.random.default_rng(0)
    rows = random.standard_normal((8 * len(devices), 32), dtype=np.float32)
    weights = jax.device_put(np.eye(32, dtype=np.float32), NamedSharding(mesh, whole))
    return train, weights, jax.device_put(rows, NamedSharding(mesh, cut))


def print_cost(devices: int, rounds: int = 60) -> None:
    """Print what the wide pool costs: two clients in one process, turn and turn about."""
    import jax

    from pdlkit.compat import make_cpu_client

    loops = []
    for threads in (devices, 2 * devices):
        os.environ["PJRT_NPROC"] = str(threads)
        loops.append(training_loop(make_cpu_client(devices).devices()))
    ratios = []
    for _ in range(rounds):
        seconds = []
        for train, weights, batch in loops:
            begin = time.perf_counter()
            jax.block_until_ready(train(weights, batch, steps=40, read_every=8)[0])
            seconds.append(time.perf_counter() - begin)
        ratios.append(seconds[1] / seconds[0])
    low, middle, high = statistics.quantiles(ratios[5:], n=4)
    print(
        f"measured: {devices} devices on {2 * devices} threads, read every 8 steps: {middle:.2f} "
        f"times the seconds on {devices} ({low:.2f} to {high:.2f}, quartiles of {rounds - 5} pairs)"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", nargs=3, metavar=("DEVICES", "CORES", "GUARD"))
    parser.add_argument("--cost", type=int, metavar="DEVICES")
    arguments = parser.parse_args()
    if arguments.case:
        run_case(int(arguments.case[0]), int(arguments.case[1]), arguments.case[2])
    elif arguments.cost:
        print_cost(arguments.cost)
    else:
        main()
