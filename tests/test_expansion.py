"""Growth between two scans, counted by hand."""

import numpy as np
import pandas as pd
import pytest

from ich.expansion import expansion_table, two_scans

# Six patients; the reference grows by over 33 % or 6 ml in a, b and c. The method misses c and calls d.
SCANS = pd.DataFrame(
    [
        ("a", "first", 10.0, 10.0), ("a", "second", 14.0, 15.0),  # +40 %, +50 %
        ("b", "first", 50.0, 50.0), ("b", "second", 57.0, 58.0),  # +7 ml, +8 ml
        ("c", "first", 20.0, 21.0), ("c", "second", 27.0, 26.0),  # +35 %, +24 %
        ("d", "first", 12.0, 9.0), ("d", "second", 12.0, 13.0),  # 0, +44 %
        ("e", "first", 30.0, 31.0), ("e", "second", 29.0, 30.0),  # shrinks in both
        ("f", "first", 5.0, 5.0), ("f", "second", 6.0, 6.0),  # +20 % in both
    ],
    columns=["patient_id", "visit", "planimetry_ml", "abc2_ml"],
)  # fmt: skip
COLUMNS = ["planimetry_ml", "abc2_ml"]


def scans(table=SCANS):
    return two_scans(table, COLUMNS, visit="visit", baseline="first")


def test_expansion_that_a_method_finds_is_counted():
    row = expansion_table(scans(), "planimetry_ml", ["abc2_ml"]).iloc[0]
    assert row[["n", "n_expanded", "n_called"]].tolist() == [6, 3, 3]
    assert row[["sensitivity", "specificity", "ppv", "npv"]].tolist() == pytest.approx([2 / 3] * 4)
    assert row["kappa"] == pytest.approx((4 / 6 - 1 / 2) / (1 - 1 / 2))  # 4 of 6 agree, 3 by chance
    growth = np.array([5, 8, 5, 4, -1, 1]) - np.array([4, 7, 7, 0, -1, 1])
    assert row["bias"] == pytest.approx(growth.mean())
    assert row["loa_upper"] == pytest.approx(growth.mean() + 1.96 * growth.std(ddof=1))


def test_the_order_of_rows_does_not_matter():
    pd.testing.assert_frame_equal(
        expansion_table(scans(SCANS.sample(frac=1, random_state=1)), "planimetry_ml", ["abc2_ml"]),
        expansion_table(scans(), "planimetry_ml", ["abc2_ml"]),
    )


def test_patients_without_both_volumes_are_not_counted():
    lacking = SCANS.drop(index=3)  # b has no second scan
    lacking.loc[0, "abc2_ml"] = np.nan
    assert len(scans(lacking)) == 5
    row = expansion_table(scans(lacking), "planimetry_ml", ["abc2_ml"]).iloc[0]
    assert row[["n", "n_expanded", "n_called"]].tolist() == [4, 1, 1]
    assert row["sensitivity"] == 0


def test_where_nobody_expands_there_is_no_sensitivity():
    row = expansion_table(scans(SCANS[8:]), "planimetry_ml", ["abc2_ml"]).iloc[0]
    assert row["n"] == 2
    assert row[["sensitivity", "ppv", "kappa"]].isna().all()
    assert row["specificity"] == 1
    assert "bias" not in row, "two patients give no limits"


@pytest.mark.parametrize(
    ("table", "baseline", "said"),
    [
        (SCANS, "before", r"visit: found first, second; wanted two values, 'before' for the first"),
        (SCANS.assign(visit="first"), "first", "visit: found first; wanted two values"),
        (SCANS.assign(patient_id="x"), "first", "patient_id x has 6 scans with visit first, wanted one of each"),
        (
            SCANS.assign(patient_id="x", case_id=list("abcdefghijkl"))[:3],
            "first",
            r"2 scans with visit first \(cases a, c\)",
        ),
        (SCANS.iloc[[0, 3]], "first", "no patient_id has both scans"),
        (SCANS.drop(columns="visit"), "first", "no column visit; found patient_id"),
    ],
)
def test_scans_that_are_no_pairs_are_named(table, baseline, said):
    with pytest.raises(ValueError, match=said):
        two_scans(table, COLUMNS, visit="visit", baseline=baseline)
