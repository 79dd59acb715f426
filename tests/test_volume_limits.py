"""Limits of agreement that follow the volume."""

import numpy as np
import pytest
import statsmodels.api as sm

from ich.pairs import NotDefined
from ich.volume_limits import regression_limits


def test_regression_limits_recover_a_known_line():
    """Exact line plus residuals of known size: |residual| = 0.1 A."""
    mean = np.repeat(np.arange(10.0, 101.0, 10.0), 2)
    difference = 1 - 0.2 * mean + np.tile([1.0, -1.0], 10) * 0.1 * mean
    found = regression_limits(mean + difference / 2, mean - difference / 2)
    assert (found.b0, found.b1) == pytest.approx((1, -0.2))
    assert (found.c0, found.c1) == pytest.approx((0, 0.1), abs=1e-12)
    limits = found.at([50.0]).iloc[0]
    assert limits.loa_upper - limits.bias == pytest.approx(1.96 * np.sqrt(np.pi / 2) * 5)


def test_slope_of_the_spread_is_that_of_statsmodels():
    random = np.random.default_rng(5)
    volume = random.uniform(2, 80, 14)
    other = volume * random.normal(1.05, 0.1, 14)
    found = regression_limits(other, volume, confidence=0.9)
    design = sm.add_constant((other + volume) / 2)
    line = sm.OLS(other - volume, design).fit()
    spread = sm.OLS(np.abs(line.resid), design).fit()
    assert (found.b0, found.b1) == pytest.approx(tuple(line.params))
    assert (found.c0, found.c1) == pytest.approx(tuple(spread.params))
    assert found.c1_ci == pytest.approx(tuple(spread.conf_int(alpha=0.1)[1]))
    assert found.c1_p == pytest.approx(spread.pvalues[1])
    assert found.residual_sd == pytest.approx(np.sqrt(line.mse_resid))
    assert found.seen == pytest.approx((design[:, 1].min(), design[:, 1].max()))


def test_a_spread_below_zero_counts_as_none():
    """|residual| = 10 - 0.1 A falls to zero at 100 ml."""
    mean = np.repeat(np.arange(10.0, 91.0, 10.0), 2)
    difference = np.tile([1.0, -1.0], 9) * (10 - 0.1 * mean)
    limits = regression_limits(mean + difference / 2, mean - difference / 2).at([50.0, 150.0])
    assert limits["loa_upper"].tolist() == pytest.approx([1.96 * np.sqrt(np.pi / 2) * 5, 0], abs=1e-9)
    assert limits["loa_lower"].tolist() == pytest.approx([-1.96 * np.sqrt(np.pi / 2) * 5, 0], abs=1e-9)


def test_regression_limits_of_equal_volumes():
    with pytest.raises(NotDefined, match="wanted volumes that differ"):
        regression_limits([1, 2, 3], [3, 2, 1])


@pytest.mark.parametrize("scans", [1, 2])
def test_intervals_hold_the_true_limit_at_a_common_volume(scans):
    """Bias of -0.5 ml + 2 %, SD of 0.5 ml + 6 %, scans of one patient alike: at 20 ml 1.96 SD are 3.33 ml."""
    random, held, draws = np.random.default_rng(1), 0, 300
    owner = np.repeat(np.arange(40), scans)
    for _ in range(draws):
        volume = random.lognormal(2.9, 0.9, 40)[owner]
        alike, alone = random.normal(size=40)[owner], random.normal(size=owner.size)
        error = (0.5 + 0.06 * volume) * (np.sqrt(0.7) * alike + np.sqrt(0.3) * alone)
        difference = -0.5 + 0.02 * volume + error
        limits = regression_limits(volume + difference / 2, volume - difference / 2, patients=owner).at([20]).iloc[0]
        held += limits["loa_upper_ci_low"] <= -0.1 + 1.96 * 1.7 <= limits["loa_upper_ci_high"]
    assert 0.87 <= held / draws <= 0.98


def test_scans_that_repeat_a_patient_tell_no_more():
    random = np.random.default_rng(3)
    volume = random.lognormal(2.9, 0.9, 30)
    other = volume + random.normal(0, 0.1, 30) * volume
    once = regression_limits(other, volume)
    twice = regression_limits(np.tile(other, 2), np.tile(volume, 2), patients=np.tile(np.arange(30), 2))
    assert [(found.n, found.n_patients) for found in (once, twice)] == [(30, 30), (60, 30)]
    assert (twice.b1, twice.c1) == pytest.approx((once.b1, once.c1))
    assert twice.b1_ci == pytest.approx(once.b1_ci)
    limits = [found.at([5, 30]).to_numpy() for found in (once, twice)]
    assert limits[1] == pytest.approx(limits[0])


def test_limits_that_hang_on_one_patient_have_no_interval():
    found = regression_limits([1.0, 1.1, 0.9, 9], [0.9, 1.0, 1.0, 8], patients=["a", "a", "a", "b"])
    assert np.isnan(found.b1_p)
    assert found.at([5]).filter(like="_ci_").isna().all(axis=None)
