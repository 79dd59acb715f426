"""Sentences of the notebooks say what the data hold, and no more."""

from pathlib import Path

import numpy as np
import pandas as pd

from ich.agreement import agreement_table, panel
from ich.print_tables import ALONG_COVERS, CCC_COVERS, quoted_limits, quoted_said
from ich.tables import for_abc2
from ich.volume_limits import regression_limits
from ich.wording import (
    case_ids,
    enough_digits,
    labels_said,
    largest_tenth,
    margin_said,
    outlier_said,
    reference_outlines,
    too_few_to_compare,
    volumes_differ,
)

CHECKS = Path(__file__).resolve().parents[1] / "reports" / "checks"
NAMES = {"network_ml": "the predictions", "abc2_ml": "ABC/2"}


def panels(predicted):
    """Nine cases: ABC/2 is 2 ml too large, the predictions 1 ml, where there are some."""
    reference = np.arange(10.0, 19.0)
    network = np.where(np.arange(9) < predicted, reference + 1, np.nan)
    table = pd.DataFrame({"reference_ml": reference, "network_ml": network, "abc2_ml": reference + 2})
    return {method: panel(table, method, "reference_ml") for method in NAMES}


def test_methods_of_unlike_numbers_of_cases_each_say_their_own():
    said = volumes_differ(panels(4), NAMES)
    assert said.startswith("In 9 cases the volume differs from the reference by +1.0 ml for the predictions (n = 4; ")
    assert " and +2.0 ml for ABC/2 (n = 9; 95 % limits of agreement 2.0 to 2.0 ml, 100 % of cases within 5 ml)." in said


def test_one_number_of_cases_is_said_once():
    said = volumes_differ(panels(9), NAMES, "simulated")
    assert said.startswith("In 9 simulated cases the volume differs")
    assert "n = " not in said


def test_volumes_are_called_skewed_only_by_their_own_numbers():
    said = largest_tenth(pd.Series([2.0] * 18 + [32.0] * 2))  # 36 + 64 ml
    assert said.startswith(
        "Mean 5.0 ml, median 2.0 ml; the largest tenth of the cases (n = 2) holds 64 % of the volume"
    )
    assert "Mean 3.0 ml, median 3.0 ml; the largest tenth of the cases (n = 1) holds 10 %" in largest_tenth(
        pd.Series([3.0] * 10)
    )


def test_ids_are_called_what_they_are():
    assert case_ids(masks=True) == "the file names of the masks"
    assert case_ids(manifest=True) == "those of the manifest"
    assert case_ids(source=True).startswith("pseudonyms")  # DICOM: names stay in the key
    assert "published" in case_ids(source=True, public=True)
    assert case_ids() == "numbers of simulated cases"


def test_readers_are_counted_only_where_they_are_known():
    assert "no reader drew them" in reference_outlines(simulated=True)
    assert "one reader" not in reference_outlines(simulated=False)
    assert "not known" in reference_outlines(simulated=False)


def test_volumes_are_compared_in_three_patients_or_not_at_all():
    kinds = ["parenchymal", None, "ventricular", "parenchymal", "parenchymal"]
    cases = for_abc2(pd.DataFrame({"hemorrhage_type": kinds, "abc2_ml": 1.0, "patient_id": list("abcda")}))
    assert too_few_to_compare(cases, ["abc2_ml"]) == ""
    said = too_few_to_compare(cases.assign(network_ml=[1.0, None, None, 1.0]), ["network_ml", "abc2_ml"])
    assert "at least 3 patients" in said
    assert "2 can be compared, of 1" in said


def test_a_margin_is_kept_by_the_mean_and_not_by_single_cases():
    random = np.random.default_rng(3)
    truth = random.uniform(5, 60, 40)
    table = pd.DataFrame(
        {"reference": truth, "near": truth + random.normal(0, 1, 40), "far": truth + random.normal(0, 4, 40)}
    )
    near, far = (margin_said(panel(table, name, "reference"), name) for name in ("near", "far"))
    mean = f"{(table['near'] - truth).mean():.1f}".replace("-", "−")
    assert f"the mean difference, {mean} ml, lies inside the margin of ±5 ml" in near
    assert near.endswith("lie inside as well.")
    assert "lies inside" in far
    assert ", but the limits of agreement" in far
    assert far.endswith("reach beyond.")


def test_the_mean_that_is_tested_is_told_where_patients_have_several_scans():
    """One patient of ten scans that are 4 ml too large, nine others of one scan without error."""
    patients = ["a"] * 10 + list("bcdefghij")
    truth = np.linspace(10, 60, 19)
    table = pd.DataFrame({"patient": patients, "truth": truth, "method": truth + np.repeat([4.0, 0.0], [10, 9])})
    said = margin_said(panel(table, "method", "truth", patient="patient"), "it")
    assert "the mean of the patients' mean differences, 0.4 ml, lies inside" in said.replace("For it ", "")


def test_a_case_far_from_all_others_is_told():
    gap = pd.Series([0.5, -0.5] * 10 + [-9.0, np.nan])
    assert (
        outlier_said(gap, "ABC/2")
        == "One case differs by −9.0 ml for ABC/2; without it the bias is +0.0 instead of −0.4 ml."
    )
    assert not outlier_said(gap.iloc[:20], "ABC/2")


def test_blood_of_another_label_is_told():
    cases = pd.DataFrame(
        {"case_id": list("abcd"), "patient_id": list("pqrs"), "reference_ml": [10.0, 20, 30, 40],
         "network_ml": [10.0, 19, 30, 39]}
    )  # fmt: skip
    said = labels_said(cases, pd.Series({"a": 10.0, "b": 15.0, "c": 28.0, "d": 37.0}), "the network")
    assert "in 4 parenchymal cases 2.0 ml on average (at most 4.0 ml) is labeled ventricular" in said
    gap = np.array([0.0, -5, -2, -3])
    ends = [gap.mean() + sign * 1.96 * gap.std(ddof=1) for sign in (-1, 1)]
    assert f"−2.5 ml (95 % limits of agreement {ends[0]:.1f} to {ends[1]:.1f} ml)".replace("-", "−") in said
    assert not labels_said(cases, cases.set_index("case_id")["network_ml"], "the network")
    assert not labels_said(cases, pd.Series(dtype=float), "the network")
    few = cases.assign(patient_id=["p", "p", "q", "q"])
    assert not labels_said(few, pd.Series({"a": 10.0, "b": 15.0, "c": 28.0, "d": 37.0}), "the network")


def test_the_coverage_that_is_told_is_what_was_simulated():
    found = pd.read_csv(CHECKS / "few_patients.csv")
    for rows, told in (
        (found[found["statistic"] == "CCC"], CCC_COVERS),
        (found[found["statistic"].str.startswith("upper limit along")], ALONG_COVERS),
    ):
        low, high = (100 * rows["coverage"].agg(end) for end in ("min", "max"))
        assert told == f"{low:.0f} to {high:.0f} %"


def test_a_number_that_is_not_0_does_not_read_as_0():
    assert [enough_digits(values, 1) for values in (("-1.9", "-0.025"), ("0", "0.3"), ("", "0.04"))] == [2, 1, 2]


def test_the_limits_to_quote_are_given_in_numbers(tmp_path):
    random = np.random.default_rng(1)
    truth = np.geomspace(3, 100, 60)
    table = pd.DataFrame({"reference": truth, "ratio": truth * np.exp(random.normal(0.1, 0.2, 60))})
    row = agreement_table(table, "reference", ["ratio"]).iloc[0].to_dict()
    logs = np.log(table["ratio"] / truth)
    low, high = (np.exp(logs.mean() + sign * 1.96 * logs.std()) for sign in (-1, 1))
    ends = [row[f"ratio_loa_{limit}_ci_{end}"] for limit in ("lower", "upper") for end in ("low", "high")]
    said = f"{low:.2f} ({ends[0]:.2f} to {ends[1]:.2f}) to {high:.2f} ({ends[2]:.2f} to {ends[3]:.2f})"
    at_30 = f"({30 * (low - 1):.1f} to {30 * (high - 1):.1f} ml at 30 ml)".replace("-", "−")
    assert quoted_limits(row) == f"{said} times the reference {at_30}"
    assert quoted_said({"ABC/2": row}).endswith(f"ABC/2 {said} times the reference {at_30}.")
    steady = {"limits_to_quote": "constant", "loa_lower": -2.04, "loa_upper": 3}
    assert quoted_limits(steady) == "−2.0 to 3.0 ml"
    assert quoted_said({"a": steady}) == ""


def test_limits_along_a_regression_are_told_where_there_are_cases():
    random = np.random.default_rng(5)
    truth = np.linspace(15, 50, 80)
    table = pd.DataFrame({"reference": truth, "method": truth * 1.1 - 8 + random.normal(0, 1, 80) * truth / 10})
    row = agreement_table(table, "reference", ["method"]).iloc[0].to_dict()
    ends = regression_limits(table["method"], truth).at([30]).iloc[0]
    assert quoted_limits(row | {"limits_to_quote": "regression"}) == (
        f"{ends['loa_lower']:.1f} ({ends['loa_lower_ci_low']:.1f} to {ends['loa_lower_ci_high']:.1f}) to "
        f"{ends['loa_upper']:.1f} ({ends['loa_upper_ci_low']:.1f} to {ends['loa_upper_ci_high']:.1f}) ml at 30 ml"
    ).replace("-", "−")


def test_a_margin_is_held_against_limits_that_follow_the_volume():
    """Errors of 7 %: limits of a ratio of 0.86 to 1.15 reach 5 ml at some 30 ml, whatever constant limits say."""
    random = np.random.default_rng(3)
    truth = random.lognormal(2.5, 1, 150)
    table = pd.DataFrame({"reference": truth, "net": truth * np.exp(random.normal(0, 0.07, 150))})
    found = panel(table, "net", "reference", n_resamples=100)
    low, high = found["log_ratio"]["loa_lower_ci"][0], found["log_ratio"]["loa_upper_ci"][1]
    assert found["limits_to_quote"]["limits"] == "ratio"
    said = margin_said(found, "the network")
    assert said.endswith(f"stay inside it up to a volume of {5 / max(1 - low, high - 1):.1f} ml.")

    found["limits_to_quote"]["limits"] = "regression"
    at = regression_limits(table["net"], truth).at([5, 30, 60])
    inside = at[["loa_lower_ci_low", "loa_upper_ci_high"]].abs().max(axis=1) < 5
    assert inside.tolist() == [True, False, False]
    assert "lie inside at 5 ml and reach beyond at 30 and 60 ml." in margin_said(found, "the network")
    found["margin_ml"] = 0.1
    assert "reach beyond at 5, 30 and 60 ml." in margin_said(found, "the network")
