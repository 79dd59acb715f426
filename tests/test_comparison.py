"""Absolute errors by group, the paired test, TOST, Holm and Wilson."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, bootstrap, ttest_1samp
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

from ich.comparison import (
    absolute_errors_by_group,
    equivalence,
    group_labels,
    hodges_lehmann,
    holm,
    interval_coverage,
    mean_test,
    paired_absolute_errors,
    percent_equivalence,
    volume_group,
    wilson,
    within_margins,
)
from ich.pairs import pair
from ich.resampling import share_interval


def test_an_edge_belongs_between_the_edges():
    found = volume_group([0, 4.999, 5, 25, 25.001, np.nan])
    assert found.tolist()[:5] == ["<5", "<5", "5-25", "5-25", ">25"]
    assert pd.isna(found[5])
    assert group_labels((5, 25, 60)) == ["<5", "5-25", "25-60", ">60"]
    with pytest.raises(ValueError, match="wanted at least two that ascend"):
        volume_group([1], (25, 5))


VOLUMES = pd.DataFrame(
    {
        "case_id": list("abcdef"),
        "reference_ml": [1.0, 2.0, 10.0, 20.0, 22.0, 100.0],
        "network_ml": [1.5, 1.0, 12.0, 20.0, None, 90.0],
        "abc2_ml": [1.0, 4.0, 13.0, 16.0, 30.0, 60.0],
    }
)


def test_errors_by_group_on_paper():
    found = absolute_errors_by_group(VOLUMES, "reference_ml", ["network_ml", "abc2_ml"]).set_index(["method", "group"])
    small = found.loc[("network_ml", "<5")]
    assert (small["n"], small["mean_ml"]) == (2, 0.75)
    assert small["sd_ml"] == pytest.approx(np.sqrt(2) / 4)
    middle = found.loc[("network_ml", "5-25")]
    assert (middle["n"], middle["n_missing"], middle["mean_ml"]) == (2, 1, 1.0)
    large = found.loc[("abc2_ml", ">25")]
    assert (large["n"], large["mean_ml"]) == (1, 40)
    assert np.isnan(large["sd_ml"])
    assert found.loc[("abc2_ml", "all"), "n"] == 6
    assert found.loc[("abc2_ml", "all"), "reference_mean_ml"] == pytest.approx(155 / 6)
    assert found.loc[("abc2_ml", "all"), ["mean_ml", "median_ml", "max_ml"]].tolist() == pytest.approx(
        [57 / 6, 3.5, 40]
    )


def test_empty_group_and_wrong_column():
    found = absolute_errors_by_group(VOLUMES.head(2), "reference_ml", ["abc2_ml"]).set_index("group")
    assert found.loc[">25", "n"] == 0
    assert np.isnan(found.loc[">25", "mean_ml"])
    with pytest.raises(ValueError, match="no column reader_ml; found case_id"):
        absolute_errors_by_group(VOLUMES, "reference_ml", ["reader_ml"])
    with pytest.raises(ValueError, match="case a stands 2 times"):
        absolute_errors_by_group(VOLUMES.assign(case_id=list("aabcde")), "reference_ml", ["abc2_ml"])
    text = VOLUMES.assign(network_ml=[1.0, "n/a", 3, 4, 5, 6])
    with pytest.raises(ValueError, match="network_ml: case b is the text 'n/a'"):
        absolute_errors_by_group(text, "reference_ml", ["network_ml"])


# Hollander & Wolfe 1999, example 3.1 (depression scale, nine patients), as R's wilcox.test prints it:
# V = 5 (p = 0.03906), 95 percent interval -0.786 to -0.010, pseudomedian -0.46.
HAMILTON = np.array([0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]) - np.array(
    [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
)


def test_the_mean_error_has_an_interval_over_patients():
    rng = np.random.default_rng(3)
    error = rng.exponential(2.0, 40)
    table = pd.DataFrame({"reference_ml": 40.0, "network_ml": 40 + error, "patient_id": np.arange(40).astype(str)})
    row = absolute_errors_by_group(table, "reference_ml", ["network_ml"]).set_index("group").loc["all"]
    outside = bootstrap((error,), np.mean, method="BCa", n_resamples=20000, rng=1).confidence_interval
    assert [row["mean_ci_low"], row["mean_ci_high"]] == pytest.approx(list(outside), abs=0.1)
    one = absolute_errors_by_group(table.assign(patient_id="a"), "reference_ml", ["network_ml"])
    assert one["mean_ci_low"].isna().all()  # scans of a single patient


def test_hollander_wolfe_depression():
    found = hodges_lehmann(HAMILTON)
    assert found.exact
    assert found.p == pytest.approx(0.03906, abs=5e-6)
    assert found.shift == pytest.approx(-0.46, abs=5e-4)
    assert found.shift_ci == pytest.approx((-0.786, -0.010), abs=5e-4)
    assert found.confidence_reached == pytest.approx(0.9609, abs=5e-5)


def test_few_differences_reach_less_confidence():
    found = hodges_lehmann([1.0, 2.0, 4.0])
    assert found.confidence_reached == 1 - 2 / 2**3
    assert found.shift_ci == (1, 4)
    assert hodges_lehmann([0.0, 0.0, 0.0]).p == 1
    with pytest.raises(ValueError, match="got 0"):
        hodges_lehmann([])


@given(st.lists(st.floats(-100, 100, allow_subnormal=False), min_size=2, max_size=70), st.floats(-10, 10))
def test_shift_moves_the_estimate(values, shift):
    plain, moved = hodges_lehmann(values), hodges_lehmann(np.array(values) + shift)
    assert moved.shift == pytest.approx(plain.shift + shift, abs=1e-9)
    assert hodges_lehmann(-np.array(values)).shift_ci == pytest.approx(tuple(-end for end in reversed(plain.shift_ci)))
    assert plain.shift_ci[0] <= plain.shift <= plain.shift_ci[1]


def test_normal_interval_meets_the_exact_one():
    """At 50 and 51 differences the two ways to count give nearly the same interval."""
    values = np.random.default_rng(1).normal(1, 2, 51)
    exact, normal = hodges_lehmann(values[:50]), hodges_lehmann(values)
    assert exact.exact
    assert not normal.exact
    assert normal.shift_ci == pytest.approx(exact.shift_ci, abs=0.15)


def test_normal_rank_of_sixty_differences():
    """Hollander & Wolfe 1999, section 3.3: 60 x 61 / 4 - 1.96 sqrt(60 x 61 x 121 / 24) = 648.8, of 1830 averages."""
    values = np.random.default_rng(4).normal(1, 2, 60)
    walsh = sorted((values[i] + values[j]) / 2 for i in range(60) for j in range(i, 60))
    assert hodges_lehmann(values).shift_ci == pytest.approx((walsh[648], walsh[-649]))


def test_paired_errors_by_group():
    rng = np.random.default_rng(2)
    truth = np.concatenate([rng.uniform(0.5, 4, 20), rng.uniform(6, 24, 20), rng.uniform(30, 90, 20)])
    table = pd.DataFrame({"r": truth, "a": truth * rng.normal(1, 0.02, 60), "b": truth * rng.normal(0.8, 0.1, 60)})
    table.loc[0, "a"] = np.nan
    found = paired_absolute_errors(table, "r", "a", "b").set_index("group")
    assert found["n"].tolist() == [19, 20, 20, 59]
    assert found.loc["<5", "n_missing"] == 1
    assert (found["shift_ci_high"] < 0).all()  # the first method errs less
    assert found.loc[["<5", "5-25", ">25"], "p_holm"].to_numpy() == pytest.approx(holm(found["p"].iloc[:3]))
    assert found.loc["all", "p_holm"] == found.loc["all", "p"]
    swapped = paired_absolute_errors(table, "r", "b", "a").set_index("group")
    assert swapped["shift_ml"].to_numpy() == pytest.approx(-found["shift_ml"].to_numpy())
    empty = paired_absolute_errors(table.iloc[:20], "r", "a", "b").set_index("group").loc[">25"]
    assert empty["n"] == 0
    assert np.isnan(empty["p_holm"])


@settings(max_examples=20)  # statsmodels collects garbage on every call
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_equals_statsmodels(values):
    assert holm(values) == pytest.approx(multipletests(values, method="holm")[1])


def test_holm_leaves_untested_out():
    assert holm([0.01, np.nan, 0.04]) == pytest.approx([0.02, np.nan, 0.04], nan_ok=True)


@given(st.integers(0, 1000), st.floats(0.5, 20))
def test_equivalence_equals_statsmodels(seed, margin):
    values = np.random.default_rng(seed).normal(1, 4, 15)
    found = equivalence(values, margin)
    p, lower, upper = DescrStatsW(values).ttost_mean(-margin, margin)
    assert (found.p, found.p_lower, found.p_upper) == pytest.approx((p, lower[1], upper[1]), abs=1e-12)
    inside = -margin < found.mean_ci[0] and found.mean_ci[1] < margin
    assert found.equivalent == inside


def test_equivalence_without_spread():
    assert equivalence([1, 1, 1], 5).equivalent
    assert equivalence([1, 1, 1], 5).mean_ci == (1, 1)
    assert not equivalence([5, 5, 5], 5).equivalent
    with pytest.raises(ValueError, match="margin"):
        equivalence([1, 2, 3], -5)
    with pytest.raises(ValueError, match="got 2, 0 missing, wanted at least 3"):
        equivalence([1, 2], 5)


def test_the_mean_is_tested_as_scipy_does():
    values = np.array([0.4, -1.1, 2.3, 0.9, 3.1])
    assert mean_test(values) == pytest.approx(ttest_1samp(values, 0).pvalue)
    assert np.isnan([mean_test(np.array([1.0])), mean_test(np.full(3, 2.0))]).all()


def test_percent_is_of_positive_references():
    """10, 20 and -15 % of 10, 20 and 40 ml; the case without blood has no percentage."""
    found = percent_equivalence(pair([11, 24, 34, 2], [10, 20, 40, 0]), 20)
    assert (found.n, found.mean) == (3, pytest.approx(5))
    assert found.p == pytest.approx(DescrStatsW([10, 20, -15]).ttost_mean(-20, 20)[0])
    assert percent_equivalence(pair([11, 24, 3], [10, 20, 0]), 20) is None


@given(st.integers(1, 200), st.data())
def test_wilson_equals_scipy(n, data):
    count = data.draw(st.integers(0, n))
    expected = binomtest(count, n).proportion_ci(method="wilson")
    assert wilson(count, n) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert all(np.isnan(wilson(0, 0)))


def test_within_margins_on_paper():
    found = within_margins(pair([10, 24, 106, 4], [10, 20, 100, 5]), margin_ml=1, margin_percent=10)
    assert found["within_5_ml"] == 0.75
    assert found["within_20_percent"] == 1
    assert found["within_margin_ml"] == 0.5
    assert found["within_margin_percent"] == 0.5
    wider = within_margins(pair([10, 24, 106, 4], [10, 20, 100, 5]), margin_ml=4, margin_percent=20)
    assert (wider["within_margin_ml"], wider["within_margin_percent"]) == (0.75, 1)  # the margin itself is within


def test_coverage_of_intervals_by_volume_group():
    table = pd.DataFrame(
        {
            "reference_ml": [2.0, 4.0, 10.0, 20.0, 60.0, 70.0],
            "network_ml": [2.0, 5.0, 10.0, 20.0, 50.0, 60.0],
            "network_low_ml": [1.0, 4.5, 8.0, 18.0, 40.0, None],
            "network_high_ml": [3.0, 5.5, 12.0, 22.0, 60.0, None],
        }
    )
    found = interval_coverage(table).set_index("group")
    assert found["n"].tolist() == [2, 2, 1, 5]
    assert found.loc["all", ["n_missing", "covered", "coverage"]].tolist() == [1, 4, 0.8]
    assert found["coverage"].tolist() == [0.5, 1.0, 1.0, 0.8]  # an end belongs to the interval
    assert found.loc["5-25", "median_width_ml"] == 4
    assert found.loc["5-25", "median_width_share"] == pytest.approx(0.3)
    # Wilson's interval of 4 in 5: Newcombe RG. Stat Med 1998;17:857, by its formula.
    assert found.loc["all", ["coverage_ci_low", "coverage_ci_high"]].tolist() == pytest.approx(
        [0.3755, 0.9638], abs=1e-4
    )


def test_coverage_of_patients_scanned_twice_is_no_surer_than_that_of_patients_scanned_once():
    once = pd.DataFrame({"reference_ml": [10.0] * 12, "network_ml": 10.0, "network_low_ml": [9.0] * 9 + [11.0] * 3})
    once = once.assign(network_high_ml=20.0, patient_id=[str(n) for n in range(12)])
    twice = pd.concat([once, once])
    first, both = (interval_coverage(table).set_index("group").loc["all"] for table in (once, twice))
    assert both["coverage"] == first["coverage"] == 0.75
    width = first["coverage_ci_high"] - first["coverage_ci_low"]
    assert both["coverage_ci_high"] - both["coverage_ci_low"] == pytest.approx(width, rel=0.15)


def test_patients_who_all_have_the_same_share_are_no_certainty():
    # Half of each of four patients' scans: as 2 of 4 patients (Wilson; Newcombe's formula gives 0.150 to 0.850).
    assert share_interval([1, 0] * 4, list("aabbccdd")) == pytest.approx((0.1500, 0.8500), abs=1e-4)
    assert share_interval([1] * 6, list("aabbcc")) == wilson(3, 3)
    assert np.isnan(share_interval([1, 0, 1, 1], list("aabb"))).all()
