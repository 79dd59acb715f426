"""Scans with and without blood told apart: counts on paper, AUC by scikit-learn, variances by loops over pairs."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

from ich import tables
from ich.cohort import EMPTY
from ich.detection import auc_of, by_case, by_reader, detection, failures, without_blood

MARKED = [0.0, 0.05, 0.5, 3.0, 20.0, 0.0, 0.0, 0.2, 0.0]  # four of nine scans hold no blood
BLOOD = [True] * 5 + [False] * 4


def test_counts_on_paper():
    found = detection(MARKED, BLOOD, range(9)).set_index("marked")
    assert found["n_found"].to_dict() == {"at all": 4, "from 0.1 ml": 3, "from 1 ml": 2}
    assert found["n_false"].to_dict() == {"at all": 1, "from 0.1 ml": 1, "from 1 ml": 0}
    assert found.loc["at all", ["sensitivity", "specificity", "ppv", "npv"]].tolist() == [4 / 5, 3 / 4, 4 / 5, 3 / 4]
    # Wilson's interval of 3 of 4, from the equation (p - 3/4)^2 = z^2 p (1 - p) / 4.
    assert found.loc["at all", "specificity_ci_low"] == pytest.approx(0.30064, abs=1e-5)
    assert (found["n_with"].eq(5) & found["n_without"].eq(4) & found["false_max_ml"].eq(0.2)).all()


def test_a_scan_without_a_volume_is_counted_as_missing_alone():
    found = detection([*MARKED, np.nan], [*BLOOD, False], range(10))
    pd.testing.assert_frame_equal(
        found.drop(columns="n_missing"), detection(MARKED, BLOOD, range(9)).drop(columns="n_missing")
    )
    assert found["n_missing"].eq(1).all()


def test_auc_equals_scikit_learn():
    rng = np.random.default_rng(4)
    blood = rng.random(80) < 0.6
    marked = np.where(rng.random(80) < 0.3, 0, rng.exponential(1 + 2 * blood)).round(1)  # with ties
    assert auc_of(marked, blood).auc == pytest.approx(roc_auc_score(blood, marked), abs=1e-12)


def test_interval_of_independent_scans_is_delong_on_the_logit():
    marked, blood = np.array(MARKED), np.array(BLOOD)
    wins = [[1.0 if x > y else 0.5 if x == y else 0.0 for y in marked[~blood]] for x in marked[blood]]
    value = np.mean(wins)
    variance = np.var(np.mean(wins, axis=1), ddof=1) / 5 + np.var(np.mean(wins, axis=0), ddof=1) / 4
    half = 1.959964 * np.sqrt(variance) / (value * (1 - value))
    expected = expit(logit(value) - half), expit(logit(value) + half)
    assert auc_of(marked, blood).auc_ci == pytest.approx(expected, abs=1e-6)


def test_every_scan_twice_leaves_the_interval_as_it_is():
    """Two equal scans of a patient tell no more than one; as patients of their own they would narrow the interval."""
    once, twice = auc_of(MARKED, BLOOD), auc_of(MARKED * 2, BLOOD * 2, [*range(9)] * 2)
    assert (twice.auc, *twice.auc_ci) == pytest.approx((once.auc, *once.auc_ci))
    narrower = auc_of(MARKED * 2, BLOOD * 2)
    assert np.ptp(narrower.auc_ci) < 0.8 * np.ptp(once.auc_ci)


def test_patients_with_both_kinds_are_held_together():
    """Each patient bled on one scan of two and is marked more on that one, whatever level it has: simulated samples."""
    rng = np.random.default_rng(8)
    blood, patients = [True, False] * 12, np.repeat(range(12), 2)
    values, said = [], []
    for _ in range(400):
        marked = 10 + np.repeat(rng.normal(0, 1, 12), 2) + np.tile([0.7, 0.0], 12) + rng.normal(0, 0.3, 24)
        values.append(auc_of(marked, blood).auc)
        said.append(np.ptp(logit(auc_of(marked, blood, patients).auc_ci)) / (2 * 1.96))
    assert np.median(said) == pytest.approx(np.std(logit(values)), rel=0.15)


def test_no_interval_where_nothing_tells_of_an_error():
    assert np.isnan(auc_of([1.0, 2.0, 0.0, 0.5], [True, True, False, False]).auc_ci).all()
    assert auc_of([1.0, 2.0, 0.0, 0.5], [True, True, False, False]).auc == 1
    assert np.isnan(auc_of([1.0, 2.0], [True, True]).auc)
    assert np.isnan(auc_of([1.0, 2.0, 1.5], [True, True, False]).auc_ci).all()  # one scan without blood


@pytest.fixture
def run(tmp_path):
    """A run whose cohort has scans with an empty mask of several kinds."""
    rows = [
        ("bleed", "p1", None, "parenchymal", "test"),
        ("taught", "p2", None, "parenchymal", "train"),
        ("blank", "p3", EMPTY, None, None),
        ("before the bleed", "p1", EMPTY, None, None),
        ("of a patient in training", "p2", EMPTY, None, None),
        ("not outlined yet", "p4", EMPTY, "mixed", None),
        ("damaged", "p5", "the mask: damaged", None, None),
    ]
    cohort = pd.DataFrame(rows, columns=["case_id", "patient_id", "reason", "hemorrhage_type", "split"])
    cohort = cohort.assign(included=cohort["reason"].isna(), source="folder", simulated=False)
    for name in tables.SCHEMAS["cohort"].columns:
        cohort[name] = cohort.get(name)
    (tmp_path / "tables").mkdir()
    splits = cohort.loc[cohort["included"], ["case_id", "patient_id", "split"]]
    tables.write(splits, tmp_path / "tables" / "splits.csv")
    tables.write(cohort.drop(columns="split"), tmp_path / "tables" / "cohort.csv")
    left = cohort.loc[~cohort["included"], ["case_id", "reason"]].assign(stage="cohort")
    tables.write(left[["case_id", "stage", "reason"]], tmp_path / "tables" / "exclusions.csv")
    return tmp_path


def test_scans_without_blood_are_those_that_nothing_speaks_against(run):
    assert without_blood(run)["case_id"].tolist() == ["blank", "before the bleed"]


def test_a_scan_counts_once_and_not_as_with_and_without_blood(run):
    cohort = tables.read(run / "tables" / "cohort.csv")
    every = cohort.assign(content="of an empty mask")
    tables.write(every, run / "tables" / "cohort.csv")
    assert len(without_blood(run)) == 2  # masks alone
    tables.write(every.assign(image="scan.nii.gz"), run / "tables" / "cohort.csv")
    assert without_blood(run).empty  # that of the bleed
    every.loc[every["included"], "content"] = "of a bleed"
    tables.write(every.assign(image="scan.nii.gz"), run / "tables" / "cohort.csv")
    assert without_blood(run)["case_id"].tolist() == ["blank"]


def test_a_scan_given_to_training_is_none_to_test_on(run):
    cohort = tables.read(run / "tables" / "cohort.csv")
    cohort["split"] = cohort["case_id"].map({"blank": "train", "before the bleed": "test"})
    tables.write(cohort, run / "tables" / "cohort.csv")
    assert without_blood(run)["case_id"].tolist() == ["before the bleed"]


def test_scans_that_are_counted_are_no_failures(run):
    assert len(failures(run)) == 5
    tables.write_plain(pd.DataFrame({"case_id": ["blank"], "marked_ml": 0.0}), run / "tables" / "without_blood.csv")
    assert "blank" not in failures(run)["case_id"].tolist()
    assert len(failures(run)) == 4


def test_each_reader_is_told_of_with_what_it_lacks():
    test = pd.DataFrame({"case_id": ["a", "b"], "patient_id": ["p", "q"]})
    blank = pd.DataFrame({"case_id": ["c", "d"], "patient_id": ["r", "s"]})
    rows = [
        ("a", "network", 5.0),
        ("b", "network", 0.0),
        ("c", "network", 0.0),
        ("d", "network", 1.5),
        ("a", "second", 4),
    ]
    metrics = pd.DataFrame(rows, columns=["case_id", "reader", "predicted_ml"]).assign(label="blood")
    other = metrics.head(1).assign(label="parenchymal")
    found = by_reader(by_case(test, blank, pd.concat([metrics, other]))).query("marked == 'at all'").set_index("reader")
    names = ["n_missing", "n_with", "n_found", "n_without", "n_false"]
    assert found.loc["network", names].tolist() == [0, 2, 1, 2, 1]
    assert found.loc["second", names].tolist() == [3, 1, 1, 0, 0]
