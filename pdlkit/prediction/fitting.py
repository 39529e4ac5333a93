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

    Args:
        samples: products of square float32 matrices, streams and all-reduces.
        name: of the device.
        devices: among which the all-reduces were measured.
        memory_bytes: what each has.

    Raises:
        ValueError: too few samples of a kind.
    """
    of = {
        kind: [s for s in samples if s.kind == kind] for kind in ("stream", "product", "all_reduce")
    }
    size, seconds = ({k: np.array([s[i] for s in of[k]], float) for k in of} for i in (1, 2))
    side, streamed = size["product"], size["stream"]
    # A product writes its result, as a stream does; both pay for being begun.
    terms = np.concatenate(
        [
            np.stack([streamed**0, streamed, 0 * streamed], axis=1),
            np.stack([side**0, 4 * side**2, 2 * side**3], axis=1),
        ]
    )
    both = np.concatenate([seconds["stream"], seconds["product"]])
    figures = fit_lines(terms, both)
    shortest, stream, operation = figures
    others = devices - 1
    wire = np.stack([np.full(len(of["all_reduce"]), 2 * others),
                     2 * others / devices * size["all_reduce"]], axis=1)  # fmt: skip
    alpha, beta = fit_lines(wire, seconds["all_reduce"])
    _check_rates(operation, stream, beta)
    hardware = Hardware(
        name=name,
        flops={"fp32": float(1 / operation)},
        memory_bytes=memory_bytes,
        bytes_per_second=float(1 / stream),
        scale_up=Link(float(1 / beta), 1.0, float(alpha)),
        node=devices,
        matmul_share=1.0,
        stream_share=1.0,
        operation_seconds=float(shortest),
        message_share=1.0,
        sources={"flops": "fitted to measured seconds on this machine"},
    )
    modelled = {
        "stream": (terms @ figures)[: len(streamed)],
        "product": (terms @ figures)[len(streamed) :],
        "all_reduce": wire @ np.array([alpha, beta]),
    }
    residuals = tuple(
        Residual(sample, float(each))
        for kind in of
        for sample, each in zip(of[kind], modelled[kind], strict=True)
    )
    return Calibration(hardware, residuals, devices)


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
