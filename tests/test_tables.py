"""Tables keep identifiers as text, refuse what a schema does not allow, and name the case."""

import pandas as pd
import pytest

from ich import tables


def splits(**columns):
    return pd.DataFrame({"case_id": ["001", "002"], "patient_id": ["7", "8"], "split": ["train", "test"], **columns})


def test_case_001_stays_001(tmp_path):
    tables.write(splits(), tmp_path / "splits.csv")
    assert tables.read(tmp_path / "splits.csv")["case_id"].tolist() == ["001", "002"]


def test_unknown_split_names_the_case_and_the_allowed_values(tmp_path):
    with pytest.raises(ValueError, match=r"case 002: split is 'holdout'.*validation"):
        tables.write(splits(split=["train", "holdout"]), tmp_path / "splits.csv")
    assert not (tmp_path / "splits.csv").exists()


def test_doubled_case_is_named(tmp_path):
    with pytest.raises(ValueError, match="001"):
        tables.write(splits(case_id=["001", "001"]), tmp_path / "splits.csv")


def test_missing_column_is_named(tmp_path):
    with pytest.raises(ValueError, match="no column 'split'"):
        tables.write(splits().drop(columns="split"), tmp_path / "splits.csv")


def test_missing_table_says_which_notebook_has_not_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"cohort\.csv"):
        tables.read(tmp_path / "cohort.csv")


def test_unknown_table_lists_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="cohort, splits"):
        tables.write(splits(), tmp_path / "split.csv")


def test_empty_values_survive_a_round_trip(tmp_path):
    row = {
        "case_id": "1", "patient_id": "1", "source": "folder", "simulated": False, "included": False,
        "reason": "unreadable",
    }  # fmt: skip
    tables.write(pd.DataFrame([row]), tmp_path / "cohort.csv")
    back = tables.read(tmp_path / "cohort.csv")
    assert back["image"].isna().all()
    assert back["reference_volume_ml"].isna().all()
    assert not back["included"].any()


def test_extra_columns_are_kept(tmp_path):
    tables.write(splits(site=["A", "B"]), tmp_path / "splits.csv")
    assert tables.read(tmp_path / "splits.csv")["site"].tolist() == ["A", "B"]


def test_a_shown_value_and_its_interval_share_a_cell():
    frame = pd.DataFrame(
        {
            "group": ["all", "few"],
            "mean_ml": [1.234, 5.0],
            "mean_ci_low": [1.0, None],
            "mean_ci_high": [2.0, None],
            "sd_ml": [0.5, 0.25],
            "p": [0.0002, 0.04],
        }
    )
    html = tables.show(frame, "x").to_html()
    assert "1.23 (1.00 to 2.00)" in html
    assert ">5.00<" in html  # no interval, none said
    assert ">mean, ml (95 % interval)<" in html
    assert ">SD, ml<" in html
    assert "0.001<" in html
    assert "0.0002" not in html
    assert "ci low" not in html
    odd = tables.show(pd.DataFrame({"<script>_ml": [1.0]}), "x").to_html()
    assert "<script>" not in odd
