"""The laws of speedup, against what their authors published and closed forms."""

import math

import numpy as np
import pytest

from pdlkit.prediction.laws import (
    amdahl,
    efficiency,
    fit_amdahl,
    fit_gustafson,
    gustafson,
    karp_flatt,
)

COUNTS = (2, 4, 8, 64)
NOISY = {1: 1.0, 2: 1.83, 4: 2.9, 8: 4.6, 16: 5.1}


def nearest(error, low=-2.0, high=6.0, rounds=60) -> float:
    """Return where a convex function is least, by ternary search."""
    for _ in range(rounds):
        left, right = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, right) if error(left) < error(right) else (left, high)
    return (low + high) / 2


@pytest.mark.parametrize(("serial", "speedup"), [(0, 1024), (0.01, 91), (0.02, 48), (0.04, 24)])
def test_amdahl_on_1024_processors(serial, speedup):
    """A hundredth of serial work leaves 91 of 1,024 processors: figure 1 of Gustafson 1988."""
    assert round(amdahl(serial, 1024)) == speedup


@pytest.mark.parametrize(
    ("serial", "speedup"), [(0, 1024), (0.01, 1014), (0.02, 1004), (0.03, 993), (0.04, 983)]
)
def test_gustafson_on_1024_processors(serial, speedup):
    """On work that grows, it leaves 1,014 of them: figure 2 of Gustafson 1988."""
    assert round(gustafson(serial, 1024)) == speedup


def test_amdahl_has_a_ceiling_and_gustafson_has_none():
    """However many the devices, the same work is done at most 1/serial times as fast."""
    assert amdahl(0.05, 10**9) == pytest.approx(20, rel=1e-6)
    assert gustafson(0.05, 10**9) == pytest.approx(0.95e9, rel=1e-6)


@pytest.mark.parametrize("law", [amdahl, gustafson])
def test_the_ends_of_the_laws(law):
    """One device is as fast as itself; nothing serial is ideal; all serial gains nothing."""
    assert law(0.3, 1) == 1
    assert law(0.0, 8) == 8
    assert law(1.0, 8) == 1


def test_karp_flatt_tells_serial_work_from_talk():
    """A serial share that stays is serial work, one that grows is talk.

    The two tables of speedups are those of Quinn 2004, "Parallel Programming in C
    with MPI and OpenMP", section 7.5.
    """
    stays = [1.82, 2.50, 3.08, 3.57, 4.00, 4.38, 4.71]
    grows = [1.87, 2.61, 3.23, 3.73, 4.14, 4.46, 4.71]
    shares = [[karp_flatt(s, n) for n, s in enumerate(table, 2)] for table in (stays, grows)]
    np.testing.assert_allclose(shares[0], 0.1, atol=1.5e-3)
    np.testing.assert_allclose(shares[1], np.arange(0.070, 0.101, 0.005), atol=1.5e-3)


@pytest.mark.parametrize("n", COUNTS)
def test_karp_flatt_undoes_amdahl(n):
    """The serial share that a speedup by Amdahl's law stands for is the law's own."""
    for serial in (0.0, 0.07, 1.0):
        assert karp_flatt(amdahl(serial, n), n) == pytest.approx(serial, abs=1e-12)


def test_shares_are_not_clipped():
    """More than ideal is a share below 0, slower than one device a share above 1."""
    assert karp_flatt(2.1, 2) == fit_amdahl({2: 2.1}) == pytest.approx(1 / 1.05 - 1)
    assert karp_flatt(0.5, 2) == fit_amdahl({2: 0.5}) == pytest.approx(3)
    assert fit_gustafson({2: 2.1}) == pytest.approx(-0.1)
    assert fit_gustafson({2: 0.5}) == pytest.approx(1.5)


def test_efficiency_is_speedup_a_device():
    """Six times as fast on eight devices is an efficiency of three quarters."""
    assert efficiency(6, 8) == 0.75


@pytest.mark.parametrize(("law", "fit"), [(amdahl, fit_amdahl), (gustafson, fit_gustafson)])
def test_a_fit_finds_the_share_again(law, fit):
    """Fitted to speedups that follow its law, a share is found again."""
    assert fit({n: law(0.13, n) for n in COUNTS}) == pytest.approx(0.13)


def test_fit_amdahl_is_nearest_in_time():
    """No other share brings the times, as parts of one device's, nearer in squares."""

    def error(serial):
        return sum((1 / s - (serial + (1 - serial) / n)) ** 2 for n, s in NOISY.items())

    assert fit_amdahl(NOISY) == pytest.approx(nearest(error), abs=1e-6)


def test_fit_gustafson_is_nearest_in_speedup():
    """No other share brings the scaled speedups nearer in squares."""

    def error(serial):
        return sum((s - (n - serial * (n - 1))) ** 2 for n, s in NOISY.items())

    assert fit_gustafson(NOISY) == pytest.approx(nearest(error), abs=1e-6)


def test_one_device_says_nothing_to_a_fit():
    """A fit is the same with and without the count 1, whose speedup is 1 by definition."""
    more = {n: s for n, s in NOISY.items() if n > 1}
    assert fit_amdahl(NOISY) == fit_amdahl(more)
    assert fit_gustafson(NOISY) == fit_gustafson(more)


@pytest.mark.parametrize("law", [amdahl, gustafson])
@pytest.mark.parametrize("serial", [-0.1, 1.1, math.nan])
def test_a_share_is_from_0_to_1(law, serial):
    """A law takes a share from 0 to 1, and says what it got instead."""
    with pytest.raises(ValueError, match=rf"^serial={serial} is no share\.\n  why: .*\n  try: "):
        law(serial, 4)


@pytest.mark.parametrize("n", [0, -2, 1.5, math.nan, math.inf])
def test_devices_are_counted(n):
    """A number of devices is a whole number from 1 on."""
    words = rf"^n={n} is not a number of devices\.\n  why: .* one is the fewest\.\n  try: .* 1 on"
    for call in (amdahl, gustafson, efficiency):
        with pytest.raises(ValueError, match=words):
            call(0.5, n)


def test_one_device_has_no_karp_flatt():
    """The share is asked of two devices or more."""
    words = r"^n=1 is not .*\n  why: .* one device has no speedup to explain\.\n  try: .* 2 on"
    with pytest.raises(ValueError, match=words):
        karp_flatt(1.0, 1)


@pytest.mark.parametrize("speedup", [0, -1.0, math.nan, math.inf])
def test_a_speedup_is_above_0(speedup):
    """A speedup is a ratio of two times, both above 0."""
    words = rf"^{speedup} is no speedup\.\n  why: .*\n  try: "
    calls = (karp_flatt, efficiency, lambda s, n: fit_amdahl({n: s}))
    for call in (*calls, lambda s, n: fit_gustafson({n: s})):
        with pytest.raises(ValueError, match=words):
            call(speedup, 2)


@pytest.mark.parametrize("fit", [fit_amdahl, fit_gustafson])
def test_a_fit_needs_more_than_one_device(fit):
    """Of one device alone, or of nothing, no share can be fitted."""
    for speedups in ({}, {1: 1.0}):
        words = r"^no serial share can be fitted to .*\n  why: .*\n  try: .* \{1: 1\.0, 2: 1\.7\}\."
        with pytest.raises(ValueError, match=words):
            fit(speedups)
