"""Devices: as many as were asked for, changed while they run, laid out on meshes."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from pdlkit.devices import absent_mesh, check_mesh, mesh, refuse_to_resize, simulate_devices

OURS = ("PJRT_NPROC", "XLA_FLAGS", "JAX_NUM_CPU_DEVICES", "JAX_PLATFORMS")
FIRST_LINES = """
import os, jax, jax.numpy as jnp, numpy as np
from jax.sharding import PartitionSpec
from pdlkit.devices import absent_mesh, check_mesh, mesh, simulate_devices

def summed(data):
    whole, cut = PartitionSpec(), PartitionSpec("data")
    total = lambda x: jax.lax.psum(x.sum(), "data")
    return jax.jit(jax.shard_map(total, mesh=data, in_specs=cut, out_specs=whole))

def status(field):
    line = [each for each in open("/proc/self/status") if each.startswith(field)][0]
    return int(line.split()[1])
"""

on_linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")


def fresh(code: str, **environment: str) -> list[str]:
    """Run code in a process where JAX sleeps, and return the lines that it prints."""
    around = {name: value for name, value in os.environ.items() if name not in OURS}
    finished = subprocess.run(
        [sys.executable, "-c", FIRST_LINES + textwrap.dedent(code)],
        env=around | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.splitlines()


def spells(*lines: str) -> str:
    """Return the pattern of a whole error message."""
    return "^" + re.escape("\n".join(lines)) + "$"


def test_what_is_asked_for_is_here():
    """`simulate_devices(n)` gives n devices; XLA_FLAGS and the environment give way."""
    code = "simulate_devices(5); print(jax.device_count())"
    settings = {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}
    assert fresh(code, JAX_NUM_CPU_DEVICES="2", **settings) == ["5"]


def test_a_fresh_process_survives_the_flags():
    """Only flags that this jaxlib knows are set: an unknown one would end the process."""
    code = "simulate_devices(4); print(summed(mesh(data=4))(jnp.arange(8.0)))"
    assert fresh(code) == ["28.0"]


def test_flags_of_the_reader_stay():
    """What XLA_FLAGS held is still there, and a timeout that was set is not set again."""
    late = "--xla_cpu_collective_call_terminate_timeout_seconds=7"
    code = f"""
        from pdlkit.compat import knows_collective_timeouts
        mine = "--xla_force_host_platform_device_count=3"
        mine += " {late}" if knows_collective_timeouts() else ""
        os.environ["XLA_FLAGS"] = mine
        simulate_devices(4)
        found = os.environ["XLA_FLAGS"].split()
        assert found[: len(mine.split())] == mine.split(), found
        assert len({{each.split("=")[0] for each in found}}) == len(found), found
    """
    fresh(code)


@pytest.mark.parametrize(("before", "threads"), [("", 100), ("3", 100), ("300", 300)])
def test_every_device_has_two_threads(before, threads):
    """The pool gets two threads a device, also where fewer were set; more stay."""
    code = "simulate_devices(50); print(os.environ['PJRT_NPROC'])"
    assert fresh(code, **({"PJRT_NPROC": before} if before else {})) == [str(threads)]


def test_pool_follows_a_change():
    """After 64 devices, 2 have the pool of 2 again."""
    printed = fresh("simulate_devices(64); simulate_devices(2); print(os.environ['PJRT_NPROC'])")
    assert printed == [str(max(4, os.cpu_count() or 1))]


def test_accelerators_stay_asleep():
    """JAX is kept to the CPU, so that arrays placed nowhere lie with the mesh."""
    assert fresh("simulate_devices(2); print(jax.config.jax_platforms)") == ["cpu"]


def test_platforms_without_the_cpu_are_refused():
    """Where the reader kept JAX to a GPU, there is nothing to simulate devices with."""
    code = """
        try:
            simulate_devices(2)
        except RuntimeError as error:
            print(error)
    """
    assert fresh(code, JAX_PLATFORMS="cuda") == [
        "simulate_devices(2) needs the CPU, but jax_platforms is 'cuda'.",
        "  why: it is the CPU that simulates devices, and this setting leaves it out.",
        "  try: jax_platforms='cuda,cpu', or leave it unset.",
    ]


def test_another_number_than_asked_is_an_error():
    """Where something else makes JAX's devices, their number is not taken on trust."""
    code = """
        from jax.extend import backend
        from pdlkit.compat import make_cpu_client
        backend.register_backend_factory("cpu", lambda: make_cpu_client(3))
        try:
            simulate_devices(4)
        except RuntimeError as error:
            print(error)
    """
    assert fresh(code) == [
        "simulate_devices(4) was asked for, but 3 are here.",
        "  why: something else in this process makes JAX's devices, or keeps JAX busy.",
        "  try: restart the kernel, and make this call the first cell.",
    ]


def test_same_number_changes_nothing():
    """Asked for again, the same number leaves devices and compiled programs as they are."""
    before, traced = jax.devices(), []
    program = jax.jit(lambda x: traced.append(x) or x + 1)
    program(1)
    simulate_devices(jax.device_count())
    program(1)
    assert all(new is old for new, old in zip(jax.devices(), before, strict=True))
    assert len(traced) == 1


def test_devices_made_by_someone_else_are_made_anew():
    """Devices from before our call have too small a pool, also where the number is right."""
    code = """
        jax.config.update("jax_num_cpu_devices", 4)
        before = jax.devices()
        simulate_devices(4)
        assert len(jax.devices()) == 4 and jax.devices()[0] is not before[0]
    """
    fresh(code)


def test_what_was_made_before_goes_on():
    """Old arrays and programs work after a change, and are the present ones after another."""
    code = """
        simulate_devices(8)
        old, x = mesh(data=8), jnp.arange(16.0)
        program = summed(old)
        placed = program.lower(x).compile()
        y = program(x)
        simulate_devices(4)
        assert jax.device_count() == 4 and jnp.ones(3).devices() == {jax.devices()[0]}
        print(program(x), placed(x), program(np.arange(16.0)), y + 1, float(x[3]))
        print(summed(mesh(data=4))(np.arange(16.0)))
        simulate_devices(8)
        check_mesh(old)
        print(program(jnp.arange(16.0)))
    """
    assert fresh(code) == ["120.0 120.0 120.0 121.0 3.0", "120.0", "120.0"]


def test_mesh_of_replaced_devices_is_named():
    """Building anew on devices that are gone is an error, which says how many there were."""
    code = """
        simulate_devices(8)
        old = mesh(data=2, model=2)
        simulate_devices(4)
        try:
            check_mesh(old)
        except ValueError as error:
            print(error)
    """
    assert fresh(code) == [
        "mesh data=2 x model=2 was made for 8 simulated devices, but 4 are here now.",
        "  why: simulate_devices replaces the devices, and a mesh keeps those it was made of.",
        "  try: make it again with pdl.mesh, of at most 4.",
    ]


@on_linux
def test_two_hundred_changes_leave_nothing_behind():
    """After 200 changes a few clients wait to be used again; collected, nothing is left of them."""
    code = """
        def use(n, compiling):
            simulate_devices(n)
            cut = jax.sharding.NamedSharding(mesh(data=n), PartitionSpec("data"))
            rows = jax.device_put(np.arange(2.0 * n), cut)
            if compiling:
                assert summed(cut.mesh)(rows) == n * (2 * n - 1)
        use(8, compiling=True)
        threads = status("Threads:")
        for change in range(200):
            use(change % 8 + 1, compiling=change < 24)
            if change == 24:
                kilobytes = status("VmRSS:")
        simulate_devices(1), simulate_devices(8)
        waiting = status("Threads:") - threads
        import gc
        gc.collect()
        print(waiting, status("Threads:") - threads, (status("VmRSS:") - kilobytes) // 1000)
    """
    waiting, threads, megabytes = map(int, fresh(code)[0].split())
    assert waiting <= 100
    assert threads <= 8
    assert megabytes < 100


@on_linux
def test_what_is_kept_costs_one_set_of_devices_a_size():
    """A program kept from every change shares the devices of its size with its like."""
    code = """
        kept = []
        simulate_devices(1)
        threads = status("Threads:")
        for change in range(48):
            simulate_devices(change % 4 + 1)
            kept.append(summed(mesh(data=change % 4 + 1)))
            kept[-1](jnp.arange(12.0))
        print(status("Threads:") - threads)
    """
    assert int(fresh(code)[0]) < 16 * (1 + 2 + 3 + 4)


def test_change_outlasts_a_callback():
    """A callback on the old devices may wake them while they are replaced: they go anyway."""
    code = """
        from jax.extend import backend
        simulate_devices(2)
        clear, waking = backend.clear_backends, iter([True, True])
        def interrupted():
            clear()
            if next(waking, False):
                jax.devices()
        backend.clear_backends = interrupted
        simulate_devices(3)
        print(jax.device_count(), list(waking))
    """
    assert fresh(code) == ["3 []"]


@pytest.mark.parametrize("name", ["cuda", "tpu"])
def test_awake_accelerator_is_left_alone(name):
    """Devices are not replaced under arrays that lie on a real accelerator."""
    message = spells(
        f"simulate_devices(4) came after JAX had woken {name}.",
        "  why: devices are replaced all at once, and arrays on a real one would be lost.",
        "  try: restart the kernel, and make this call the first cell.",
    )
    with pytest.raises(RuntimeError, match=message):
        refuse_to_resize(4, {"cpu", name}, processes=1)
    refuse_to_resize(4, {"cpu"}, processes=1)


def test_joined_processes_are_left_alone():
    """One of several processes cannot change its number of devices alone."""
    message = spells(
        "simulate_devices(4) came after 2 processes had joined devices.",
        "  why: each process has a list of all devices, and only this one's would change.",
        "  try: start them again, and make this call in each before its first array.",
    )
    with pytest.raises(RuntimeError, match=message):
        refuse_to_resize(4, {"cpu"}, processes=2)


def test_mesh_is_outermost_first():
    """`mesh(data=2, model=4)` has rows of four neighbours, and every axis is Auto."""
    both = mesh(data=2, model=4)
    assert dict(both.shape) == {"data": 2, "model": 4}
    assert [device.id for device in both.devices[1]] == [4, 5, 6, 7]
    assert both.axis_types == (AxisType.Auto, AxisType.Auto)


def test_mesh_takes_the_first_devices():
    """A mesh may be smaller than the machine."""
    assert list(mesh(data=3).devices) == jax.devices()[:3]


def test_mesh_takes_accelerators_where_there_are_enough(monkeypatch):
    """Four GPUs hold data=4; data=8 goes to the eight simulated devices."""
    gpus = [type("Gpu", (), {"platform": "gpu"})() for _ in range(4)]
    monkeypatch.setattr(jax, "devices", lambda: gpus)
    monkeypatch.setattr(jax, "make_mesh", lambda *grid, axis_types, devices: devices)
    assert mesh(data=2, model=2) == gpus
    assert {device.platform for device in mesh(data=8)} == {"cpu"}


def test_absent_mesh_compiles():
    """A program is compiled for 64 devices that are not here, and they stay unlisted."""
    absent = absent_mesh(data=16, model=4)
    cut = NamedSharding(absent, PartitionSpec("data", "model"))
    rows = jax.ShapeDtypeStruct((64, 64), jnp.float32, sharding=cut)
    compiled = jax.jit(lambda x: (x @ x).sum()).lower(rows).compile()
    assert re.search(r"num_partitions=64\b", compiled.as_text())
    assert jax.device_count() == 8
    assert absent.axis_types == (AxisType.Auto, AxisType.Auto)


def test_only_replaced_devices_are_refused():
    """Present, absent and abstract meshes are all good to build for."""
    kinds = (AxisType.Auto,)
    check_mesh(mesh(data=8))
    check_mesh(absent_mesh(data=8))
    check_mesh(AbstractMesh((8,), ("data",), axis_types=kinds))


@on_linux
def test_absent_mesh_goes_when_it_is_let_go():
    """The threads of absent devices end with the mesh, at the latest with the next one."""
    code = """
        import gc
        simulate_devices(2)
        absent_mesh(data=2)
        gc.collect()
        threads = status("Threads:")
        for n in range(30, 60):
            absent_mesh(data=n)
            gc.collect()
        print(status("Threads:") - threads)
        print(os.environ["PJRT_NPROC"] != "1", jax.device_count())
    """
    threads, *rest = fresh(code)
    assert int(threads) <= 8 * 60
    assert rest == ["True 2"]


MISTAKES = """
mesh(data=8, model=8)
ValueError: mesh data=8 x model=8 needs 64 devices, but 8 are here.
  why: each cell of the grid is one device.
  try: pdl.simulate_devices(64) in the first cell, or a smaller mesh.

mesh(data=1024)
ValueError: mesh data=1024 needs 1024 devices, but 8 are here.
  why: each cell of the grid is one device.
  try: a smaller mesh.

mesh()
ValueError: mesh() has no axes.
  why: a strategy finds its devices by the name of their axis.
  try: name each axis and its size: data=8, or data=2, model=4.

mesh(data=0)
ValueError: mesh axis data=0 is less than 1.
  why: devices are counted, and one is the fewest.
  try: 1 or more.

mesh(data=2.0)
TypeError: mesh axis data=2.0 is not a whole number.
  why: devices are counted.
  try: a whole number such as 8; int(...) makes one of 8.0.

absent_mesh(data=1024)
ValueError: absent_mesh data=1024 has 1024 devices, more than 512.
  why: to compile for a device, this machine keeps threads and memory for it.
  try: a smaller mesh.

simulate_devices(0)
ValueError: simulate_devices(0) is less than 1.
  why: devices are counted, and one is the fewest.
  try: 1 or more.

simulate_devices(True)
TypeError: simulate_devices(True) is not a whole number.
  why: devices are counted.
  try: a whole number such as 8; int(...) makes one of 8.0.

simulate_devices(513)
ValueError: simulate_devices(513) asks for more than 512.
  why: every simulated device costs threads and memory of this one machine.
  try: fewer devices.
""".strip().split("\n\n")


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda text: text.partition("\n")[0])
def test_mistakes_teach(mistake):
    """Each mistake is answered with what happened, why, and what to try."""
    line, _, answer = mistake.partition("\n")
    with pytest.raises((TypeError, ValueError)) as raised:
        eval(line)
    assert f"{raised.type.__name__}: {raised.value}" == answer


def test_numbers_of_numpy_count():
    """A size may be any whole number, also one that numpy cannot multiply by another."""
    assert mesh(data=np.int64(2)).size == 2
    with pytest.raises(ValueError, match="needs 256 devices"):
        mesh(data=np.uint8(16), model=np.uint8(16))
