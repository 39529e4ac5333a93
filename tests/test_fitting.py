"""Figures fitted to measured seconds: planted ones are found, noise is told, nonsense refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pdlkit as pdl
from pdlkit.cores import allowed_cores, within_quota
from pdlkit.prediction.calibrations import Sample
from pdlkit.prediction.fitting import calibrated, fit_lines

few = settings(max_examples=10, deadline=None)
CORES = within_quota(allowed_cores())


def planted(rate, bandwidth, alpha, beta, devices=4, noise=0.0):
    """Return samples of a machine with these figures; a start takes 50 us, an operation 5."""
    draw = np.random.default_rng(0)
    work = [Sample("start", 1, 0.0, 1, 0, 8)]
    work += [Sample("stream", 2**power, 0.0, 16, 0, 16 * 2**power) for power in range(14, 25, 2)]
    for side in (64, 256, 1024, 4096):
        work.append(Sample("product", side, 0.0, 8, 16 * side**3, 96 * side**2))
    found = [
        s._replace(
            seconds=50e-6 + 5e-6 * s.operations + s.flops / rate + s.bytes_accessed / bandwidth
        )
        for s in work
    ]
    others = devices - 1
    for power in range(10, 25, 2):
        size = 2**power
        seconds = 2 * others * alpha + 2 * others / devices * size * beta
        found.append(Sample("all_reduce", size, seconds))
    wavers = draw.uniform(1 - noise, 1 + noise, len(found))
    return [each._replace(seconds=each.seconds * w) for each, w in zip(found, wavers, strict=True)]


@few
@given(
    rate=st.floats(1e11, 1e15),
    bandwidth=st.floats(1e10, 1e13),
    alpha=st.floats(1e-7, 1e-4),
    beta=st.floats(1e-12, 1e-9),
)
def test_planted_figures_are_found(rate, bandwidth, alpha, beta):
    """From the seconds of a machine of known figures come these figures, and no error."""
    samples = planted(rate, bandwidth, alpha, beta)
    found = calibrated(samples, name="it", devices=4, memory_bytes=1e9)
    device = found.hardware
    assert device.flops["fp32"] == pytest.approx(rate, rel=0.02)
    assert device.bytes_per_second == pytest.approx(bandwidth, rel=0.02)
    assert device.host_seconds == pytest.approx(50e-6, rel=0.02)
    assert device.operation_seconds == pytest.approx(5e-6, rel=0.02)
    assert device.scale_up.seconds == pytest.approx(alpha, rel=1e-3)
    assert device.scale_up.bytes_per_second == pytest.approx(1 / beta, rel=1e-3)
    assert all(abs(each.error) < 0.02 for each in found.residuals)


def test_noise_is_told():
    """Where times waver by a tenth, so do the residuals, and the mean error says it."""
    samples = planted(1e12, 1e11, 1e-5, 1e-10, noise=0.1)
    found = calibrated(samples, name="it", devices=4, memory_bytes=1e9)
    assert 0.01 < found.error("all_reduce") < 0.1
    picture = pdl.show(found)
    assert picture.word == "measured and modelled"
    assert "On the mean the figures err by: start" in " ".join(picture.text.split())


def test_too_few_measurements_are_refused():
    """Two figures need two measurements, of times above 0."""
    with pytest.raises(ValueError, match=r"^1 measurements cannot give 2 figures"):
        fit_lines(np.ones((1, 2)), np.ones(1))
    with pytest.raises(ValueError, match=r"of a time above 0"):
        fit_lines(np.ones((3, 2)), np.array([1.0, 0.0, 2.0]))


@pytest.mark.skipif(CORES < 2, reason="it takes two cores to send something")
def test_this_machine_is_calibrated():
    """Measured here in a process of its own, it gives figures by which a program is predicted."""
    found = pdl.calibrate(2)
    assert 1e9 < found.hardware.flops["fp32"] < 1e13
    assert 1e8 < found.hardware.bytes_per_second < 1e12
    assert found.hardware.scale_up.bytes_per_second > 1e7
    work = pdl.workloads.digits_mlp()
    program = pdl.DataParallel().build(work.model, work.optimizer, pdl.mesh(data=2))
    made = pdl.cluster(found.hardware, devices=2)
    assert 1e-6 < pdl.predict(pdl.inspect(program, work), made).seconds < 1


def test_one_device_sends_nothing():
    """Messages are measured among two devices or more, and no more than there are."""
    for devices in (1, 10_000):
        with pytest.raises(ValueError, match=rf"^messages cannot be measured among {devices} "):
            pdl.calibrate(devices)
