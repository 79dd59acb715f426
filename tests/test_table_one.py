import pandas as pd
import pytest

from ich import table_one


@pytest.fixture
def study():
    ids = [f"{n:02d}" for n in range(20)]
    cohort = pd.DataFrame(
        {
            "case_id": ids,
            "patient_id": ids,
            "included": True,
            "hemorrhage_type": ["parenchymal"] * 12 + ["ventricular"] * 8,
            "reference_volume_ml": [float(n) for n in range(1, 21)],
            "n_slices": 28,
            "slice_spacing_mm": 5.0,
            "spacing_i_mm": 0.5,
            "tilt_deg": [0.0] * 10 + [-18.5] * 10,
        }
    )
    splits = pd.DataFrame({"case_id": ids, "patient_id": ids, "split": ["train"] * 14 + ["test"] * 6})
    people = pd.DataFrame({"case_id": ids, "age": [*range(50, 69), None], "sex": ["F"] * 7 + ["male"] * 12 + [None]})
    return cohort, splits, people


def row(table: pd.DataFrame, name: str, level: str = "") -> pd.Series:
    found = table[table["characteristic"].str.startswith(name) & (table["level"] == level)]
    assert len(found) == 1, table
    return found.iloc[0]


def test_median_quartiles_and_counts_by_split(study):
    cohort, splits, _ = study
    table = table_one.characteristics(cohort, splits)
    assert table.columns.tolist() == ["characteristic", "level", "missing", "all", "train", "test"]
    assert row(table, "n")[["all", "train", "test"]].tolist() == ["20", "14", "6"]
    volume = row(table, "Reference volume (ml), median [Q1,Q3]")
    assert volume[["missing", "all", "train"]].tolist() == ["0", "10.5 [5.8,15.2]", "7.5 [4.2,10.8]"]
    assert volume["test"] == "17.5 [16.2,18.8]"
    assert row(table, "Gantry tilt", "yes")[["train", "test"]].tolist() == ["4 (28.6)", "6 (100.0)"]


def test_people_are_told_of_where_no_group_is_small(study):
    cohort, splits, people = study
    known = table_one.characteristics(cohort, splits, people)
    assert row(known, "Age (years)")["missing"] == "1"
    assert row(known, "Age (years)")["train"] == "56.5 [53.2,59.8]"
    assert not known["characteristic"].str.startswith("Sex").any()  # no woman in the test split: 0 is a small group
    fewer = people.assign(age=people["age"].where(people.index < 18))
    assert not table_one.characteristics(cohort, splits, fewer)["characteristic"].str.startswith("Age").any()


def test_age_and_sex_of_the_cohort_are_those_of_people(study):
    """A table of one's own brings them as columns: each person counts once, and no small group is told of."""
    cohort, splits, people = study
    told = table_one.characteristics(cohort, splits, people)
    pd.testing.assert_frame_equal(table_one.characteristics(cohort.merge(people, on="case_id"), splits), told)


def test_by_type(study):
    cohort, splits, _ = study
    table = table_one.characteristics(cohort, splits, by="hemorrhage_type")
    assert row(table, "n")[["parenchymal", "ventricular"]].tolist() == ["12", "8"]


def test_volumes_by_type_and_split(study):
    cohort, splits, _ = study
    found = table_one.volumes(cohort, splits).set_index(["hemorrhage_type", "split"])
    assert found.loc[("parenchymal", "all"), ["cases", "mean_ml", "median_ml", "max_ml"]].tolist() == [12, 6.5, 6.5, 12]
    assert found.loc[("all", "test"), "patients"] == 6


def test_people_count_once_and_scans_of_unknown_tilt_are_missing(study):
    """Three women scanned six times each, twelve men once: 3 of 15 people, and too few women to tell of."""
    ids = [f"{n:02d}" for n in range(30)]
    patients = [f"w{n // 6}" for n in range(18)] + [f"m{n}" for n in range(12)]
    cohort = study[0].sample(30, replace=True, random_state=1).assign(case_id=ids, patient_id=patients, tilt_deg=None)
    cohort["tilt_deg"] = [0.0] * 25 + [float("nan")] * 5
    splits = pd.DataFrame({"case_id": ids, "split": "test"})
    people = pd.DataFrame({"case_id": ids, "age": [80] * 18 + [50] * 12, "sex": ["F"] * 18 + ["M"] * 12})
    table = table_one.characteristics(cohort, splits, people)
    assert row(table, "n")["all"] == "30"
    assert row(table, "Patients, n")["all"] == "15"
    assert row(table, "Age (years)")["all"] == "50.0 [50.0,50.0]"
    assert not table["characteristic"].str.startswith("Sex").any()
    tilt = table[table["characteristic"].str.startswith("Gantry tilt")]
    assert "5" in set(tilt["missing"])
    assert tilt["all"].tolist() == ["25 (100.0)"]
