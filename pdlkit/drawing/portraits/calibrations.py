"""Figures fitted to a machine: what was measured, and how they err."""

from pdlkit.pictures import Axis, Panel, Picture, Table
from pdlkit.prediction.calibrations import Calibration, Residual
from pdlkit.units import write_bytes, write_flops

_UNITS = {
    "start": "one number",
    "product": "{} x {} matrices",
    "stream": "{} bytes",
    "all_reduce": "{} bytes",
}


def calibration(found: Calibration) -> Picture:
    """Return a table of the samples, each with its two times and the error."""
    device = found.hardware
    rate = write_flops(device.flops["fp32"])
    return Picture(
        f"{device.name}: {rate}/s, memory {write_bytes(device.bytes_per_second)}/s, links "
        f"{write_bytes(device.scale_up.bytes_per_second)}/s",
        (_table(found),),
        alt=f"what was measured among {found.devices} devices, what the fitted figures say, and "
        "the error",
    )


def _table(found: Calibration) -> Panel:
    header = (Axis("what"), Axis("of"), Axis("measured", "s"), Axis("modelled", "s"), Axis("error"))
    rows = tuple(_row(each) for each in found.residuals)
    means = ", ".join(f"{kind} {found.error(kind):.0%}" for kind in _UNITS)
    note = f"On the mean the figures err by: {means}."
    return Panel("the fit", "measured", (Table(header, rows, "modelled"),), note=note)


def _row(residual: Residual) -> tuple:
    kind, size, seconds = residual.sample[:3]
    said = f"{size:,}"
    return (
        kind,
        _UNITS[kind].format(said, said),
        seconds,
        residual.modelled,
        f"{residual.error:+.0%}",
    )
