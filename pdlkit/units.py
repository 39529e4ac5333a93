"""Bytes, seconds and operations as people write them."""

_STEPS = ("", "k", "M", "G", "T", "P", "E")


def write_bytes(count: float) -> str:
    """Return a count of bytes in decimal units, as networks are sold: 37.5 kB."""
    return _scaled(count, "B")


def write_flops(count: float) -> str:
    """Return a count of floating-point operations: 3.20 GFLOP."""
    return _scaled(count, "FLOP")


def write_seconds(seconds: float) -> str:
    """Return a duration in the unit that leaves one to three digits: 7.80 ms."""
    if seconds == 0:
        return "0 s"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if abs(seconds) >= 0.9995 * size:  # what rounds to 1.00 of it
            return f"{_three_digits(seconds / size)} {unit}"
    return f"{_three_digits(seconds / 1e-9)} ns"


def _scaled(count: float, unit: str) -> str:
    step = 0
    while abs(count) >= 999.5 and step < len(_STEPS) - 1:
        count, step = count / 1000, step + 1
    text = f"{count:.0f}" if step == 0 else _three_digits(count)
    return f"{text} {_STEPS[step]}{unit}"


def _three_digits(value: float) -> str:
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{digits}f}"
