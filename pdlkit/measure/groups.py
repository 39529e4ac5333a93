"""Which devices take part in a collective together, as HLO writes it."""

import math
import re
from collections.abc import Mapping

import numpy as np

from pdlkit.errors import lesson

_PAIRS = re.compile(r"source_target_pairs=\{((?:\{\d+,\d+\},?)*)\}")
_WRITTEN = re.compile(r"replica_groups=(.*?\S)(?=, [a-z]\w*=(?!\()|$)")
_LISTED = re.compile(r"\{(?:\{[\d,]*\},?)*\}")
_IOTA = re.compile(r"\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_MESH = re.compile(r"mesh\[([^\]]*)\](?:, device_ids=\((.*)\))? \{([^}]*)\}")
_ORDER = re.compile(r"\[([\d,]+)\]T\(([\d,]+)\)")  # device_ids of a mesh, counted up
_AXIS = re.compile(r"'?([^',:=]+)'?=(\d+)")
_AXIS_PART = re.compile(r"'?([^',:]+)'?(?::\((\d+)\)(\d+)'?)?(?:,|$)")

Groups = list[np.ndarray]  # the devices of each group


def replica_groups(attributes: str, devices: int) -> Groups:
    """Return the groups of a collective, whichever way they are written.

    Three ways are known: `{{0,1},{2,3}}`, `[2,2]<=[4]` and `mesh['a'=2,'b'=2] {'b'}`.
    Where none is written, all devices are one group.

    Raises:
        ValueError: they are written in a fourth way.
    """
    match = _WRITTEN.search(attributes)
    written = match[1] if match else "{}"
    if _LISTED.fullmatch(written):
        return _listed(written) or [np.arange(devices)]
    if iota := _IOTA.fullmatch(written):
        return list(_iota(*iota.groups()))
    if mesh := _MESH.fullmatch(written):
        return _on_mesh(*mesh.groups())
    raise ValueError(
        lesson(
            f"the compiler wrote the groups of a collective as {written}.",
            why="this is a way of writing them that pdlkit cannot read, and will not guess.",
            fix="a JAX from 0.7.2 to 0.12, or report.asked, which is read off the trace.",
        )
    )


def source_target_pairs(attributes: str) -> Groups:
    """Return the pairs of devices, source and target, of a permute."""
    match = _PAIRS.search(attributes)
    return _listed(match[1]) if match else []


def axes_along(groups: Groups, mesh: Mapping[str, int]) -> tuple[str, ...]:
    """Return the mesh axes along which the members of a group differ.

    Args:
        groups: numbers of devices, in mesh order.
        mesh: axis -> size.
    """
    differs = np.zeros(len(mesh), dtype=bool)
    for group in groups:
        places = np.array(np.unravel_index(group, tuple(mesh.values())))  # [axes, members]
        differs |= (places != places[:, :1]).any(axis=1)
    return tuple(axis for axis, is_along in zip(mesh, differs, strict=True) if is_along)


def _listed(text: str) -> Groups:
    return [np.array(_numbers(group)) for group in re.findall(r"\{([\d,]+)\}", text)]


def _iota(shape: str, counted: str, order: str | None) -> np.ndarray:
    devices = np.arange(math.prod(_numbers(counted))).reshape(_numbers(counted))
    if order:
        devices = devices.transpose(_numbers(order))
    return devices.reshape(_numbers(shape))


def _on_mesh(axes: str, device_ids: str | None, along: str) -> Groups:
    """Group the devices that differ only along the named axes, or parts of axes.

    `b:(2)4` is a part of axis b: the 4 ways in between, once it is cut in 2.
    """
    sizes = {name: int(size) for name, size in _AXIS.findall(axes)}
    rest = np.indices(tuple(sizes.values())).reshape(len(sizes), -1)  # [axes, devices]
    for name, before, ways in _AXIS_PART.findall(along):
        row, size = list(sizes).index(name), sizes[name]
        stride = size // (int(before) * int(ways)) if ways else 1
        rest[row] -= rest[row] // stride % (int(ways) if ways else size) * stride
    _, group_of = np.unique(rest, axis=1, return_inverse=True)
    devices = _device_ids(device_ids, rest.shape[1])
    return [devices[np.ravel(group_of) == group] for group in range(np.max(group_of) + 1)]


def _device_ids(written: str | None, devices: int) -> np.ndarray:
    if not written:
        return np.arange(devices)
    if iota := _IOTA.fullmatch(written):
        return _iota(*iota.groups()).ravel()
    if order := _ORDER.fullmatch(written):
        return _iota(str(devices), order[1], order[2])
    return np.array(_numbers(written.rpartition("]")[2]))


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]
