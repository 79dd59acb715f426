"""What is said of labels and lesions, against counts made by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from ich.by_label import lesions_found, misses_and_false_alarms, overlap_by_label, own_label_ml, typed, volumes_of
from ich.overlap import overlap_by_label as measured

SPACING, POSITIONS = (1.0, 1.0), np.arange(4) * 5.0  # voxels of 5 microliters


def case(name, patient, reference, predicted):
    return [
        row | {"case_id": name, "patient_id": patient, "reader": "network"}
        for row in measured(reference, predicted, SPACING, POSITIONS)
    ]


@pytest.fixture
def metrics():
    """Four cases: a lesion found, one missed with blood of another label marked, two without that label."""
    empty = np.zeros((40, 40, 4), dtype=np.uint8)
    large, small, subarachnoid = empty.copy(), empty.copy(), empty.copy()
    large[5:25, 5:25, 1:3] = 1  # 800 voxels, 4 ml
    small[30:33, 30:33, 1] = 1  # 9 voxels, 0.045 ml
    subarachnoid[1:5, 36:40, 2] = 3  # 16 voxels, 0.08 ml
    both = np.maximum(large, small)
    rows = case("a", "p1", large, large) + case("b", "p2", large, subarachnoid)
    rows += case("c", "p3", both, np.maximum(large, subarachnoid)) + case("d", "p4", subarachnoid, subarachnoid)
    return pd.DataFrame(rows)


def test_misses_and_false_alarms_are_counted(metrics):
    found = misses_and_false_alarms(metrics).set_index("label")
    assert found.index.tolist() == ["blood", "parenchymal", "subarachnoid"]
    assert found.loc["parenchymal", ["n_with", "n_missed", "n_without", "n_false"]].tolist() == [3, 1, 1, 0]
    assert found.loc["parenchymal", "missed_max_ml"] == pytest.approx(4)
    row = found.loc["subarachnoid"]
    assert row[["n_with", "n_missed", "n_without", "n_false"]].tolist() == [1, 0, 3, 2]
    known = binomtest(2, 3).proportion_ci(method="wilson")
    assert (row["false_share_ci_low"], row["false_share_ci_high"]) == pytest.approx(tuple(known))
    assert (row["false_median_ml"], row["false_max_ml"]) == pytest.approx((0.08, 0.08))


def test_blood_of_one_label_is_counted_by_case(metrics):
    found = own_label_ml(metrics, "network", "parenchymal")
    assert found.to_dict() == pytest.approx({"a": 4, "b": 0, "c": 4, "d": 0})
    binary = metrics[metrics["label"].isin(["blood", "parenchymal"])]
    assert own_label_ml(binary, "network", "parenchymal").empty


def test_a_missed_label_counts_as_no_overlap(metrics):
    row = overlap_by_label(metrics).set_index("label").loc["parenchymal"]
    low, middle, high = np.percentile([1, 0, 2 * 800 / 1609], [25, 50, 75])
    assert row[["n", "dice_q1", "dice_median", "dice_q3"]].tolist() == pytest.approx([3, low, middle, high])


def test_lesions_are_found_by_volume(metrics):
    found = lesions_found(metrics).set_index("volume_ml")
    assert found.loc["1-5", ["n", "n_found", "n_false"]].tolist() == [3, 2, 0]
    assert found.loc["0-0.1", ["n", "n_found", "n_false"]].tolist() == [2, 1, 2]
    assert found.loc[">25", "n"] == 0
    assert np.isnan(found.loc[">25", "found_share"])
    assert found.loc["1-5", "found_share_ci_low"] == pytest.approx(binomtest(2, 3).proportion_ci(method="wilson").low)


def test_binary_masks_miss_no_type(metrics):
    binary = metrics.assign(reader="binary")
    binary.loc[binary["label"] == "subarachnoid", "predicted_ml"] = 0.0
    found = typed(pd.concat([metrics, binary]))
    assert set(found.loc[found["reader"] == "binary", "label"]) == {"blood"}
    assert set(found.loc[found["reader"] == "network", "label"]) == {"blood", "parenchymal", "subarachnoid"}
    told = typed(pd.concat([metrics, binary]), ["binary"])
    assert set(told.loc[told["reader"] == "binary", "label"]) == {"blood", "parenchymal", "subarachnoid"}
    untyped = metrics[metrics["label"] != "subarachnoid"]
    assert set(typed(untyped)["label"]) == {"blood"}


def test_volumes_of_a_label_are_of_the_cases_whose_reference_has_it(metrics):
    about = metrics.assign(hemorrhage_type="mixed")
    second = about[about["case_id"] != "b"].assign(reader="second_reader", predicted_ml=1.0)
    found = volumes_of(pd.concat([about, second]), "parenchymal").set_index("case_id")
    assert found.index.tolist() == ["a", "b", "c"]  # the reference of d has none
    assert found["reference_ml"].to_dict() == pytest.approx({"a": 4, "b": 4, "c": 4.045})
    assert found["network_ml"].to_dict() == pytest.approx({"a": 4, "b": 0, "c": 4})
    assert found["second_reader_ml"].isna().to_dict() == {"a": False, "b": True, "c": False}
