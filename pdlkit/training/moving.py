"""Training that goes on elsewhere: on more devices, or on fewer."""

import math
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from pdlkit.errors import lesson
from pdlkit.records import Program, State
from pdlkit.strategies.strategy import placed_shapes


def resized(program: Program, work, count: int) -> Program:
    """Return the program on `count` devices.

    Its own come first, then others that are here. The first axis of the mesh takes the change.

    Raises:
        ValueError: so many are not here, or the mesh, the model or the batch does
            not fit them.
    """
    own = list(program.mesh.devices.flat)
    here = own + [each for each in own[0].client.devices() if each not in own]
    if not hasattr(count, "__index__") or not 1 <= count <= len(here):
        raise ValueError(
            lesson(
                f"training cannot go on with {count} devices.",
                why=f"{len(here)} are here.",
                fix=f"1 to {len(here)}; for more, pdl.simulate_devices before pdl.mesh.",
            )
        )
    return _on(program, work, here[:count])


def without(program: Program, work, place: int) -> Program:
    """Return the program without one device, on as many of the others as fit.

    Args:
        program: what runs now.
        work: the workload.
        place: of the device to leave out, in mesh order.

    Raises:
        ValueError: there is no such device, or no smaller mesh fits.
    """
    check_place(program, place)
    left = [each for i, each in enumerate(program.mesh.devices.flat) if i != place]
    for count in range(len(left), 0, -1):
        try:
            return _on(program, work, left[:count])
        except ValueError:
            continue
    raise ValueError(
        lesson(
            f"training cannot go on without device {place} of {program.mesh.size}.",
            why="no smaller mesh fits the model and the batch.",
            fix="a mesh whose first axis is larger.",
        )
    )


def carry(state: State, here: Program, there: Program, work) -> State:
    """Return the state as another program of the same strategy wants it.

    It goes by way of what one device would keep. Where the two do not remember alike,
    the weights and the count of steps go along, the optimizer's state if it fits, and
    what the strategy itself remembers begins anew.
    """
    wanted = placed_shapes(there, work.model)
    whole = jax.device_get(here.whole(state))
    moved = there.spread(whole)
    if _alike(moved, wanted):
        return _placed(moved, wanted)
    fresh = there.init(here.gather(state))
    step = np.full(fresh.step.shape, np.ravel(whole.step)[0], fresh.step.dtype)
    fresh = fresh._replace(step=jax.device_put(step, fresh.step.sharding))
    if not _alike(moved.optimizer, wanted.optimizer):
        return fresh
    return fresh._replace(optimizer=_placed(moved.optimizer, wanted.optimizer))


def _alike(tree, wanted) -> bool:
    return jax.tree.map(np.shape, tree) == jax.tree.map(np.shape, wanted)


def _placed(tree, wanted):
    return jax.tree.map(lambda leaf, like: jax.device_put(leaf, like.sharding), tree, wanted)


def check_place(program: Program, place: int) -> None:
    """Raise ValueError if a mesh has no device at this place."""
    if not 0 <= place < program.mesh.size:
        raise ValueError(
            lesson(
                f"there is no device {place} to slow down or to drop.",
                why=f"the mesh has {program.mesh.size}, counted from 0 in mesh order.",
                fix=f"0 to {program.mesh.size - 1}.",
            )
        )


def _on(program: Program, work, devices: Sequence) -> Program:
    """Return the program on these devices, if a step can be traced there."""
    names, sizes = program.mesh.axis_names, program.mesh.devices.shape
    others = math.prod(sizes[1:])
    if len(devices) % others:
        raise ValueError(
            lesson(
                f"{len(devices)} devices do not make a mesh of axes {', '.join(names)}.",
                why=f"all axes but the first keep their sizes, which multiply to {others}.",
                fix=f"a multiple of {others}.",
            )
        )
    grid = np.array(devices).reshape(-1, *sizes[1:])
    there = program.on(Mesh(grid, names, axis_types=(AxisType.Auto,) * len(names)))
    if there.mesh.size != len(devices):
        raise ValueError(
            lesson(
                f"training cannot go on with {len(devices)} devices.",
                why=f"its strategy uses {there.mesh.size} of them.",
                fix="a strategy that cuts the batch or the model, such as DataParallel.",
            )
        )
    shapes = placed_shapes(there, work.model)
    jax.eval_shape(there.step, shapes, work.batch(0))
    return there
