"""Bootstrap over patients."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap

from ich.resampling import bootstrap_mean, mean_by_group, resampled_counts


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
    assert found.mean == pytest.approx(values.mean())
    assert found.mean_ci == pytest.approx((expected.low, expected.high), rel=1e-10)


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
