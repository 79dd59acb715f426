"""A cohort is checked case by case, and patients never stand in two splits."""

import nibabel
import numpy as np
import pandas as pd
import pytest

from ich import cohort, tables
from ich.comparison import volume_group

SHARES = {"train": 905, "validation": 156, "test": 162}  # Wang et al. 2019


def write_nifti(path, array, spacing=(0.5, 0.5, 5.0)):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([*spacing, 1.0])), path)


def ball(shape=(40, 40, 8), value=1):
    mask = np.zeros(shape, np.uint8)
    mask[10:20, 10:20, 2:6] = value  # 10 x 10 x 4 voxels of 1.25 mm3: 0.5 ml
    return mask


@pytest.fixture
def folders(tmp_path):
    """Five cases: one good, and one of each thing that goes wrong."""
    masks, images = tmp_path / "masks", tmp_path / "images"
    for name in ("good", "shape", "empty", "corrupt", "noimage"):
        write_nifti(masks / f"{name}.nii.gz", ball() if name != "empty" else ball(value=0))
        if name != "noimage":
            size = (32, 40, 8) if name == "shape" else (40, 40, 8)
            write_nifti(images / f"{name}.nii.gz", np.zeros(size, np.int16))
    data = (images / "corrupt.nii.gz").read_bytes()
    (images / "corrupt.nii.gz").write_bytes(data[: len(data) // 2])
    return masks, images, tmp_path


def test_one_bad_scan_becomes_a_named_exclusion(folders):
    masks, images, run = folders
    table = cohort.build(cohort.from_folders(masks, images, run), run, need_image=True, jobs=1)
    reasons = table.set_index("case_id")["reason"]
    assert table.set_index("case_id")["included"].to_dict() == {
        "good": True, "shape": False, "empty": False, "corrupt": False, "noimage": False,
    }  # fmt: skip
    assert "(32, 40, 8)" in reasons["shape"]
    assert "(40, 40, 8)" in reasons["shape"]
    assert reasons["empty"] == "the reference mask is empty"
    assert "corrupt.nii.gz" in reasons["corrupt"]
    assert str(run) not in reasons["corrupt"]
    assert "no scan was found" in reasons["noimage"]
    assert set(cohort.exclusions(table)["case_id"]) == {"shape", "empty", "corrupt", "noimage"}
    tables.write(table, run / "tables" / "cohort.csv")


def test_masks_alone_need_no_images(folders):
    masks, _, run = folders
    table = cohort.build(cohort.from_folders(masks, None, run), run, need_image=False, jobs=1)
    good = table.set_index("case_id").loc["good"]
    assert good["reference_volume_ml"] == pytest.approx(0.5)  # 400 voxels of 0.5 x 0.5 x 5 mm
    assert table["included"].sum() == 4  # all but the empty one


def test_patient_ids_are_replaced(folders):
    masks, _, run = folders
    pd.DataFrame(
        {"scan_id": ["good", "shape", "empty", "corrupt", "noimage"], "patient_id": ["Jane", "Jane", "B", "C", "D"]}
    ).to_csv(masks / "scans.csv", index=False)
    table = cohort.build(cohort.from_folders(masks, None, run), run, need_image=False, jobs=1)
    ids = table.set_index("case_id")["patient_id"]
    assert ids["good"] == ids["shape"]
    assert ids.nunique() == 4
    assert not table.astype(str).apply(lambda column: column.str.contains("Jane")).any(axis=None)


def test_mask_missing_from_the_list_is_named(folders):
    masks, _, run = folders
    pd.DataFrame({"case_id": ["good"], "patient_id": ["1"]}).to_csv(masks / "scans.csv", index=False)
    with pytest.raises(ValueError, match=r"4 masks are not listed.*corrupt"):
        cohort.from_folders(masks, None, run)


def test_manifest_names_case_and_allowed_values(tmp_path):
    path = tmp_path / "cases.csv"
    path.write_text("case_id,reference_mask,hemorrhage_type\n001,a.nii.gz,parenchymal\n002,b.nii.gz,epidural\n")
    with pytest.raises(ValueError, match=r"case 002: hemorrhage_type is 'epidural'.*subarachnoid"):
        cohort.from_manifest(path, tmp_path)


def test_manifest_names_a_doubled_case(tmp_path):
    path = tmp_path / "cases.csv"
    path.write_text("case_id,reference_mask\n001,a.nii.gz\n001,b.nii.gz\n")
    with pytest.raises(ValueError, match="case 001 is listed more than once"):
        cohort.from_manifest(path, tmp_path)


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
    splits = cohort.split(cases, SHARES, seed=1)
    assert len(splits) == 1223
    assert splits.groupby("patient_id")["split"].nunique().max() == 1
    for name, wanted in SHARES.items():
        assert abs((splits["split"] == name).sum() - wanted) <= 3  # a patient of three scans cannot be divided


def test_split_is_stratified_by_type_and_volume_group():
    cases = made_up()
    cases["group"] = volume_group(cases["reference_volume_ml"]).astype(str)
    joined = cases.merge(cohort.split(cases, SHARES, seed=1)[["case_id", "split"]], on="case_id")
    overall = joined.groupby(["hemorrhage_type", "group"]).size() / len(joined)
    test = joined[joined["split"] == "test"]
    share = test.groupby(["hemorrhage_type", "group"]).size() / len(test)
    assert (share - overall).abs().max() < 0.02  # three of 162 cases


def test_split_depends_on_the_seed_alone():
    cases = made_up(100)
    first = cohort.split(cases, SHARES, seed=1)
    pd.testing.assert_frame_equal(first, cohort.split(cases, SHARES, seed=1))
    assert not first.equals(cohort.split(cases, SHARES, seed=2))


def test_patient_in_two_given_splits_is_named():
    cases = made_up(6).assign(patient_id="p1", split=["train"] * 5 + ["test"])
    with pytest.raises(ValueError, match=r"patient p1 stands in more than one split.*0005 in test"):
        cohort.split(cases, SHARES, seed=1)


def test_258_real_masks(shared_data, tmp_path):
    sources = cohort.from_folders(shared_data / "masks" / "hemseg", None, tmp_path)
    table = tables.write(cohort.build(sources, tmp_path, need_image=False, jobs=2), tmp_path / "tables" / "cohort.csv")
    assert len(table) == 258
    assert table["included"].all()
    # The list tells the patient of each scan, so that splits and intervals go by patient.
    assert table["patient_id"].nunique() == pd.read_csv(shared_data / "masks/hemseg/scans.csv")["patient_id"].nunique()
