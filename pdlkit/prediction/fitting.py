"""Figures of a device and its links, from seconds that were measured on it."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls

from pdlkit.errors import lesson
from pdlkit.prediction.calibrations import Calibration, Residual, Sample
from pdlkit.prediction.hardware import Hardware, Link


def fit_lines(terms: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Return the figures, none negative, by which terms add up to measured seconds.

    Nearest in the share of each measurement, so that short ones count as much as
    long ones.

    Args:
        terms: [samples, figures].
        seconds: [samples].

    Raises:
        ValueError: fewer samples than figures, or a time that is not above 0.
    """
    terms, seconds = np.asarray(terms, float), np.asarray(seconds, float)
    if len(seconds) < terms.shape[1] or not (seconds > 0).all():
        raise ValueError(
            lesson(
                f"{len(seconds)} measurements cannot give {terms.shape[1]} figures.",
                why="each figure needs a measurement of its own, of a time above 0.",
                fix="more sizes, from short to long.",
            )
        )
    return nnls(terms / seconds[:, None], np.ones(len(seconds)))[0]


def calibrated(
    samples: Sequence[Sample], *, name: str, devices: int, memory_bytes: float
) -> Calibration:
    """Return the sheet that agrees best with what was measured on a device.

    A program takes what the host needs to start it, and so much for each operation,
    each multiplication or addition, and each byte that is read or written, all of
    them counted; an all-reduce so much a hop and a byte, round a ring.

    Args:
        samples: programs that start, multiply float32 matrices and stream; all-reduces.
        name: of the device.
        devices: among which the all-reduces were measured.
        memory_bytes: what each has.

    Raises:
        ValueError: too few samples of a kind.
    """
    programs = [each for each in samples if each.kind != "all_reduce"]
    sums = [each for each in samples if each.kind == "all_reduce"]
    terms = np.array([(1, s.operations, s.flops, s.bytes_accessed) for s in programs], float)
    others = devices - 1
    hops = np.array([(2 * others, 2 * others / devices * s.size) for s in sums], float)
    figures, wire = (
        fit_lines(each, np.array([s.seconds for s in of], float))
        for each, of in ((terms.reshape(-1, 4), programs), (hops.reshape(-1, 2), sums))
    )
    (host, shortest, operation, byte), (alpha, beta) = figures, wire
    _check_rates(operation, byte, beta)
    hardware = Hardware(
        name=name,
        flops={"fp32": float(1 / operation)},
        memory_bytes=memory_bytes,
        bytes_per_second=float(1 / byte),
        scale_up=Link(float(1 / beta), 1.0, float(alpha)),
        node=devices,
        matmul_share=1.0,
        stream_share=1.0,
        operation_seconds=float(shortest),
        host_seconds=float(host),
        message_share=1.0,
        sources={"flops": "fitted to measured seconds on this machine"},
    )
    modelled = [*terms @ figures, *hops @ wire]
    residuals = map(Residual, [*programs, *sums], map(float, modelled))
    return Calibration(hardware, tuple(residuals), devices)


def _check_rates(*seconds: float) -> None:
    """Raise if an operation or a byte more would take no time."""
    if not all(each > 0 for each in seconds):
        raise ValueError(
            lesson(
                "the measured times do not grow with the sizes.",
                why="what starts an operation hides what it takes, and no rate can be told.",
                fix="larger sizes.",
            )
        )
