"""An array by its pieces: which device holds which part of it."""

import jax
from jax.sharding import NamedSharding

from pdlkit.drawing.portraits.meshes import ROW
from pdlkit.pictures import Axis, Cell, Panel, Picture, Table

Piece = tuple[tuple[int, int], ...]  # start and stop along each dimension


def array(array: jax.Array) -> Picture:
    """Return the array cut as its sharding cuts it; no value is read."""
    pieces = _pieces(array)
    count = len(array.sharding.device_set)
    what = f"{array.dtype}[{', '.join(map(str, array.shape))}]"
    wide = array.ndim == 2 and len({columns for _, columns in pieces}) > ROW
    draw = _table if wide else {1: _row, 2: _grid}.get(array.ndim, _table)
    return Picture(
        f"{what}: {_found(pieces, count)}",
        (draw(array, pieces),),
        alt=f"which of {count} device{'s' * (count != 1)} holds which part of {what}",
    )


def _pieces(array: jax.Array) -> dict[Piece, list[int]]:
    """Return the ids of the devices that hold each piece, first piece first."""
    pieces: dict[Piece, list[int]] = {}
    for device, slices in array.sharding.devices_indices_map(array.shape).items():
        ends = (cut.indices(size)[:2] for cut, size in zip(slices, array.shape, strict=True))
        pieces.setdefault(tuple(ends), []).append(device.id)
    return {piece: sorted(pieces[piece]) for piece in sorted(pieces)}


def _found(pieces: dict[Piece, list[int]], count: int) -> str:
    holders = count // len(pieces)
    if len(pieces) == 1:
        return "whole on 1 device" if count == 1 else f"whole on each of {count} devices"
    on = "its own device" if holders == 1 else f"{holders} devices"
    size = " × ".join(str(stop - start) for start, stop in next(iter(pieces)))
    return f"{len(pieces)} pieces of {size}, each on {on}"


def _row(array: jax.Array, pieces: dict[Piece, list[int]]) -> Panel:
    if len(pieces) > ROW:
        return _wrapped(array, pieces)
    cells = tuple(_cell(0, i, _held(array, ids)) for i, ids in enumerate(pieces.values()))
    spans = tuple(_span(piece[0]) for piece in pieces)
    return Panel(_heading(array), "counted", cells, x=Axis(_named(array, 0), names=spans))


def _wrapped(array: jax.Array, pieces: dict[Piece, list[int]]) -> Panel:
    cells = tuple(
        _cell(*divmod(i, ROW), f"{_span(piece[0])}\n{_held(array, ids)}")
        for i, (piece, ids) in enumerate(pieces.items())
    )
    return Panel("which part, and the device that holds it", "counted", cells)


def _grid(array: jax.Array, pieces: dict[Piece, list[int]]) -> Panel:
    rows, columns = (sorted({piece[dimension] for piece in pieces}) for dimension in (0, 1))
    cells = tuple(
        _cell(rows.index(piece[0]), columns.index(piece[1]), _held(array, ids))
        for piece, ids in pieces.items()
    )
    return Panel(
        _heading(array),
        "counted",
        cells,
        x=Axis(_named(array, 1), names=tuple(map(_span, columns))),
        y=Axis(_named(array, 0), names=tuple(map(_span, rows))),
    )


def _table(array: jax.Array, pieces: dict[Piece, list[int]]) -> Panel:
    rows = tuple(
        (f"[{', '.join(map(_span, piece))}]", _held(array, ids)) for piece, ids in pieces.items()
    )
    table = Table((Axis("part"), Axis("devices")), rows)
    return Panel("which device holds which part", "counted", (table,))


def _cell(row: int, column: int, label: str) -> Cell:
    return Cell(row, column, label, kind=label)


def _heading(array: jax.Array) -> str:
    sharding = array.sharding
    if not isinstance(sharding, NamedSharding):
        return "the devices that hold each part"
    sizes = ", ".join(f"{name}={size}" for name, size in sharding.mesh.shape.items())
    return f"the devices that hold each part, of a mesh {sizes}"


def _named(array: jax.Array, dimension: int) -> str:
    """Return the dimension with the mesh axes that cut it."""
    spec = getattr(array.sharding, "spec", ())
    axes = spec[dimension] if dimension < len(spec) else None
    axes = (axes,) if isinstance(axes, str) else axes or ()
    by = f", cut by {' and '.join(axes)}" if axes else ""
    return f"dimension {dimension}{by}"


def _span(ends: tuple[int, int]) -> str:
    return f"{ends[0]}:{ends[1]}"


def _held(array: jax.Array, ids: list[int]) -> str:
    platform = next(iter(array.sharding.device_set)).platform
    return f"{platform.upper()} {write_devices(ids)}"


def write_devices(ids: list[int]) -> str:
    """Return sorted device ids in short: 0, 2, 4 to 7."""
    runs: list[list[int]] = []
    for each in ids:
        if runs and runs[-1][-1] == each - 1:
            runs[-1].append(each)
        else:
            runs.append([each])
    return ", ".join(
        f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs
    )
