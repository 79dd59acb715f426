"""The whole panel: the keys that `ich agree` promises, JSON, bad input."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap

from ich import agreement
from ich.agreement import panel

DATA = Path(__file__).parent / "data"
KEYS = [
    "n",
    "bias",
    "bias_ci",
    "sd",
    "loa_lower",
    "loa_upper",
    "loa_lower_ci",
    "loa_upper_ci",
    "log_ratio",
    "percent",
    "regression_loa",
    "ccc",
    "ccc_ci",
    "icc_a1",
    "icc_a1_ci",
    "pearson_r",
    "spearman_rho",
    "passing_bablok",
    "deming",
    "within_5_ml",
    "within_20_percent",
]


@pytest.fixture
def pefr() -> pd.DataFrame:
    return pd.read_csv(DATA / "pefr_1986.csv", dtype={"id": str}).rename(columns={"id": "case_id"})


def test_pefr_1986(pefr):
    found = panel(pefr, "wright1", "mini1")
    assert set(KEYS) <= set(found)
    assert found["n"] == 17
    assert found["bias"] == pytest.approx(-2.118, abs=5e-4)
    assert (found["loa_lower"], found["loa_upper"]) == pytest.approx((-78.10, 73.86), abs=5e-3)
    outer = 3.1483 * found["sd"]  # factor of Carkeet 2015
    assert found["loa_lower_ci"][0] == pytest.approx(found["bias"] - outer, abs=5e-3)
    assert found["pearson_r"] == pytest.approx(0.94, abs=5e-3)  # printed in the paper's text
    for line in ("passing_bablok", "deming"):
        assert set(found[line]) >= {"slope", "slope_ci", "intercept", "intercept_ci"}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_bootstrap_of_the_bias_is_scipys(pefr):
    found = panel(pefr, "wright1", "mini1", seed=5)["bootstrap"]
    gaps = ((pefr.wright1 - pefr.mini1).to_numpy(),)
    expected = bootstrap(gaps, np.mean, n_resamples=2000, method="BCa", rng=5).confidence_interval
    assert found["bias_ci"] == pytest.approx([expected.low, expected.high])
    assert found["unit"] == "case"


def test_patients_are_resampled_whole(pefr):
    twice = pd.concat([pefr, pefr.assign(case_id="b" + pefr["case_id"])], ignore_index=True)
    twice["patient_id"] = twice["case_id"].str.lstrip("b")
    together, alone = (
        panel(twice, "wright1", "mini1", patient=patient)["bootstrap"] for patient in ("patient_id", None)
    )
    assert (together["n_units"], alone["n_units"]) == (17, 34)
    assert np.ptp(together["bias_ci"]) > 1.2 * np.ptp(alone["bias_ci"])


def test_missing_pairs_are_named(pefr):
    pefr.loc[[0, 3], "mini1"] = np.nan
    found = panel(pefr, "wright1", "mini1", n_resamples=100)
    assert (found["n"], found["n_missing"], found["missing_ids"]) == (15, 2, ["1", "4"])


def test_a_volume_of_zero_is_named_where_it_has_no_ratio():
    table = pd.DataFrame({"case_id": ["a", "b", "c", "d", "e"], "m": [0.0, 2, 3, 5, 9], "r": [0.0, 2.5, 3, 4, 10]})
    found = panel(table, "m", "r", n_resamples=100)
    assert found["log_ratio"]["undefined_ids"] == ["a"]
    assert found["percent"]["undefined_ids"] == ["a"]
    assert (found["n"], found["percent"]["n"]) == (5, 4)


def test_perfect_agreement():
    volume = [1.0, 5, 12, 30, 70]
    found = panel(pd.DataFrame({"m": volume, "r": volume}), "m", "r", n_resamples=100)
    assert (found["bias"], found["sd"], found["loa_upper_ci"]) == (0, 0, [0, 0])
    assert (found["ccc"], found["icc_a1"], found["within_5_ml"]) == (1, 1, 1)
    assert found["passing_bablok"]["slope_ci"] == [1, 1]
    assert found["tost"]["equivalent"] is True
    assert found["limits_to_quote"]["limits"] == "unchecked"


def test_constant_column_has_no_lines_and_says_so():
    table = pd.DataFrame({"m": [10.0, 10, 10, 10], "r": [8.0, 9, 10, 12]})
    found = panel(table, "m", "r", n_resamples=100)
    assert found["passing_bablok"] is found["deming"] is found["pearson_r"] is None
    assert any("every method is 10" in note for note in found["notes"])


def test_negative_correlation():
    table = pd.DataFrame({"m": [9.0, 7, 5, 3, 1], "r": [1.0, 2, 3, 4, 5]})
    found = panel(table, "m", "r", n_resamples=100)
    assert found["passing_bablok"]["slope"] == pytest.approx(-2)
    assert found["pearson_r"] == pytest.approx(-1)
    assert found["ccc"] < 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"case_id": ["a", "b", "a", "d"]}, "case a stands 2 times"),
        ({"case_id": [None, "b", "c", "d"]}, "row 1 of 4 names no case"),
        ({"m": ["1", "2", "x", "4"]}, "m: case c is the text 'x'"),
        ({"m": ["1", "2", "3", "4"]}, "m: case a is the text '1'"),
        ({"m": [1.0, np.inf, 3, 4]}, "m: case b is infinite"),
        ({"m": [1.0, np.nan, np.nan, 4]}, r"2 complete pairs \(missing: b, c\)"),
    ],
)
def test_bad_tables_name_the_case(change, message):
    table = pd.DataFrame({"case_id": list("abcd"), "m": [1.0, 2, 3, 4], "r": [1.0, 2, 3, 5]}).assign(**change)
    with pytest.raises(ValueError, match=message):
        panel(table, "m", "r")


def test_unknown_column(pefr):
    with pytest.raises(ValueError, match="no column network_ml; found case_id, wright1"):
        panel(pefr, "network_ml", "mini1")


def test_every_name_is_here():
    assert all(callable(getattr(agreement, name)) for name in agreement.__all__ if name.islower())


@pytest.mark.parametrize(("factor", "equivalent"), [(1.19, True), (1.21, False), (0.81, True), (0.79, False)])
def test_the_margin_in_percent_is_one_of_the_reference(factor, equivalent):
    truth = np.linspace(5, 60, 40)
    table = pd.DataFrame({"m": factor * truth + 0.01 * np.sin(np.arange(40)), "r": truth})
    found = panel(table, "m", "r", margin_percent=20, n_resamples=50)
    assert found["tost_percent"]["equivalent"] is equivalent
    assert (found["within_margin_percent"] == 1) is equivalent
