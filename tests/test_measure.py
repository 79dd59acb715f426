"""Mask files to tables: however a file is stored it gives one row, and no bad file is lost."""

import gzip
import itertools
import math

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from ich.measure import COLUMNS, evaluate, masks_in, measure_mask, measure_masks, study_tables
from ich.scan import ScanError

AFFINE = np.diag([-0.45, -0.5, 5.0, 1.0])  # stored as I, J, K itself: left, back, head


def lesion():
    """Ellipsoid of 24 x 20 x 30 mm semi-axes off the center, and a speck of one voxel."""
    i, j, k = np.meshgrid(*(np.arange(n) for n in (120, 110, 20)), indexing="ij", sparse=True)
    mask = ((i - 60.3) * 0.45 / 24) ** 2 + ((j - 60.2) * 0.5 / 20) ** 2 + ((k - 8.5) * 5 / 30) ** 2 <= 1
    mask[110, 10, 3] = True
    return mask.astype(np.uint8)


def save(path, mask, affine=AFFINE):
    nib.save(nib.Nifti1Image(mask, affine), path)
    return path


def test_columns_are_those_of_the_design_in_its_order(tmp_path):
    row = measure_mask(save(tmp_path / "001.nii.gz", lesion()))
    assert tuple(row) == COLUMNS
    assert COLUMNS[:12] == (
        "case_id", "volume_ml", "n_components", "largest_component_ml", "a_mm", "b_mm", "c_mm", "abc2_ml",
        "c_kothari_mm", "abc2_kothari_ml", "abc3_ml", "two_thirds_sh_ml",
    )  # fmt: skip
    assert row["case_id"] == "001"
    assert row["n_components"] == 2
    assert row["volume_ml"] == pytest.approx(4 / 3 * math.pi * 24 * 20 * 30 / 1000, rel=0.02)
    assert row["c_mm"] == 60
    assert row["abc2_filtered_ml"] / row["largest_component_ml"] == pytest.approx(3 / math.pi, rel=0.03)
    assert row["notes"] == ""


@pytest.mark.parametrize("codes", list(itertools.product("LR", "AP", "IS")))
def test_axis_order_and_orientation_of_the_file_change_nothing(tmp_path, codes):
    mask = lesion()
    wanted = measure_mask(save(tmp_path / "a.nii.gz", mask))
    for order in itertools.permutations(codes):
        turn = ornt_transform(io_orientation(AFFINE), axcodes2ornt(order))
        turned = nib.orientations.apply_orientation(mask, turn)
        affine = AFFINE @ inv_ornt_aff(turn, mask.shape)
        assert measure_mask(save(tmp_path / "a.nii.gz", turned, affine)) == wanted


def tilted(degrees, table_step):
    """Affine of a stack with gantry tilt: slices follow each other along the table, not their normal."""
    angle = math.radians(degrees)
    affine = np.diag([-0.45, 1.0, 1.0, 1.0])
    affine[:3, 1] = 0, -0.5 * math.cos(angle), -0.5 * math.sin(angle)
    affine[:3, 2] = 0, 0, table_step
    return affine


def test_tilted_stack_is_measured_along_the_slice_normal(tmp_path):
    mask = lesion()
    upright = measure_mask(save(tmp_path / "a.nii.gz", mask))
    row = measure_mask(save(tmp_path / "b.nii.gz", mask, tilted(20, 5 / math.cos(math.radians(20)))))
    assert abs(row["tilt_deg"]) == pytest.approx(20, abs=0.01)
    assert row["slice_spacing_mm"] == pytest.approx(5, abs=1e-4)
    assert row["volume_ml"] == pytest.approx(upright["volume_ml"], rel=1e-5)
    assert row["c_mm"] == pytest.approx(60, abs=1e-3)
    assert row["header_volume_ml"] / row["volume_ml"] == pytest.approx(1 / math.cos(math.radians(20)), rel=1e-4)
    assert "(+6.4 %)" in row["notes"]


def test_labels_together_are_the_lesion(tmp_path):
    mask = lesion()
    labels = mask.copy()
    labels[:, :60][labels[:, :60] > 0] = 2
    assert measure_mask(save(tmp_path / "a.nii", labels)) == measure_mask(save(tmp_path / "a.nii.gz", mask))


def test_what_a_reader_must_know_is_noted(tmp_path):
    empty = measure_mask(save(tmp_path / "empty.nii.gz", np.zeros((8, 8, 4), np.uint8)))
    assert (empty["volume_ml"], empty["abc2_ml"], empty["index_slice"], empty["notes"]) == (
        0,
        0,
        None,
        "mask is empty",
    )
    one_slice = np.zeros((8, 8, 4), np.uint8)
    one_slice[0:3, 2:5, 3] = 1
    notes = measure_mask(save(tmp_path / "one.nii.gz", one_slice))["notes"]
    assert "one slice" in notes
    assert "edge of the field of view" in notes
    assert "first or last slice" in notes


def test_single_slice_file_takes_its_header_spacing(tmp_path):
    mask = np.zeros((8, 8, 1), np.uint8)
    mask[2:6, 2:6] = 1
    assert measure_mask(save(tmp_path / "a.nii.gz", mask))["volume_ml"] == pytest.approx(16 * 0.45 * 0.5 * 5 / 1000)


def test_bad_files_become_failures_and_stop_nothing(tmp_path):
    good = save(tmp_path / "001.nii.gz", lesion())
    unknown = save(tmp_path / "007.nii.gz", lesion() * 7)
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes(good.read_bytes()[:2000])
    text = tmp_path / "text.nii.gz"
    text.write_bytes(gzip.compress(b"not an image"))
    table, failures = measure_masks([unknown, cut, good, text, tmp_path / "absent.nii.gz"])
    assert table["case_id"].tolist() == ["001"]
    assert failures["case_id"].tolist() == ["007", "cut", "text", "absent"]
    assert "7" in failures["reason"][0]
    assert failures["reason"].str.contains(str(tmp_path), regex=False).all()


def test_empty_tables_keep_their_columns(tmp_path):
    table, failures = measure_masks([tmp_path / "absent.nii.gz"])
    assert tuple(table.columns) == COLUMNS
    assert (len(table), len(failures)) == (0, 1)


def test_a_study_of_masks_keeps_every_case_beside_its_own_volume(tmp_path):
    """File names repeat, one file is broken: the cases after it keep their own rows."""
    files = {}
    for n, case in enumerate("abcd", 1):
        (tmp_path / case).mkdir()
        mask = np.zeros((20, 20, 10), np.uint8)
        mask[2 : 2 + n, 2:8, 2:6] = 1
        files[case] = save(tmp_path / case / "mask.nii.gz", mask)
    files["b"].write_bytes(b"not an image")
    rows = [{"case_id": case, "patient_id": f"p{case}", "hemorrhage_type": None, "true_volume_ml": np.nan,
             "reference_mask": f"{case}/mask.nii.gz", "network": f"{case}/mask.nii.gz"} for case in files]  # fmt: skip
    for readers in ({}, {"network": "network"}):
        measured, _, failures = study_tables(pd.DataFrame(rows), tmp_path, readers)
        ratio = measured.set_index("case_id")["reference_ml"] / measured["reference_ml"].iloc[0]
        assert ratio.round(6).to_dict() == {"a": 1, "c": 3, "d": 4}
        assert measured["patient_id"].tolist() == ["pa", "pc", "pd"]
        assert failures["case_id"].tolist() == ["b"]


def test_doubled_case_ids_are_named(tmp_path):
    paths = [save(tmp_path / name, lesion()) for name in ("001.nii", "001.nii.gz", "002.nii")]
    with pytest.raises(ValueError, match=r"doubled: 001 \(.*001\.nii, .*001\.nii\.gz\)"):
        measure_masks(paths)


def test_processes_give_the_table_of_one_process(tmp_path):
    paths = [save(tmp_path / f"{n}.nii.gz", np.roll(lesion(), n, axis=2)) for n in range(3)]
    one, _ = measure_masks(paths)
    two, _ = measure_masks(paths, jobs=2)
    assert one.equals(two)


@pytest.fixture
def folders(tmp_path):
    """References 1 to 5; predictions: 1 moved, no 2, 3 empty, 4 of another shape, 5 broken, a stray 6."""
    reference, prediction = tmp_path / "reference", tmp_path / "prediction"
    reference.mkdir()
    prediction.mkdir()
    mask = lesion()
    for case in "12345":
        save(reference / f"{case}.nii.gz", mask)
    save(
        prediction / "1.nii.gz",
        np.roll(mask, 1, axis=0)[::-1],
        AFFINE @ inv_ornt_aff([[0, -1], [1, 1], [2, 1]], mask.shape),
    )
    save(prediction / "3.nii.gz", mask * 0)
    save(prediction / "4.nii.gz", mask[:-1])
    (prediction / "5.nii.gz").write_bytes(b"broken")
    save(prediction / "6.nii.gz", mask)
    return reference, prediction


def test_every_reference_has_a_row_and_every_problem_a_reason(folders):
    evaluation = evaluate(*map(masks_in, folders))
    cases = evaluation.cases.set_index("case_id")
    assert cases["status"].to_dict() == {
        "1": "measured", "2": "prediction missing", "3": "measured", "4": "failed", "5": "failed",
    }  # fmt: skip
    assert cases["reference_ml"].notna().all()
    assert cases["abc2_ml"].notna().all()
    assert cases["predicted_ml"].isna().tolist() == [False, True, False, True, True]
    reasons = evaluation.failures.set_index("case_id")["reason"]
    assert list(reasons.index) == ["2", "4", "5", "6"]
    assert "no 2.nii.gz" in reasons["2"]
    assert "(119, 110, 20)" in reasons["4"]
    assert reasons["6"] == "prediction without a reference"


def test_prediction_is_compared_where_it_lies_not_how_it_is_stored(folders):
    metrics = evaluate(*map(masks_in, folders)).metrics.set_index(["case_id", "label"])
    assert list(metrics.index) == [("1", "blood"), ("3", "blood")]
    assert metrics.loc[("1", "blood"), "hd_voxel_mm"] == pytest.approx(0.45)
    assert metrics.loc[("1", "blood"), "n_missed"] == 1  # the speck
    assert metrics.loc[("3", "blood"), "missed"]
    assert metrics.loc[("3", "blood"), "hd95_mm"] == math.inf


def test_labels_above_one_give_rows_by_label(tmp_path):
    mask = lesion()
    mask[:, 60:][mask[:, 60:] > 0] = 2
    for name in ("reference", "prediction"):
        (tmp_path / name).mkdir()
        save(tmp_path / name / "a.nii.gz", mask)
    metrics = evaluate(masks_in(tmp_path / "reference"), masks_in(tmp_path / "prediction")).metrics
    assert metrics["label"].tolist() == ["blood", "parenchymal", "ventricular"]
    assert (metrics["dice"] == 1).all()


def test_folder_without_masks_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"holds no \.nii"):
        masks_in(tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        masks_in(tmp_path / "absent")


def test_unreadable_mask_is_a_scan_error(tmp_path):
    with pytest.raises(ScanError, match="absent"):
        measure_mask(tmp_path / "absent.nii.gz")


def test_real_masks_are_all_measured_and_headers_are_not_believed(shared_data):
    paths = sorted((shared_data / "masks" / "hemseg").glob("*.nii.gz"))[::8]
    table, failures = measure_masks(paths)
    assert failures.empty
    assert (table["volume_ml"] > 0).all()
    # The folder's README: a volume from the header alone is up to 15.5 % too large.
    assert (table["header_volume_ml"] / table["volume_ml"]).between(0.995, 1.155).all()
    assert (table["largest_component_ml"] <= table["volume_ml"] * (1 + 1e-12)).all()


def test_outline_with_a_hole_says_how_much_is_left_out(tmp_path):
    mask = np.zeros((20, 20, 6), np.uint8)
    mask[4:14, 4:14, 2:4] = 1
    mask[8:12, 8:12, 2] = 0
    row = measure_mask(save(tmp_path / "ring.nii.gz", mask))
    assert "encloses 0.02 ml that is not outlined" in row["notes"]  # 16 pixels of 0.45 x 0.5 x 5 mm
    assert row["volume_ml"] == pytest.approx((200 - 16) * 0.45 * 0.5 * 5 / 1000)


def test_reasons_name_files_without_their_folders(tmp_path):
    for name in ("given", "Doe^Jane"):
        (tmp_path / name).mkdir()
    save(tmp_path / "given" / "a.nii.gz", lesion())
    (tmp_path / "Doe^Jane" / "a.nii.gz").write_bytes(b"no mask")
    failures = evaluate(masks_in(tmp_path / "given"), masks_in(tmp_path / "Doe^Jane"), jobs=1).failures
    assert failures["reason"].iloc[0].startswith("prediction: a.nii.gz: ")
    assert "Jane" not in failures.to_string()


def test_endings_in_capitals_are_masks_too(tmp_path):
    save(tmp_path / "a.nii.gz", np.ones((4, 4, 4), np.uint8))
    (tmp_path / "a.nii.gz").rename(tmp_path / "a.NII.GZ")
    (tmp_path / "._b.nii.gz").write_bytes(b"macOS")
    assert masks_in(tmp_path) == {"a": tmp_path / "a.NII.GZ"}


def test_masks_of_segmented_scans_have_the_names_of_the_scans(tmp_path):
    for name in ("case-001", "case-003"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mask.nii.gz").touch()
    key = "case,scan\ncase-001,scans/a.nii.gz\ncase-002,scans/failed.nii.gz\ncase-003,scans/dicom folder\n"
    (tmp_path / "key.csv").write_text(key)
    found = {"a": tmp_path / "case-001" / "mask.nii.gz", "dicom folder": tmp_path / "case-003" / "mask.nii.gz"}
    assert masks_in(tmp_path) == found
    (tmp_path / "key.csv").write_text(key + "case-004,others/a.nii\n")
    with pytest.raises(ValueError, match=r"two scans of key\.csv are named a"):
        masks_in(tmp_path)
    (tmp_path / "key.csv").write_text("case,scan\ncase-002,scans/failed.nii.gz\n")
    with pytest.raises(ValueError, match=r"none of the 1 scans of key\.csv has a mask"):
        masks_in(tmp_path)
    (tmp_path / "key.csv").write_text("case,name\n1,a\n")
    with pytest.raises(ValueError, match=r"a key\.csv that `ich segment` did not write"):
        masks_in(tmp_path)


def test_a_speck_that_stretches_abc2_is_told(tmp_path):
    """On the slice of the largest area, far from a ball: A reaches from one to the other."""
    mask = lesion()
    mask[110, 10, 3] = 0
    assert "stretch" not in measure_mask(save(tmp_path / "a.nii.gz", mask))["notes"]
    assert (
        "stretch"
        not in measure_mask(save(tmp_path / "c.nii.gz", mask * (mask.cumsum() <= 4).reshape(mask.shape)))["notes"]
    )  # nothing but small parts
    k = int(mask.sum(axis=(0, 1)).argmax())
    mask[2:4, 2:4, k] = 1
    row = measure_mask(save(tmp_path / "b.nii.gz", mask))
    assert row["abc2_ml"] > 1.1 * row["abc2_filtered_ml"]
    assert f"small parts stretch ABC/2: {row['abc2_filtered_ml']:.1f} ml without them" in row["notes"]
