"""Slopes whose standard error allows for a spread that changes."""

import numpy as np
import pytest
import statsmodels.api as sm

from ich.slopes import robust_slope
from ich.volume_limits import regression_limits


def test_slope_interval_and_p_are_those_of_statsmodels():
    random = np.random.default_rng(5)
    x = random.lognormal(3, 1, 40)
    y = 1 + 0.02 * x + random.normal(0, 0.1, 40) * x
    other = sm.OLS(y, sm.add_constant(x)).fit(cov_type="HC3", use_t=True)
    found = robust_slope(x, y)
    assert (found.intercept, found.slope) == pytest.approx(tuple(other.params))
    assert found.slope_ci == pytest.approx(tuple(other.conf_int()[1]))
    assert found.p == pytest.approx(other.pvalues[1])


def test_errors_that_grow_with_the_volume_are_no_trend():
    """Both methods err by 10 %: the usual p is below 0.05 in half of the draws, however many cases there are."""
    random, below = np.random.default_rng(2), 0
    for _ in range(200):
        truth = random.lognormal(3, 1, 100)
        first, second = (truth * random.normal(1, 0.1, 100) for _ in range(2))
        below += robust_slope((first + second) / 2, first - second).p < 0.05
    assert below <= 30


def test_a_line_without_residuals_is_certain_and_one_that_hangs_on_one_value_is_not_known():
    x = np.array([1.0, 2, 4, 8])
    assert robust_slope(x, np.zeros(4)).p == 1
    assert robust_slope(x, 2 * x).slope_ci == pytest.approx((2, 2))
    assert np.isnan(robust_slope(np.array([1.0, 1, 1, 9]), np.array([0.0, 1, 2, 3])).p)


def test_a_patient_with_many_scans_leaves_the_slope_known():
    """Seven of twelve values are of one patient. Interval, p, covariance: clubSandwich 0.5.8 (R 4.2.2), CR3, t(3)."""
    x = np.array([12.0, 14, 18, 21, 25, 33, 41, 8, 30, 16, 55, 22])
    y = np.array([0.8, 1.1, -0.4, 2.0, 1.7, 2.9, 2.2, -0.6, 1.4, 0.3, -3.1, 0.9])
    owner = np.array([0] * 7 + [1, 1, 2, 3, 4])
    found = robust_slope(x, y, owner=owner)
    assert found.slope_ci == pytest.approx((-0.3939416812, 0.3467301144), abs=1e-9)
    assert found.p == pytest.approx(0.8522279180, abs=1e-9)
    covariance = np.array(regression_limits(x + y / 2, x - y / 2, patients=owner).covariance)
    expected = [[4.705705094469, -0.238807449214], [-0.238807449214, 0.013541583541]]
    assert covariance[:2, :2] == pytest.approx(np.array(expected), abs=1e-9)


def test_half_of_the_scans_are_one_patients():
    """Of four patients one has as many scans as the others: there is a line without it (clubSandwich 0.5.8, CR3)."""
    x, owner = np.array([5.0, 20, 40, 60, 10, 30, 50, 70]), np.array([0, 0, 0, 0, 1, 1, 2, 3])
    y = np.array([1.0, 0, 2, 1, 3, 1, 2, 4])
    assert robust_slope(x, y, owner=owner).slope_ci == pytest.approx((-0.0999704736, 0.1445225317), abs=1e-8)


def test_far_from_zero_the_slope_is_as_exact():
    """Values of a million: shifting them changes nothing."""
    random = np.random.default_rng(4)
    x, y = random.uniform(0, 1, 20), random.normal(0, 1, 20)
    near, far = robust_slope(x, y), robust_slope(x + 1e6, y + 1e6)
    assert far.slope_ci == pytest.approx(near.slope_ci, rel=1e-8)
