"""Units: bytes, seconds and operations as people write them."""

import random

import pytest

from pdlkit.units import write_bytes, write_flops, write_seconds

SIZES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
DURATIONS = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (37_500, "37.5 kB"),
        (218_664, "219 kB"),
        (1e6, "1.00 MB"),
        (3.2e9, "3.20 GB"),
        (350e9, "350 GB"),
        (2e15, "2.00 PB"),
        (1e18, "1.00 EB"),
        (1e21, "1000 EB"),  # past the last prefix the figure grows
        (-1500, "-1.50 kB"),
    ],
)
def test_bytes(count, text):
    """Bytes are written in steps of a thousand, with three digits."""
    assert write_bytes(count) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (999.4, "999 B"),
        (999.5, "1.00 kB"),
        (9_994, "9.99 kB"),
        (9_996, "10.0 kB"),
        (99_940, "99.9 kB"),
        (99_960, "100 kB"),
        (999.4e3, "999 kB"),
        (999.6e3, "1.00 MB"),
        (-999.6e3, "-1.00 MB"),
    ],
)
def test_bytes_at_the_edges(count, text):
    """What would round up to four digits is written with the next prefix."""
    assert write_bytes(count) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 FLOP"), (12, "12 FLOP"), (3.2e9, "3.20 GFLOP"), (3.14e23, "314000 EFLOP")],
)
def test_flops(count, text):
    """Operations are counted, not timed: GFLOP, and never GFLOPS."""
    assert write_flops(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (7.8e-3, "7.80 ms"),
        (1.0, "1.00 s"),
        (12.34, "12.3 s"),
        (250, "250 s"),
        (3600, "3600 s"),  # seconds have no next unit here
        (1e-3, "1.00 ms"),
        (1e-6, "1.00 µs"),
        (45e-6, "45.0 µs"),
        (300e-9, "300 ns"),
        (-2e-3, "-2.00 ms"),
    ],
)
def test_seconds(seconds, text):
    """A duration stands in the unit that leaves one to three digits before the point."""
    assert write_seconds(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.9994, "999 ms"),
        (0.9996, "1.00 s"),
        (9.994e-4, "999 µs"),
        (9.999e-4, "1.00 ms"),
        (9.999e-7, "1.00 µs"),
        (-0.9996, "-1.00 s"),
        (9.996e-3, "10.0 ms"),
        (0.09996, "100 ms"),
    ],
)
def test_seconds_at_the_edges(seconds, text):
    """What would round up to a thousand is written as one of the next unit."""
    assert write_seconds(seconds) == text


def test_no_time_at_all():
    """Zero is no negative, and has a unit like every duration."""
    figure, unit = write_seconds(0).split()
    assert float(figure) == 0
    assert unit in DURATIONS
    assert not figure.startswith("-")


@pytest.mark.parametrize(
    ("write", "units", "smallest", "largest"),
    [
        (write_bytes, {f"{prefix}B": size for prefix, size in SIZES.items()}, 3, 20.9),
        (write_flops, {f"{prefix}FLOP": size for prefix, size in SIZES.items()}, 3, 20.9),
        (write_seconds, DURATIONS, -9, 2.9),
    ],
)
def test_three_digits_of_anything(write, units, smallest, largest):
    """Read back, a figure is the value to three digits, as Python itself rounds it."""
    draw = random.Random(0)
    for _ in range(2000):
        value = draw.choice([-1, 1]) * 10 ** draw.uniform(smallest, largest)
        figure, unit = write(value).split()
        assert float(f"{float(figure) * units[unit]:.3e}") == float(f"{value:.2e}"), value
        assert sum(letter.isdigit() for letter in figure) == 3, (value, figure)
