"""Tables of several methods: numbers that can be checked on paper."""

import pandas as pd

from ich import panel_tables

LABELS = {"abc2_ml": "ABC/2"}


def test_volumes_are_described_with_the_number_of_cases_that_have_them():
    cases = pd.DataFrame({"reference_ml": [10.0, 20, 60], "abc2_ml": [12.0, None, 16]})
    found = panel_tables.described(cases, "reference_ml", LABELS)
    assert found["volume, ml"].tolist() == ["reference", "ABC/2"]
    assert found["n"].tolist() == [3, 2]
    assert found["mean"].tolist() == [30, 14]
    assert found["median"].tolist() == [20, 14]
    assert found["largest"].tolist() == [60, 16]


def test_where_there_is_nothing_to_plan_with_the_note_says_so():
    row = panel_tables.planning({"abc2_ml": {"sd": 0.0, "bias": 1.0, "margin_ml": 5.0}}, LABELS).loc[0]
    assert (row["method"], row["bias_ml"]) == ("ABC/2", 1)
    assert pd.isna(row["cases_for_width"])
    assert row["note"] == "the differences do not vary, so there is no SD to plan with"


def test_notes_on_all_cases_are_said_once():
    agreed = pd.DataFrame(
        {"stratum": ["all", "all", "all", "site: a"], "note": ["few pairs", "", "few pairs", "2 pairs: no limits"]}
    )
    assert panel_tables.notes_said(agreed) == "Few pairs."
