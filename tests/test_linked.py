"""Scans of one patient count for less than as many patients: a case written down twice tells nothing new."""

import numpy as np
import pandas as pd
import pytest

from ich.agreement import agreement_table, bland_altman, compare_methods, linked_pairs, paired_absolute_errors, panel
from ich.linked import owners
from ich.reliability import icc_of_sums, intraclass
from ich.resampling import bootstrap_mean


@pytest.fixture
def once():
    random = np.random.default_rng(8)
    truth = random.uniform(5, 60, 24)
    columns = {name: truth + random.normal(shift, sd, 24) for name, shift, sd in (("net", 0.3, 2), ("abc2", 3, 6))}
    return pd.DataFrame({"reference_ml": truth, **columns, "patient_id": [f"p{n}" for n in range(24)]})


@pytest.fixture
def twice(once):
    return pd.concat([once, once], ignore_index=True)


def test_limits_are_those_of_the_analysis_of_variance(twice):
    other = twice.assign(net=twice["net"] + np.random.default_rng(1).normal(0, 1, 48))
    found = bland_altman(other["net"], other["reference_ml"], patients=other["patient_id"])
    expected = linked_pairs(other["net"], other["reference_ml"], other["patient_id"])
    assert (found.n, found.n_patients) == (48, 24)
    for name in ("bias", "sd", "loa_lower", "loa_upper", "bias_ci", "loa_lower_ci", "loa_upper_ci"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name))


def test_a_patient_with_one_case_each_changes_nothing(once):
    pair = once["net"], once["reference_ml"]
    assert bland_altman(*pair, patients=once["patient_id"]).row() == bland_altman(*pair).row()
    assert owners(once["patient_id"], 24) is None


def test_doubled_cases_do_not_narrow_intervals(once, twice):
    wide = bland_altman(twice["net"], twice["reference_ml"], patients=twice["patient_id"])
    known = bland_altman(once["net"], once["reference_ml"])
    blind = bland_altman(twice["net"], twice["reference_ml"])
    assert np.ptp(wide.bias_ci) == pytest.approx(np.ptp(known.bias_ci), rel=0.15)
    assert np.ptp(blind.bias_ci) < 0.75 * np.ptp(known.bias_ci)


def test_tests_of_doubled_cases_are_those_of_single_ones(once, twice):
    first, again = (
        compare_methods(table, "reference_ml", "net", "abc2", patient="patient_id") for table in (once, twice)
    )
    assert again["p"].dropna().to_numpy() == pytest.approx(first["p"].dropna().to_numpy())
    assert again["n"].tolist() == [24, 24, 24, 24, 48]
    one, two = (paired_absolute_errors(table, "reference_ml", "net", "abc2") for table in (once, twice))
    assert two["p"].to_numpy() == pytest.approx(one["p"].to_numpy(), nan_ok=True)
    rows = [agreement_table(table, "reference_ml", ["net"], patient="patient_id").iloc[0] for table in (once, twice)]
    for name in ("bias_p", "tost_p", "tost_percent_p"):
        assert rows[1][name] == pytest.approx(rows[0][name])
    assert (rows[1]["n"], rows[1]["n_patients"]) == (48, 24)
    assert "48 cases of 24 patients" in rows[1]["note"]


def test_shares_and_correlations_are_bootstrapped_over_patients(once, twice):
    found = panel(twice, "net", "reference_ml", patient="patient_id")
    alone = panel(once, "net", "reference_ml")
    assert found["n_patients"] == 24
    for name in ("ccc_ci", "icc_a1_ci", "within_5_ml_ci"):
        assert 0.4 * np.ptp(alone[name]) < np.ptp(found[name]) < 2.5 * np.ptp(alone[name])
    assert "take cases as independent" in " ".join(found["notes"])


def test_two_patients_give_limits_without_intervals():
    found = bland_altman([1.0, 2, 4, 5], [1.0, 1, 3, 3], patients=list("aabb"))
    assert np.isfinite([found.bias, found.loa_lower]).all()
    assert np.isnan([*found.bias_ci, *found.loa_upper_ci]).all()


def test_a_pair_without_a_patient_is_refused():
    with pytest.raises(ValueError, match="1 pairs have none"):
        owners(["a", None, "b"], 3)


def test_icc_from_sums_is_that_of_the_table(once):
    x, y = once["net"], once["abc2"]
    sums = np.array([[24, x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum()]])
    table = intraclass(once[["net", "abc2"]]).set_index("type")
    assert icc_of_sums(sums)[0] == pytest.approx(table.loc["ICC(A,1)", "icc"])


def test_resamples_that_equal_the_sample_are_ties():
    """Symmetric values have a symmetric interval, whatever rounding says of resamples equal to the sample."""
    low, high = bootstrap_mean([0.9, 0.5, 0.7]).mean_ci
    assert low + high == pytest.approx(1.4)
    assert np.isnan(bootstrap_mean([0.9, 0.5]).mean_ci).all()
