"""Percentile limits and the mountain plot."""

import numpy as np
import pytest
from scipy.stats import quantile_test

from ich.nonparametric import mountain, nonparametric_limits


def test_percentiles_at_ranks_on_paper():
    """39 differences 1..39: rank (n + 1) p is 1, 20 and 39."""
    found = nonparametric_limits(np.arange(1.0, 40.0), np.zeros(39))
    assert (found.loa_lower, found.median, found.loa_upper) == pytest.approx((1, 20, 39))


def test_percentiles_equal_numpy():
    values = np.random.default_rng(3).normal(size=83)
    found = nonparametric_limits(values, np.zeros(83), n_resamples=10)
    expected = np.quantile(values, [0.025, 0.5, 0.975], method="weibull")
    assert (found.loa_lower, found.median, found.loa_upper) == pytest.approx(tuple(expected))


def test_resamples_equal_numpy():
    """The counted percentiles of each resample are those of the resample written out."""
    from ich.nonparametric import _percentiles
    from ich.resampling import resampled_counts

    values = np.sort(np.random.default_rng(4).normal(size=31))
    counts = resampled_counts(31, 50, seed=1)
    found = _percentiles(values, counts, np.array([0.1, 0.5]))
    expected = [np.quantile(np.repeat(values, row), [0.1, 0.5], method="weibull") for row in counts]
    assert found == pytest.approx(np.array(expected))


def test_intervals_equal_scipy():
    values = np.random.default_rng(5).normal(size=200)
    found = nonparametric_limits(values, np.zeros(200))
    for share, interval in ((0.025, found.loa_lower_ci), (0.5, found.median_ci), (0.975, found.loa_upper_ci)):
        expected = quantile_test(values, p=share).confidence_interval(0.95)
        assert interval == pytest.approx((expected.low, expected.high))


def test_too_few_pairs_leave_the_outer_ends_open():
    """0.975 to the power of n is above 0.025 up to 145 pairs."""
    values = np.random.default_rng(5).normal(size=146)
    assert np.isfinite(nonparametric_limits(values, np.zeros(146)).loa_upper_ci).all()
    few = nonparametric_limits(values[:145], np.zeros(145))
    assert np.isnan([few.loa_upper_ci[1], few.loa_lower_ci[0]]).all()
    assert np.isfinite([few.loa_upper_ci[0], few.loa_lower_ci[1]]).all()


def test_bootstrap_over_patients_is_seeded():
    values, patients = np.random.default_rng(5).normal(size=400), np.repeat(np.arange(200), 2)
    first, same, other = (
        nonparametric_limits(values, np.zeros(400), patients=patients, seed=seed) for seed in (0, 0, 1)
    )
    assert first == same
    assert first.loa_lower_ci != other.loa_lower_ci


def test_scans_of_one_patient_stay_together():
    """Every value is there twice: resampling 40 twins gives wider intervals than resampling 80 cases."""
    values = np.repeat(np.random.default_rng(6).normal(size=40), 2)
    patients = np.repeat(np.arange(40), 2)
    together = nonparametric_limits(values, np.zeros(80), patients=patients)
    alone = nonparametric_limits(values, np.zeros(80))
    assert np.ptp(together.median_ci) > 1.2 * np.ptp(alone.median_ci)


def test_mountain_on_paper():
    found = mountain([3, 1, 2, 5], [0, 0, 0, 0])
    assert found.difference.tolist() == [1, 2, 3, 5]
    assert found.percentile.tolist() == [12.5, 37.5, 37.5, 12.5]
    assert found.case_id.tolist() == ["1", "2", "0", "3"]


def test_a_hundred_patients_scanned_twice_are_too_few_for_outer_ends():
    """200 pairs would be enough, 100 patients are not: 0.975 to the power of 100 is 0.08."""
    values = np.random.default_rng(7).normal(size=200)
    found = nonparametric_limits(values, np.zeros(200), patients=np.repeat(np.arange(100), 2))
    assert np.isnan([found.loa_lower_ci[0], found.loa_upper_ci[1]]).all()
    assert np.isfinite([found.loa_lower_ci[1], found.loa_upper_ci[0], *found.median_ci]).all()


def test_the_interval_over_patients_is_that_of_resamples_written_out():
    random = np.random.default_rng(8)
    values, patients = random.normal(size=60) + np.repeat(random.normal(size=20), 3), np.repeat(np.arange(20), 3)
    medians = [np.median(values.reshape(20, 3)[random.integers(0, 20, 20)]) for _ in range(4000)]
    found = nonparametric_limits(values, np.zeros(60), patients=patients, n_resamples=4000)
    assert found.median_ci == pytest.approx(tuple(np.quantile(medians, [0.025, 0.975])), abs=0.06)


@pytest.mark.parametrize("patients", [1, 2, 9])
def test_few_patients_scanned_often_have_no_interval(patients):
    """Resamples of one patient are all alike, and intervals of the median of six held it in 0.82 of 300 draws."""
    values = np.random.default_rng(9).normal(size=36)
    found = nonparametric_limits(values, np.zeros(36), patients=np.arange(36) % patients)
    assert np.isnan([found.loa_lower_ci, found.median_ci, found.loa_upper_ci]).all()
    assert np.isfinite([found.loa_lower, found.median, found.loa_upper]).all()
