"""The pictures of the best, the middle and the worst case: which, from which masks, and what is said below them."""

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ich.three_cases import choose, choose_by_volume, draw_three_cases


def test_the_three_cases_are_the_first_the_middle_and_the_last():
    metrics = pd.DataFrame(
        {"case_id": list("abcde"), "label": "blood", "reader": "network", "dice": [0.2, 0.9, 0.5, 0.7, np.nan]}
    )
    found = choose(metrics)
    assert dict(zip(found["rank"], found["case_id"], strict=True)) == {"best": "b", "median": "c", "worst": "a"}
    assert choose(metrics.head(1))["rank"].tolist() == ["worst"]
    assert choose(metrics.head(0)).empty
    measured = pd.DataFrame(
        {"case_id": list("abc"), "hemorrhage_type": None, "reference_ml": [10.0, 10, 10], "abc2_ml": [9.0, 14, 10.5]}
    )
    found = choose_by_volume(measured)
    assert dict(zip(found["rank"], found["case_id"], strict=True)) == {"best": "c", "median": "a", "worst": "b"}


@pytest.fixture
def run(tmp_path):
    """Three boxes of 10 x 10 x 4 voxels of 2 x 2 x 5 mm, of which 4, 3 and 1 slices are found elsewhere."""
    folder = tmp_path / "run"
    for name in ("masks", "found", "run/tables"):
        (tmp_path / name).mkdir(parents=True)
    for case, n in (("a", 4), ("b", 3), ("c", 1)):
        for where, slices in (("masks", 4), ("found", n)):
            mask = np.zeros((40, 40, 8), dtype=np.uint8)
            mask[10:20, 10:20, 2 : 2 + slices] = 1
            nib.save(nib.Nifti1Image(mask, np.diag([-2.0, -2.0, 5.0, 1.0])), tmp_path / where / f"{case}.nii.gz")
    known = pd.DataFrame({"case_id": list("abc"), "patient_id": list("abc"), "hemorrhage_type": "parenchymal"})
    paths = [f"../masks/{case}.nii.gz" for case in "abc"]
    cohort = known.assign(reference_mask=paths, source="made", simulated=True, included=True)
    cohort.to_csv(folder / "tables" / "cohort.csv", index=False)
    measured = known.assign(reference_ml=8.0, abc2_ml=[9.0, 12.0, 10.0])
    measured.to_csv(folder / "tables" / "measurements.csv", index=False)
    # Dice of n of 4 slices is 2 n / (n + 4).
    metrics = known.assign(reader="network", label="blood", dice=[1, 6 / 7, 0.4], reference_ml=8.0, predicted_ml=2.0)
    metrics.to_csv(folder / "tables" / "metrics.csv", index=False)
    return folder


def captions(run):
    return json.loads((run / "figures" / "captions.json").read_text())


def test_masks_made_elsewhere_are_drawn_on_black_where_there_is_no_scan(run):
    assert draw_three_cases(run) == []  # the run has no predictions of its own
    assert draw_three_cases(run, run.parent / "found") == ["best", "median", "worst"]
    said = captions(run)
    assert said["case_best"]["caption"].startswith("Best case: a, parenchymal, Dice 1.00, reference 8.0 ml")
    assert said["case_worst"]["caption"].startswith("Worst case: c, parenchymal, Dice 0.40")
    assert "Slice 3 of 8" in said["case_worst"]["caption"]
    with Image.open(run / "figures" / "case_worst_simulated.png") as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert (run / "figures" / "case_worst_simulated.svg").is_file()


def test_masks_alone_show_a_and_b(run):
    (run / "tables" / "metrics.csv").unlink()
    assert draw_three_cases(run) == ["best", "median", "worst"]
    assert captions(run)["case_worst"]["caption"].startswith("Worst case of ABC/2: b, reference 8.0 ml, ABC/2 12.0 ml")


def test_masks_that_are_gone_or_no_volumes_draw_nothing(run):
    (run / "tables" / "metrics.csv").unlink()
    for path in (run.parent / "masks").iterdir():
        path.unlink()
    assert draw_three_cases(run) == []
    (run / "tables" / "measurements.csv").unlink()
    assert draw_three_cases(run) == []
    assert not (run / "figures").exists()
