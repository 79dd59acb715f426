"""Concordance and intraclass correlations against Shrout & Fleiss, pingouin and hand calculation."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ich.reliability import ccc_of_sums, concordance, intraclass

DATA = Path(__file__).parent / "data"


def test_shrout_fleiss_1979():
    table = pd.read_csv(DATA / "shrout_fleiss_1979.csv").pivot_table(index="target", columns="rater", values="score")
    found = intraclass(table).set_index("type")["icc"]
    expected = {"ICC(1,1)": 0.1657, "ICC(A,1)": 0.2898, "ICC(C,1)": 0.7148}
    expected |= {"ICC(1,k)": 0.4428, "ICC(A,k)": 0.6201, "ICC(C,k)": 0.9093}
    assert found.to_dict() == pytest.approx(expected, abs=5e-5)


def test_intervals_equal_pingouin():
    """On three raters of 25 targets with a shift between raters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pingouin

    rng = np.random.default_rng(2)
    scores = rng.gamma(2, 10, (25, 1)) + rng.normal(0, 3, (25, 3)) + [0, 1, 4]
    long = (
        pd.DataFrame(scores).melt(ignore_index=False, var_name="rater", value_name="score").reset_index(names="target")
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shown = pingouin.options["round.column.CI95"]
        pingouin.options["round.column.CI95"] = 12  # it prints two decimals
        try:
            expected = pingouin.intraclass_corr(long, targets="target", raters="rater", ratings="score")
        finally:
            pingouin.options["round.column.CI95"] = shown
    interval = next(name for name in expected.columns if str(name).startswith("CI95"))
    found = intraclass(scores)
    assert found["icc"].to_numpy() == pytest.approx(expected["ICC"].to_numpy(), abs=1e-10)
    assert found[["ci_low", "ci_high"]].to_numpy() == pytest.approx(np.vstack(expected[interval]), abs=1e-10)


def test_concordance_on_paper():
    """x = 1, 2, 3 and y = 2, 3, 4: covariance 2/3, variances 2/3, shift 1."""
    found = concordance([1, 2, 3], [2, 3, 4])
    assert found.ccc == pytest.approx(2 * (2 / 3) / (2 / 3 + 2 / 3 + 1))
    assert found.pearson_r == pytest.approx(1)
    assert found.bias_correction == pytest.approx(4 / 7)


def test_concordance_interval_on_paper():
    """Equal means and spreads: concordance is r = 0.8, whose Fisher z has the standard error 1 / sqrt(n - 2)."""
    found = concordance([1, 2, 3, 4, 5], [2, 1, 3, 5, 4])
    assert found.ccc == pytest.approx(0.8)
    assert found.ccc_ci == pytest.approx(tuple(np.tanh(np.arctanh(0.8) + np.array([-1, 1]) * 1.959964 / np.sqrt(3))))


def test_concordance_interval_follows_from_normal_moments():
    """Lin's variance is the delta method's: n times that of moments of normal pairs, by slopes taken numerically."""
    x, y = np.random.default_rng(9).gamma(2, 10, (2, 25))
    y = 0.6 * x + 0.3 * y + 4

    def z(moments):
        mx, my, sxx, syy, sxy = moments
        return np.arctanh(2 * sxy / (sxx + syy + (mx - my) ** 2))

    cov = np.cov(x, y, ddof=0)
    at = np.array([x.mean(), y.mean(), cov[0, 0], cov[1, 1], cov[0, 1]])
    steps = 1e-5 * np.abs(at) * np.eye(5)
    slope = np.array([(z(at + step) - z(at - step)) / (2 * step.sum()) for step in steps])
    spread, ends = np.zeros((5, 5)), [(0, 0), (1, 1), (0, 1)]
    spread[:2, :2] = cov
    for row, (i, j) in enumerate(ends):
        for column, (k, l) in enumerate(ends):
            spread[2 + row, 2 + column] = cov[i, k] * cov[j, l] + cov[i, l] * cov[j, k]
    half = 1.959964 * np.sqrt(slope @ spread @ slope / (25 - 2))
    found = concordance(x, y)
    assert found.ccc_ci == pytest.approx(tuple(np.tanh(np.arctanh(found.ccc) + np.array([-half, half]))), abs=1e-6)


def test_concordance_interval_covers():
    """2,000 samples of 40 normal pairs with a shift: the Fisher-z interval covers in about 95 %."""
    rng = np.random.default_rng(3)
    hits = []
    truth = 2 * 0.9 / (1 + 1 + 0.3**2)
    for _ in range(2000):
        x = rng.normal(size=40)
        y = 0.9 * x + np.sqrt(1 - 0.81) * rng.normal(size=40) + 0.3
        low, high = concordance(x, y).ccc_ci
        hits.append(low <= truth <= high)
    assert np.mean(hits) == pytest.approx(0.95, abs=0.02)


def test_stated_results_without_variance():
    same = concordance([1, 2, 3], [1, 2, 3])
    assert (same.ccc, same.ccc_ci) == (1, (1, 1))
    constant = concordance([2, 2, 2], [1, 2, 3])
    assert constant.ccc == 0
    assert np.isnan(constant.ccc_ci).all()
    assert np.isnan(concordance([2, 2, 2], [2, 2, 2]).ccc)
    opposite = concordance([1, 2, 3], [3, 2, 1])
    assert (opposite.ccc, opposite.ccc_ci, opposite.bias_correction) == (-1, (-1, -1), 1)
    apart = concordance([1, 2, 1, 2], [1, 1, 2, 2])  # r = 0
    assert (apart.ccc, apart.pearson_r) == (0, 0)
    assert np.isnan([*apart.ccc_ci, apart.bias_correction]).all()


def test_negative_concordance():
    x = np.arange(20.0)
    found = concordance(x + np.tile([0.5, -0.5], 10), x[::-1])
    assert -1 <= found.ccc_ci[0] < found.ccc < found.ccc_ci[1] < 0


def test_sums_give_the_same_concordance():
    x, y = np.random.default_rng(4).gamma(2, 10, (2, 30))
    sums = np.array([[30, x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum()]])
    assert ccc_of_sums(sums)[0] == pytest.approx(concordance(x, y).ccc)


@given(st.integers(0, 10_000), st.floats(0.1, 10), st.floats(-100, 100))
def test_one_scale_for_both_changes_nothing(seed, scale, shift):
    x, y = np.random.default_rng(seed).gamma(2, 10, (2, 12))
    plain, moved = concordance(x, y), concordance(scale * x + shift, scale * y + shift)
    assert moved.ccc == pytest.approx(plain.ccc, abs=1e-8)
    swapped = concordance(y, x)
    assert (swapped.ccc, *swapped.ccc_ci) == pytest.approx((plain.ccc, *plain.ccc_ci), abs=1e-10)
    first, second = (
        intraclass(np.column_stack(pair))["icc"] for pair in ((x, y), (scale * y + shift, scale * x + shift))
    )
    assert first.to_numpy() == pytest.approx(second.to_numpy(), abs=1e-7)


def test_exact_and_absent_agreement():
    exact = intraclass([[1, 1], [2, 2], [5, 5]])
    assert exact["icc"].tolist() == [1] * 6
    assert exact["ci_low"].tolist() == [1] * 6
    shifted = intraclass([[1, 2], [2, 3], [5, 6]]).set_index("type")
    assert shifted.loc["ICC(C,1)", "icc"] == 1
    assert shifted.loc["ICC(A,1)", "icc"] < 1
    assert intraclass([[1, 1], [1, 1]])["icc"].isna().all()


def test_incomplete_targets_are_counted():
    found = intraclass([[1, 2], [3, None], [4, 5], [7, 7]])
    assert found["n_missing"].unique().tolist() == [1]
    with pytest.raises(ValueError, match="1 complete targets by 2 raters"):
        intraclass([[1, 2], [3, None]])


def test_raters_who_contradict_each_other_have_no_interval_of_absolute_agreement():
    """Its degrees of freedom are far below one: both ends would lie below the estimate (psych 2.2.9: NaN, -0.52)."""
    found = intraclass([[1, 9], [2, 8.1], [3, 7.2], [4, 5.7], [5, 5.2], [6, 3.8]]).set_index("type")
    assert found.loc["ICC(A,1)", "icc"] == pytest.approx(-0.52224092, abs=1e-8)
    assert found.loc[["ICC(A,1)", "ICC(A,k)"], ["ci_low", "ci_high"]].isna().all(axis=None)
    assert found.loc["ICC(C,1)", ["ci_low", "ci_high"]].tolist() == pytest.approx([-0.99915253, -0.95761808], abs=1e-8)


@given(st.integers(0, 10_000), st.floats(-2, 2))
def test_intervals_hold_their_estimate(seed, slope):
    rng = np.random.default_rng(seed)
    x = rng.gamma(2, 10, 12)
    found = intraclass(np.column_stack([x, slope * x + rng.normal(0, 3, 12)]))
    known = found[found["ci_low"].notna()]
    assert (known["ci_low"] <= known["icc"] + 1e-9).all()
    assert (known["icc"] <= known["ci_high"] + 1e-9).all()
