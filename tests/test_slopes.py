"""Slopes whose standard error allows for a spread that changes."""

import numpy as np
import pytest
import statsmodels.api as sm

from ich.slopes import robust_slope


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
