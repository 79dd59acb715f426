"""A slice of `make fuzz`, and its recorded run."""

import warnings
from pathlib import Path

import pandas as pd
from fuzz.fuzz_readers import fuzz

RECORDED = Path(__file__).resolve().parents[1] / "reports" / "checks" / "fuzz.csv"


def test_two_thousand_mutated_inputs_are_read_or_refused(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's and nibabel's about the numbers that were put in
        rows, findings = fuzz(2000, 7, tmp_path)
    assert findings == []
    assert sum(row["accepted"] for row in rows) > 200  # mutations that break everything would test nothing
    assert sum(row["refused"] for row in rows) > 200


def test_the_recorded_run_is_complete_and_without_findings():
    table = pd.read_csv(RECORDED)
    assert table.loc[table["mutations"] == "seeded", "inputs"].sum() >= 100_000
    guided = table[table["mutations"].str.startswith("atheris")]
    assert guided["inputs"].sum() >= 5_000
    assert (guided["accepted"].sum() > 0) & (guided["refused"].sum() > 0)
    assert (table["accepted"] + table["refused"] == table["inputs"]).all()
    assert (table["findings"] == 0).all()
    assert table["longest_s"].max() < 5
    assert table["peak_mb"].max() < 2048
