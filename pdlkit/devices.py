"""The devices a lesson runs on, simulated or real, and meshes of them."""

import math
import operator
from collections.abc import Collection, Mapping

import jax
import numpy as np
from jax.extend import backend
from jax.sharding import AbstractMesh, AxisType, Mesh

from pdlkit import compat, cpu
from pdlkit.errors import lesson

MOST_DEVICES = 512  # idle, so many have 1,300 threads on JAX 0.10 and 3,300 on 0.12


def simulate_devices(n: int) -> None:
    """Show this machine's cores to JAX as `n` devices; later, as another `n`.

    Who wants a real GPU does not call it: before JAX has woken, it also keeps JAX to
    the CPU, unless `jax_platforms` is set. So arrays placed nowhere lie where the mesh
    is, and `n` can be changed later. It wakes JAX: join processes
    (`jax.distributed`) first.

    Arrays and programs from before a change go on working among themselves. A mesh
    from before it is no longer built for, until `n` is again what it was.

    Raises:
        TypeError: `n` is not a whole number.
        ValueError: `n` is not in 1 to 512.
        RuntimeError: the number cannot be changed any more, or did not change.
    """
    n = _count(n, f"simulate_devices({n!r})")
    if n > MOST_DEVICES:
        raise ValueError(
            lesson(
                f"simulate_devices({n}) asks for more than {MOST_DEVICES}.",
                why="every simulated device costs threads and memory of this one machine.",
                fix="fewer devices.",
            )
        )
    if not compat.awake():
        _choose_cpu(n)
        cpu.wake(n)
    elif not cpu.is_here(n):
        refuse_to_resize(n, backend.backends(), jax.process_count())
        cpu.resize(n)
    here = len(jax.local_devices(backend="cpu"))
    if here != n:
        raise RuntimeError(
            lesson(
                f"simulate_devices({n}) was asked for, but {_are(here)} here.",
                why="something else in this process makes JAX's devices, or keeps JAX busy.",
                fix="restart the kernel, and make this call the first cell.",
            )
        )


def mesh(**axes: int) -> Mesh:
    """Lay devices out on a grid with these axes, outermost first.

    Real accelerators where there are enough of them, simulated devices otherwise;
    of more than it needs it takes the first.

    Raises:
        TypeError: a size is not a whole number.
        ValueError: no axes, a size below 1, or more cells than devices.
    """
    needed = _cells(axes, "mesh")
    accelerators = [device for device in jax.devices() if device.platform != "cpu"]
    simulated = cpu.listed()
    devices = accelerators if len(accelerators) >= needed else simulated
    if len(devices) < needed:
        simulate = f"pdl.simulate_devices({needed}) in the first cell, or "
        most = max(len(accelerators), len(simulated))
        raise ValueError(
            lesson(
                f"mesh {grid(axes)} needs {needed} devices, but {_are(most)} here.",
                why="each cell of the grid is one device.",
                fix=(simulate if needed <= MOST_DEVICES else "") + "a smaller mesh.",
            )
        )
    kinds = (AxisType.Auto,) * len(axes)  # make_mesh's own default changed in JAX 0.9
    sizes = tuple(axes.values())
    return jax.make_mesh(sizes, tuple(axes), axis_types=kinds, devices=devices[:needed])


def absent_mesh(**axes: int) -> Mesh:
    """Lay out devices that are not here, to compile for and never to run on.

    Simulated on a client of their own, which JAX does not list. 64 of them cost
    15 ms and 140 idle threads (260 on JAX 0.12), until the mesh is let go; a loop
    run there would stall.

    Raises:
        TypeError: a size is not a whole number.
        ValueError: no axes, a size below 1, or more than 512 cells.
    """
    needed = _cells(axes, "absent_mesh")
    if needed > MOST_DEVICES:
        raise ValueError(
            lesson(
                f"absent_mesh {grid(axes)} has {needed} devices, more than {MOST_DEVICES}.",
                why="to compile for a device, this machine keeps threads and memory for it.",
                fix="a smaller mesh.",
            )
        )
    devices = np.array(cpu.absent(needed).devices()).reshape(tuple(axes.values()))
    return Mesh(devices, tuple(axes), axis_types=(AxisType.Auto,) * len(axes))


def check_mesh(mesh: Mesh | AbstractMesh) -> None:
    """Raise if a mesh's simulated devices have been replaced since it was made.

    For what is built anew: a program that was built on them goes on working.
    Accelerators, absent and abstract devices are never replaced.

    Raises:
        ValueError: the devices of the mesh are no longer those that are here.
    """
    if isinstance(mesh, AbstractMesh) or mesh.devices.flat[0].platform != "cpu":
        return
    client = mesh.devices.flat[0].client
    if not cpu.was_replaced(client):
        return
    then, here = len(client.devices()), len(cpu.listed())
    raise ValueError(
        lesson(
            f"mesh {grid(mesh.shape)} was made for {_simulated(then)}, but {_are(here)} here now.",
            why="simulate_devices replaces the devices, and a mesh keeps those it was made of.",
            fix=f"make it again with pdl.mesh, of at most {here}.",
        )
    )


def grid(axes: Mapping[str, int]) -> str:
    """Return the axes of a mesh as errors and tables write them: data=2 x model=4."""
    return " x ".join(f"{axis}={size}" for axis, size in axes.items())


def refuse_to_resize(n: int, platforms: Collection[str], processes: int) -> None:
    """Raise where the devices of a JAX that is awake must stay as they are.

    Args:
        n: how many simulated devices were asked for.
        platforms: JAX's names of those awake: `cpu`, `cuda`, `tpu`, ...
        processes: how many share their devices through `jax.distributed`.

    Raises:
        RuntimeError: an accelerator is awake, or other processes are joined.
    """
    accelerators = sorted(set(platforms) - {"cpu"})
    if accelerators:
        raise RuntimeError(
            lesson(
                f"simulate_devices({n}) came after JAX had woken {', '.join(accelerators)}.",
                why="devices are replaced all at once, and arrays on a real one would be lost.",
                fix="restart the kernel, and make this call the first cell.",
            )
        )
    if processes > 1:
        raise RuntimeError(
            lesson(
                f"simulate_devices({n}) came after {processes} processes had joined devices.",
                why="each process has a list of all devices, and only this one's would change.",
                fix="start them again, and make this call in each before its first array.",
            )
        )


def _choose_cpu(n: int) -> None:
    """Leave accelerators asleep, unless the reader has chosen platforms himself."""
    platforms = jax.config.values["jax_platforms"]
    if not platforms:
        jax.config.update("jax_platforms", "cpu")
    elif "cpu" not in platforms.split(","):
        raise RuntimeError(
            lesson(
                f"simulate_devices({n}) needs the CPU, but jax_platforms is {platforms!r}.",
                why="it is the CPU that simulates devices, and this setting leaves it out.",
                fix=f"jax_platforms={platforms + ',cpu'!r}, or leave it unset.",
            )
        )


def _cells(axes: Mapping[str, int], maker: str) -> int:
    """Return how many devices a grid with these axes has."""
    if not axes:
        raise ValueError(
            lesson(
                f"{maker}() has no axes.",
                why="a strategy finds its devices by the name of their axis.",
                fix="name each axis and its size: data=8, or data=2, model=4.",
            )
        )
    return math.prod(_count(size, f"{maker} axis {axis}={size!r}") for axis, size in axes.items())


def _count(value, what: str) -> int:
    """Return a number of devices that a reader gave, as an int."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(
            lesson(
                f"{what} is not a whole number.",
                why="devices are counted.",
                fix="a whole number such as 8; int(...) makes one of 8.0.",
            )
        )
    if operator.index(value) < 1:
        raise ValueError(
            lesson(
                f"{what} is less than 1.",
                why="devices are counted, and one is the fewest.",
                fix="1 or more.",
            )
        )
    return operator.index(value)


def _simulated(count: int) -> str:
    return f"{count} simulated device" + "s" * (count != 1)


def _are(count: int) -> str:
    return "1 is" if count == 1 else f"{count} are"
