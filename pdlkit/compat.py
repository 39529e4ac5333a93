"""The few names that moved between JAX 0.7.2 and 0.12."""

import jax
import jax.numpy as jnp
from jax import lax
from jax._src import mesh as mesh_lib
from jax._src import xla_bridge
from jaxlib import version as jaxlib_version
from jaxlib import xla_client


def vary(x, axes: tuple[str, ...]):
    """Mark `x` as differing along mesh axes; only inside `shard_map`.

    Autodiff sums the gradient of a value that is the same on every device, by
    itself; of a varying one it leaves each device its own part.
    """
    missing = tuple(axis for axis in axes if axis not in varying_axes(x))
    if not missing:
        return x
    if hasattr(lax, "pcast"):  # 0.8 and later
        return lax.pcast(x, missing, to="varying")
    return lax.pvary(x, missing)  # pyright: ignore[reportAttributeAccessIssue]


def varying_axes(x) -> frozenset[str]:
    """Return the mesh axes along which `x` differs; only inside `shard_map`."""
    kind = jax.typeof(x)
    if hasattr(kind, "manual_axis_type"):  # 0.10 and later
        return frozenset(kind.manual_axis_type.varying)
    return frozenset(kind.vma)


def sum_over(x, axes: tuple[str, ...]):
    """Sum `x` over mesh axes, whether it differs along all of them or only some.

    From JAX 0.10 on `lax.psum` wants a value that differs along all, or along none.
    """
    return lax.psum(vary(x, axes) if varying_axes(x) else x, axes)


def trace_now():
    """Return a token of the transformation being traced: equal inside the same one."""
    try:
        from jax.extend.core import get_opaque_trace_state  # noqa: PLC0415
    except ImportError:  # before 0.10
        from jax.core import get_opaque_trace_state  # noqa: PLC0415
    return get_opaque_trace_state()


def awake() -> bool:
    """Tell whether JAX has devices already; asking does not make them."""
    return xla_bridge.backends_are_initialized()


def make_cpu_client(devices: int):
    """Return a CPU client of its own, with `devices` devices JAX does not list."""
    return xla_client.make_cpu_client(asynchronous=True, num_devices=devices)


def knows_collective_timeouts() -> bool:
    """Tell whether XLA has flags for them: jaxlib 0.8.0 and later.

    An unknown flag ends the process without an exception.
    """
    return tuple(int(part) for part in jaxlib_version.__version__.split(".")[:2]) >= (0, 8)


def forget_meshes() -> None:
    """Let go of every mesh that only JAX still holds; later versions do so alone."""
    held = getattr(mesh_lib, "_mesh_object_dict", None)
    if isinstance(held, dict):
        held.clear()


def zeros_like_type(kind):
    """Return zeros of a traced type, varying along the same mesh axes."""
    moved = kind.manual_axis_type.varying if hasattr(kind, "manual_axis_type") else kind.vma
    return vary(jnp.zeros(kind.shape, kind.dtype), tuple(moved))
