"""Passing-Bablok and Deming against the answers of Roche's mcr, and against lines known by construction."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ich.pairs import NotDefined
from ich.regression import deming, passing_bablok


def test_passing_bablok_mcr_td15(shared_data):
    table = pd.read_csv(shared_data / "agreement" / "mcr_td15.csv")
    found = passing_bablok(table.y, table.x)
    assert found.slope == pytest.approx(1.020588521, abs=1e-9)
    assert found.slope_ci == pytest.approx((0.958488786, 1.092320098), abs=1e-9)
    assert found.intercept == pytest.approx(-0.639752985, abs=1e-9)
    assert found.intercept_ci == pytest.approx((-2.333080818, 0.840973103), abs=1e-9)


def test_passing_bablok_mcr_td20_anticorrelated(shared_data):
    table = pd.read_csv(shared_data / "agreement" / "mcr_td20.csv")
    found = passing_bablok(table.y, table.x)
    assert found.slope == pytest.approx(-0.0079741, abs=1e-9)
    assert found.slope_ci == pytest.approx((-0.028869985, 0.010701459), abs=1e-9)
    assert found.intercept == pytest.approx(10.46449894, abs=1e-8)
    assert found.intercept_ci == pytest.approx((9.71867624, 11.6101731), abs=1e-7)
    assert "negatively" in found.note


def test_deming_mcr_td15(shared_data):
    table = pd.read_csv(shared_data / "agreement" / "mcr_td15.csv")
    found = deming(table.y, table.x)
    assert (found.name, found.n) == ("Deming", len(table))
    assert found.slope == pytest.approx(0.998922574, abs=1e-9)
    assert found.slope_ci == pytest.approx((0.904225547, 1.093619601), abs=1e-6)
    assert found.intercept == pytest.approx(-0.505729735, abs=1e-9)
    assert found.intercept_ci == pytest.approx((-3.065572901, 2.054113431), abs=1e-6)


LINES = st.tuples(st.floats(0.2, 5), st.floats(-20, 20))


@given(LINES)
def test_exact_lines_are_found(line):
    slope, intercept = line
    x = np.array([1.0, 2, 4, 7, 11, 16, 22])
    for fit in (passing_bablok(intercept + slope * x, x), deming(intercept + slope * x, x)):
        assert fit.slope == pytest.approx(slope, rel=1e-6)
        assert fit.intercept == pytest.approx(intercept, abs=1e-5)
        assert fit.slope_ci == pytest.approx((slope, slope), rel=1e-5)


@given(st.integers(0, 1000))
def test_methods_are_exchangeable(seed):
    """Both lines treat the methods alike: swapping them inverts the slope."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(1, 100, 25)
    y = x + rng.normal(0, 3, 25)
    for fit in (passing_bablok, deming):
        assert fit(y, x).slope == pytest.approx(1 / fit(x, y).slope, rel=1e-6 if fit is deming else 2e-3)


@given(st.integers(0, 1000))
def test_order_of_cases_is_of_no_account(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 6, 20).astype(float), rng.integers(0, 6, 20).astype(float)
    order = rng.permutation(20)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return
    one, other = passing_bablok(y, x), passing_bablok(y[order], x[order])
    assert (one.slope, *one.slope_ci) == pytest.approx((other.slope, *other.slope_ci), nan_ok=True)


def test_deming_ratio_leads_to_ordinary_regression():
    """A reference without error: the line tends to least squares of the method on the reference."""
    rng = np.random.default_rng(1)
    x = rng.uniform(0, 50, 60)
    y = 2 * x + rng.normal(0, 5, 60)
    assert deming(y, x, error_ratio=1e-9).slope == pytest.approx(np.polyfit(x, y, 1)[0], rel=1e-6)


def test_constant_columns_have_no_line():
    for fit in (passing_bablok, deming):
        with pytest.raises(NotDefined, match="every reference is 4"):
            fit([1, 2, 3], [4, 4, 4])
    with pytest.raises(NotDefined, match="do not covary"):
        deming([1, -1, -1, 1], [1, 1, -1, -1])


def test_error_ratio_must_be_positive():
    with pytest.raises(ValueError, match="error_ratio"):
        deming([1, 2, 3], [1, 2, 4], error_ratio=0)


def test_an_end_that_is_infinite_has_an_infinite_intercept():
    """A line as steep as can be, through references above 0, meets the axis at minus infinity."""
    reference, method = np.array([0.0, 0, 3, 4, 5, 6]), np.array([0.0, 1, 0, 4, 9, 3])
    found = passing_bablok(method, reference)
    low, high = found.intercept_ci
    assert low <= found.intercept <= high
    steep = passing_bablok([0.0, 9, 1, 8, 2, 7], [1.0, 1, 1, 1, 1, 2])
    assert np.isinf(steep.slope_ci[1])
    assert steep.intercept_ci[0] == -np.inf
    below = passing_bablok([0.0, 9, 1, 8, 2, 7], [-2.0, -2, -2, -2, -2, -1])  # references below 0: at plus infinity
    assert np.isinf(below.slope_ci[1])
    assert below.intercept_ci[1] == np.inf


@pytest.mark.parametrize(("n", "known"), [(3, False), (4, False), (5, True)])
def test_ranks_of_too_few_cases_do_not_reach_95_percent(n, known):
    """Of n! orders two lie outside the outermost ranks: 2 of 24 are more than 5 %, 2 of 120 are not."""
    x = np.arange(1.0, n + 1)
    found = passing_bablok(x + np.array([0.1, -0.2, 0.3, 0.0, 0.2])[:n], x)
    assert np.isfinite(found.slope_ci).all() == known
    assert np.isfinite(found.intercept_ci).all() == known


def test_slopes_of_minus_one_are_left_out():
    """Of 0.5, 1, 1.25, 2, 2 and -1 the median without the last is 1.25 (Passing & Bablok 1983)."""
    assert passing_bablok([0.0, 2, 1, 5], [0.0, 1, 2, 4]).slope == 1.25


@pytest.mark.parametrize(("n", "rank"), [(8, 7), (11, 15)])
def test_ranks_of_the_interval_are_those_of_kendalls_test(n, rank):
    """Kendall's S has the variance n (n - 1) (2 n + 5) / 18: of 8 cases 1.96 SD are 15.84, of 11 cases 25.18.

    Among 28 slopes that leaves the 7th from either end, (28 - 15.84) / 2 = 6.08; among 55 the 15th, at 14.91.
    """
    rng = np.random.default_rng(0)
    x = np.arange(1.0, n + 1)
    y = 3 * x + rng.normal(0, 0.4, n)
    slopes = sorted((y[j] - y[i]) / (x[j] - x[i]) for i in range(n) for j in range(i + 1, n))
    assert passing_bablok(y, x).slope_ci == pytest.approx((slopes[rank - 1], slopes[-rank]))


def test_an_end_beyond_the_steepest_slope_is_infinite():
    """Slopes of 5 cases, two of them below -1: the upper rank is past the last one. mcr's mc.paba (CRAN, R 4.2.2): Inf.

    The largest slope of all, 1.77, is no upper end.
    """
    found = passing_bablok([14.0, 9, 31, 27, 50], [10.0, 12, 25, 31, 44])
    assert found.slope_ci[0] < found.slope < 1.77
    assert found.slope_ci[1] == np.inf
    assert found.intercept_ci[0] == -np.inf
    mirrored = passing_bablok([-14.0, -9, -31, -27, -50], [10.0, 12, 25, 31, 44])
    assert mirrored.slope_ci == (-np.inf, -found.slope_ci[0])
