"""What a fresh process finds: `python -m pdlkit.cli.probe devices`.

The doctor asks in a child process, since JAX may hang or die while it wakes.
"""

import sys

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from pdlkit.devices import mesh, simulate_devices


def devices() -> str:
    """Return the devices JAX sees, as it wakes by itself."""
    kinds = [device.device_kind for device in jax.devices()]
    return ", ".join(f"{kinds.count(kind)} x {kind}" for kind in sorted(set(kinds)))


def collective() -> str:
    """Return what a sum over two simulated devices gives."""
    simulate_devices(2)
    add = jax.shard_map(
        lambda share: jax.lax.psum(share, "data"),
        mesh=mesh(data=2),
        in_specs=PartitionSpec("data"),
        out_specs=PartitionSpec(),
    )
    total = jax.jit(add)(jnp.array([1.0, 2.0]))  # [1]
    if float(total[0]) != 3:
        raise ArithmeticError(f"1 + 2 over two devices gave {total}")
    return "2 of them add up 1 + 2 = 3"


if __name__ == "__main__":
    print({"devices": devices, "collective": collective}[sys.argv[1]]())
