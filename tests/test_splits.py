"""Patients and images never stand in two splits, whatever the rule."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ich import splits, tables
from ich.comparison import volume_group

DEMO = Path(__file__).resolve().parents[1] / "reports" / "demo" / "tables"
SHARES = {"train": 905, "validation": 156, "test": 162}  # Wang et al. 2019


def made_up(n=1223, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "case_id": [f"{i:04d}" for i in range(n)],
            "patient_id": [f"p{i // 3 if i < 90 else i:04d}" for i in range(n)],
            "hemorrhage_type": rng.choice(["parenchymal", "ventricular", "mixed"], n, p=[0.6, 0.2, 0.2]),
            "reference_volume_ml": rng.lognormal(2.5, 1.2, n),
            "included": True,
        }
    )


def test_split_has_the_papers_sizes_and_keeps_patients_whole():
    cases = made_up()
    found = splits.assign(cases, SHARES, seed=1)
    assert len(found) == 1223
    assert found.groupby("patient_id")["split"].nunique().max() == 1
    for name, wanted in SHARES.items():
        assert abs((found["split"] == name).sum() - wanted) <= 3  # a patient of three scans cannot be divided


def test_split_is_stratified_by_type_and_volume_group():
    cases = made_up()
    cases["group"] = volume_group(cases["reference_volume_ml"]).astype(str)
    joined = cases.merge(splits.assign(cases, SHARES, seed=1)[["case_id", "split"]], on="case_id")
    overall = joined.groupby(["hemorrhage_type", "group"]).size() / len(joined)
    test = joined[joined["split"] == "test"]
    share = test.groupby(["hemorrhage_type", "group"]).size() / len(test)
    assert (share - overall).abs().max() < 0.02  # three of 162 cases


def test_split_depends_on_the_seed_alone():
    cases = made_up(100)
    first = splits.assign(cases, SHARES, seed=1)
    pd.testing.assert_frame_equal(first, splits.assign(cases, SHARES, seed=1))
    assert not first.equals(splits.assign(cases, SHARES, seed=2))


def test_patient_in_two_given_splits_is_named():
    cases = made_up(6).assign(patient_id="p1", split=["train"] * 5 + ["test"])
    with pytest.raises(ValueError, match=r"patient p1 stands in more than one split.*0005 in test"):
        splits.assign(cases, SHARES, seed=1)


def test_dates_put_the_earliest_patients_into_training():
    cases = made_up(300).assign(scan_date=[f"20{10 + i // 30}-0{1 + i % 9}-01" for i in range(300)])
    found = splits.assign(cases, SHARES, seed=1, rule="date").merge(cases[["case_id", "scan_date"]], on="case_id")
    first = found.groupby("patient_id").agg(split=("split", "first"), date=("scan_date", "min"))
    latest, earliest = first.groupby("split")["date"].max(), first.groupby("split")["date"].min()
    assert latest["train"] <= earliest["validation"]
    assert latest["validation"] <= earliest["test"]
    assert (found["split"] == "test").mean() == pytest.approx(162 / 1223, abs=0.01)
    one = cases.assign(scan_date=cases["scan_date"].where(cases["case_id"] != "0007"))
    with pytest.raises(ValueError, match=r"case 0007 has no scan_date \(1 cases lack one\)"):
        splits.assign(one, SHARES, seed=1, rule="date")
    with pytest.raises(ValueError, match=r"case 0000 has no scan_date \(300 cases lack one\)"):
        splits.assign(cases.drop(columns="scan_date"), SHARES, seed=1, rule="date")
    with pytest.raises(ValueError, match=r"case 0000 has no scan_date \(300 cases lack one\)"):
        splits.assign(cases.assign(scan_date=None), SHARES, seed=1, rule="date")


def test_sites_named_are_the_test_split_with_whole_patients():
    cases = made_up(300).assign(site=["A", "B", "C"] * 100)
    found = splits.assign(cases, SHARES, seed=1, rule="site", test_sites=("B",))
    joined = found.merge(cases[["case_id", "site"]], on="case_id")
    assert set(joined.loc[joined["site"] == "B", "split"]) == {"test"}
    # Patients 0 to 29 have a scan at every site and go to the test split whole.
    elsewhere = joined[(joined["split"] == "test") & (joined["site"] != "B")]
    assert set(elsewhere["patient_id"]) == {f"p{n:04d}" for n in range(30)}
    for sites in (("D",), ("A", "B", "C"), ()):
        with pytest.raises(ValueError, match=r"test sites .*: wanted some, not all, of A, B, C"):
            splits.assign(cases, SHARES, seed=1, rule="site", test_sites=sites)


def test_folds_test_every_case_once():
    cases = made_up(250)
    tested = []
    for fold in range(5):
        found = splits.assign(cases, SHARES, seed=1, rule="folds", folds=5, fold=fold)
        assert found.groupby("patient_id")["split"].nunique().max() == 1
        assert set(found["split"]) == {"train", "validation", "test"}
        tested += list(found.loc[found["split"] == "test", "case_id"])
    assert sorted(tested) == sorted(cases["case_id"])
    for folds, fold in ((5, 5), (5, -1), (1, 0), (251, 0)):
        with pytest.raises(ValueError, match=f"fold {fold} of {folds}"):
            splits.assign(cases, SHARES, seed=1, rule="folds", folds=folds, fold=fold)


@pytest.mark.parametrize("shares", [{"train": -1, "test": 2}, {"train": 0, "validation": 0, "test": 0}])
def test_shares_that_no_split_can_have(shares):
    with pytest.raises(ValueError, match="wanted positive numbers"):
        splits.assign(made_up(20), shares, seed=1)


def test_a_fold_needs_a_share_for_the_rest():
    with pytest.raises(ValueError, match="shares of train and validation are zero"):
        splits.assign(made_up(20), {"train": 0, "validation": 0, "test": 1}, seed=1, rule="folds")
    found = splits.assign(made_up(20), {"train": 0.5, "validation": 0.1, "test": 0}, seed=1, rule="folds")
    assert set(found["split"]) == {"train", "validation", "test"}


def test_one_image_under_two_patients_cannot_be_trained_on_and_tested():
    cases = made_up(6).assign(
        patient_id=list("abcdef"), split=["train"] * 5 + ["test"], content=["1", "2", "3", "4", "5", "2"]
    )
    with pytest.raises(ValueError, match=r"one image \(content 2\) stands in more than one split: 0001 in train, 0005"):
        splits.assign(cases, SHARES, seed=1)


def test_rules_are_named():
    with pytest.raises(ValueError, match="split rule 'random': wanted one of stratified"):
        splits.assign(made_up(9), SHARES, seed=1, rule="random")
    with pytest.raises(ValueError, match="has no column split"):
        splits.assign(made_up(9), SHARES, seed=1, rule="given")


def test_splits_that_the_data_give_are_kept_and_no_other_rule_is_claimed():
    cases = made_up(6).assign(patient_id=list("abcdef"), split=["train"] * 4 + ["test"] * 2, scan_date="2020-01-01")
    for rule in ("stratified", "given"):  # the first is the default, which nobody asked for
        assert splits.assign(cases, SHARES, seed=1, rule=rule)["split"].tolist() == ["train"] * 4 + ["test"] * 2
        assert splits.rule_of(cases, rule) == "given"
    with pytest.raises(ValueError, match="split rule 'date': the data give the splits already"):
        splits.assign(cases, SHARES, seed=1, rule="date")
    assert splits.rule_of(cases.assign(split=None), "date") == "date"


def test_an_empty_split_says_what_was_excluded(tmp_path):
    cases = tables.read(DEMO / "cohort.csv").head(4)
    cases = cases.assign(
        included=[True, False, False, False], reason=[None, "mask is empty", "mask is empty", "doubled"]
    )
    tables.write(cases, tmp_path / "tables" / "cohort.csv")
    only = cases[:1][["case_id", "patient_id"]].assign(split="test")
    tables.write(only, tmp_path / "tables" / "splits.csv")
    with pytest.raises(ValueError, match=r"'train' has no case: .*3 cases were excluded, 2 as 'mask is empty'"):
        splits.open_split(tmp_path, "train")
