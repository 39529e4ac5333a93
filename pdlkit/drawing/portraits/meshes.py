"""A mesh as a grid of its devices, in mesh order."""

import numpy as np
from jax.sharding import Mesh

from pdlkit.pictures import Axis, Cell, Panel, Picture

ROW = 8  # devices side by side where a mesh has one axis
_TITLE = "ids of the devices"


def mesh(mesh: Mesh) -> Picture:
    """Return the grid of devices; a third axis and more are slabs side by side."""
    names = tuple(map(str, mesh.axis_names))
    ids = np.vectorize(lambda device: device.id, otypes=[int])(mesh.devices)
    sizes = ", ".join(f"{name}={size}" for name, size in zip(names, ids.shape, strict=True))
    platform = mesh.devices.flat[0].platform.upper()
    devices = "device" if ids.size == 1 else "devices"
    panels = [_slab(ids, names, place) for place in np.ndindex(ids.shape[:-2])]
    return Picture(
        f"{ids.size} {platform} {devices} as a mesh{': ' if sizes else ''}{sizes}",
        tuple(panels),
        alt=f"mesh of {ids.size} {devices}{', ' if sizes else ''}{sizes}",
        columns=min(len(panels), 4 if ids.shape[-1:] <= (2,) else 2),
    )


def _slab(ids: np.ndarray, names: tuple[str, ...], place: tuple[int, ...]) -> Panel:
    if ids.ndim < 2:
        return _row(ids.ravel(), *names)
    slab = ids[place]
    cells = tuple(
        Cell(row, column, str(slab[row, column]), kind=f"{names[-2]} {row}")
        for row, column in np.ndindex(slab.shape)
    )
    down, across = (Axis(names[i], names=_counted(ids.shape[i])) for i in (-2, -1))
    title = ", ".join(f"{name} {at}" for name, at in zip(names, place, strict=False)) or _TITLE
    return Panel(title, "counted", cells, x=across, y=down)


def _row(ids: np.ndarray, name: str = "") -> Panel:
    if ids.size <= ROW:
        cells = [Cell(0, at, str(each), kind=str(at)) for at, each in enumerate(ids)]
        across, down = Axis(name, names=_counted(ids.size)), Axis()
    else:
        cells = [
            Cell(*divmod(at, ROW), str(ids[at]), kind=str(at // ROW)) for at in range(ids.size)
        ]
        across = Axis(names=tuple(f"+{at}" for at in range(ROW)))
        down = Axis(name, names=tuple(str(first) for first in range(0, ids.size, ROW)))
    return Panel(_TITLE, "counted", tuple(cells), x=across, y=down)


def _counted(size: int) -> tuple[str, ...]:
    return tuple(map(str, range(size)))
