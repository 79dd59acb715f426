"""Bootstrap over patients."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap, ttest_1samp

from ich.resampling import bca_interval, bootstrap_mean, mean_by_group, resampled_counts, share_interval


def test_counts_draw_as_many_as_there_are():
    counts = resampled_counts(7, 500, seed=0)
    assert counts.shape == (500, 7)
    assert (counts.sum(axis=1) == 7).all()
    assert counts.mean() == 1


def test_bca_of_the_mean_is_scipys():
    """scipy draws the same resamples from the same seed."""
    values = np.random.default_rng(1).gamma(1.0, 10.0, size=30)
    found = bootstrap_mean(values, seed=2)
    expected = bootstrap((values,), np.mean, n_resamples=2000, method="BCa", rng=2).confidence_interval
    assert (found.mean, found.sd) == pytest.approx((values.mean(), values.std(ddof=1)))
    assert found.mean_ci == pytest.approx((expected.low, expected.high), rel=1e-10)


def test_bca_over_patients_is_scipys():
    """Ten patients with 1 to 5 scans, as pairs of sum and count."""
    rng = np.random.default_rng(4)
    scans = np.array([1, 5, 2, 1, 3, 1, 4, 2, 1, 2])
    patients = np.repeat(np.arange(10), scans)
    values = rng.gamma(1.0, 10.0, patients.size) + 5 * patients
    sums = np.bincount(patients, values)

    def mean(total, count, axis):
        return total.sum(axis) / count.sum(axis)

    options = {"n_resamples": 2000, "method": "BCa", "rng": 2, "paired": True}
    expected = bootstrap((sums, scans.astype(float)), mean, **options).confidence_interval
    found = bootstrap_mean(values, patients, seed=2)
    assert found.mean_ci == pytest.approx((expected.low, expected.high), rel=1e-10)


def test_nine_patients_have_a_t_interval_and_ten_a_bootstrap():
    values = np.random.default_rng(5).gamma(1.0, 10.0, size=10)
    of_nine = ttest_1samp(values[:9], 0).confidence_interval()
    assert bootstrap_mean(values[:9]).mean_ci == pytest.approx((of_nine.low, of_nine.high))
    of_ten = bootstrap((values,), np.mean, n_resamples=2000, method="BCa", rng=0).confidence_interval
    assert bootstrap_mean(values).mean_ci == pytest.approx((of_ten.low, of_ten.high))


def test_resamples_all_on_one_side_have_an_interval():
    resampled, left = np.linspace(0, 1, 50)[:, None], np.array([[0.4], [0.6], [0.5]])
    for estimate, nearest in ((1.5, 1.0), (-0.5, 0.0)):
        ends = bca_interval([estimate], resampled, left)[0]
        assert np.isfinite(ends).all()
        assert abs(ends - nearest).max() < 0.1


def test_scans_that_do_not_resemble_each_other_count_nearly_all():
    """Ten patients with four scans, half of each inside but for two: no variance is between patients.

    By hand: 39 independent scans, t of 9 degrees of freedom 2.2622, so 0.5 -+ 2.2622 sqrt(39 / 4 + 1.2793) / 44.117.
    """
    inside = [1, 1, 0, 0] * 8 + [1, 1, 1, 0] + [1, 0, 0, 0]
    assert share_interval(inside, np.repeat(np.arange(10), 4)) == pytest.approx((0.3297, 0.6703), abs=1e-4)


def test_several_scans_of_a_patient_count_as_one_draw():
    values, patients = np.tile([0.2, 0.9, 0.7, 0.8], 25), np.tile(list("abcd"), 25)
    found = bootstrap_mean(values, patients)
    assert (found.n, found.n_patients) == (100, 4)
    assert np.ptp(found.mean_ci) > 3 * np.ptp(bootstrap_mean(values).mean_ci)


def test_stated_results_where_little_is_known():
    one = bootstrap_mean([0.8])
    assert one.mean == 0.8
    assert np.isnan(one.mean_ci).all()
    assert np.isnan(one.sd)
    same = bootstrap_mean([0.8] * 5)
    assert same.mean_ci == pytest.approx((0.8, 0.8))
    none = bootstrap_mean([np.nan, np.nan])
    assert (none.n, none.n_missing) == (0, 2)
    assert np.isnan(none.mean)


def test_seeded():
    values = np.random.default_rng(2).normal(size=25)
    assert bootstrap_mean(values, seed=3) == bootstrap_mean(values, seed=3)
    assert bootstrap_mean(values, seed=3) != bootstrap_mean(values, seed=4)


def test_infinite_values_are_no_mean():
    with pytest.raises(ValueError, match="row 1 is infinite"):
        bootstrap_mean([1.0, np.inf])


def test_groups_keep_the_order_of_their_categories():
    kinds = pd.CategoricalDtype(["mixed", "parenchymal"], ordered=True)
    table = pd.DataFrame(
        {"dice": [0.9, 0.7, 0.8], "type": ["parenchymal", "mixed", "parenchymal"], "patient_id": list("aab")}
    )
    found = mean_by_group(table.astype({"type": kinds}), "dice", "type")
    assert found["type"].tolist() == ["mixed", "parenchymal"]
    assert found["n"].tolist() == [1, 2]
    assert found["mean"].tolist() == pytest.approx([0.7, 0.85])
