"""A cohort is checked case by case."""

import nibabel
import numpy as np
import pandas as pd
import pytest
from made_dicom import write_series

from ich import cohort, own_cases, tables
from ich.quality import QualityLimits
from ich.scan import read_mask, read_scan


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
    for number, name in enumerate(("good", "shape", "empty", "corrupt", "noimage")):
        mask = np.roll(ball(value=int(name != "empty")), number, axis=0)  # the same mask twice would be one case
        write_nifti(masks / f"{name}.nii.gz", mask)
        if name != "noimage":
            size = (32, 40, 8) if name == "shape" else (40, 40, 8)
            write_nifti(images / f"{name}.nii.gz", np.zeros(size, np.int16))
    data = (images / "corrupt.nii.gz").read_bytes()
    (images / "corrupt.nii.gz").write_bytes(data[: len(data) // 2])
    return masks, images, tmp_path


def test_one_bad_scan_becomes_a_named_exclusion(folders):
    masks, images, run = folders
    table = cohort.build(own_cases.from_folders(masks, images, run), run, need_image=True, jobs=1, excluding=())
    reasons = table.set_index("case_id")["reason"]
    assert table.set_index("case_id")["included"].to_dict() == {
        "good": True, "shape": False, "empty": False, "corrupt": False, "noimage": False,
    }  # fmt: skip
    assert "(32, 40, 8)" in reasons["shape"]
    assert "(40, 40, 8)" in reasons["shape"]
    assert reasons["empty"] == "the reference mask is empty"
    assert reasons["corrupt"].startswith("the scan: truncated")
    assert str(run) not in reasons["corrupt"]
    assert "no scan was found" in reasons["noimage"]
    assert set(cohort.exclusions(table)["case_id"]) == {"shape", "empty", "corrupt", "noimage"}
    tables.write(table, run / "tables" / "cohort.csv")


def test_scans_and_rows_without_a_mask_are_cases_that_are_left_out(folders):
    masks, images, run = folders
    write_nifti(images / "nomask.nii.gz", np.zeros((40, 40, 8), np.int16))
    (images / "dicomfolder").mkdir()
    names = ["good", "shape", "empty", "corrupt", "noimage", "nomask", "onlylisted"]
    pd.DataFrame({"case_id": names, "patient_id": names}).to_csv(masks / "scans.csv", index=False)
    table = cohort.build(own_cases.from_folders(masks, images, run), run, need_image=True, jobs=1, excluding=())
    reasons = table.set_index("case_id")["reason"]
    without = ["nomask", "dicomfolder", "onlylisted"]
    assert reasons[without].tolist() == ["no reference mask was found"] * 3
    assert len(table) == 8
    assert table["patient_id"].nunique() == 8
    tables.write(table, run / "tables" / "cohort.csv")


def test_channels_of_nnunet_are_no_cases_of_their_own(tmp_path):
    masks, images = tmp_path / "masks", tmp_path / "images"
    write_nifti(masks / "a.nii.gz", ball())
    for name in ("a_0000", "a_0001", "b_0000", "b_0001"):
        write_nifti(images / f"{name}.nii.gz", np.zeros((40, 40, 8), np.int16))
    found = own_cases.from_folders(masks, images, tmp_path).set_index("case_id")
    assert found["image"].to_dict() == {"a": "images/a_0000.nii.gz", "b": "images/b_0000.nii.gz"}


def test_scans_that_are_numbered_are_each_a_case(tmp_path):
    masks, images = tmp_path / "masks", tmp_path / "images"
    write_nifti(masks / "scan_0001.nii.gz", ball())
    for number in range(3):
        write_nifti(images / f"scan_000{number}.nii.gz", np.zeros((40, 40, 8), np.int16))
    found = own_cases.from_folders(masks, images, tmp_path)
    assert sorted(found["case_id"]) == ["scan_0000", "scan_0001", "scan_0002"]


@pytest.mark.parametrize("folder", ["masks", "images"])
def test_one_name_twice_is_refused(folders, folder):
    masks, images, run = folders
    write_nifti(run / folder / "good.nii", ball())
    with pytest.raises(ValueError, match=f"{folder}: good is there as .nii and as .nii.gz, wanted one of them"):
        own_cases.from_folders(masks, images, run)


def test_files_of_macos_are_no_cases_and_capitals_are_read(tmp_path):
    masks, images = tmp_path / "masks", tmp_path / "images"
    for folder, content in ((masks, ball()), (images, np.zeros((40, 40, 8), np.int16))):
        write_nifti(folder / "a.nii.gz", content)
        (folder / "a.nii.gz").rename(folder / "a.NII.GZ")
        (folder / "._a.nii.gz").write_bytes(b"macOS")
    sources = own_cases.from_folders(masks, images, tmp_path)
    table = cohort.build(sources, tmp_path, need_image=True, jobs=1, excluding=())
    assert table[["case_id", "included", "reason"]].to_numpy().tolist() == [["a", True, None]]
    assert table["reference_volume_ml"].item() == pytest.approx(0.5)


def test_masks_alone_need_no_images(folders):
    masks, _, run = folders
    table = cohort.build(own_cases.from_folders(masks, None, run), run, need_image=False, jobs=1)
    good = table.set_index("case_id").loc["good"]
    assert good["reference_volume_ml"] == pytest.approx(0.5)  # 400 voxels of 0.5 x 0.5 x 5 mm
    assert table["included"].sum() == 4  # all but the empty one


def test_patient_ids_are_replaced(folders):
    masks, _, run = folders
    pd.DataFrame(
        {"scan_id": ["good", "shape", "empty", "corrupt", "noimage"], "patient_id": ["Jane", "Jane", "B", "C", "D"]}
    ).to_csv(masks / "scans.csv", index=False)
    table = cohort.build(own_cases.from_folders(masks, None, run), run, need_image=False, jobs=1)
    ids = table.set_index("case_id")["patient_id"]
    assert ids["good"] == ids["shape"]
    assert ids.nunique() == 4
    assert not table.astype(str).apply(lambda column: column.str.contains("Jane")).any(axis=None)


LISTED = {
    "site": "A", "age": "71", "sex": "F", "split": "test", "shape": "round", "scan_date": "2020-02-03",
    "Name": "Jane Doe", "date_of_birth": "1949-01-02", "reason": "drowsy", "n_slices": "99",
}  # fmt: skip


@pytest.mark.parametrize("given", ["beside the masks", "about", "manifest"])
def test_columns_of_a_table_of_cases_are_kept_or_told(folders, given):
    masks, _, run = folders
    write_nifti(run / "second" / "good.nii.gz", ball())
    names = ["good", "shape", "empty", "corrupt", "noimage"]
    table = pd.DataFrame({"case_id": names, "patient_id": names, **LISTED})
    table["second_mask"] = ["../second/good.nii.gz", *[None] * 4]  # from the folder of the table
    path = masks / ("scans.csv" if given == "beside the masks" else "cases.csv")
    if given == "manifest":
        table["reference_mask"] = [f"{name}.nii.gz" for name in names]
    table.to_csv(path, index=False)
    if given == "manifest":
        sources = own_cases.from_manifest(path, run)
    else:
        sources = own_cases.from_folders(masks, None, run, path if given == "about" else None)
    built = cohort.build(sources, run, need_image=False, jobs=1)
    found = built.set_index("case_id")
    for column in ("site", "age", "sex", "split", "shape", "scan_date"):
        assert found[column].tolist() == [LISTED[column]] * 5
    assert found["second_mask"].dropna().to_dict() == {"good": "second/good.nii.gz"}
    assert found["n_slices"].tolist() == [8] * 5  # as stored above
    assert found["included"].sum() == 4  # all but the empty mask, whatever the column `reason` says
    assert not found.astype(str).apply(lambda column: column.str.contains("Jane|1949|drowsy")).any(axis=None)
    assert built.attrs["notes"] == [
        f"{path.name}: columns left out, as they may tell who a patient is: Name, date_of_birth",
        f"{path.name}: columns left out, as the study finds out by itself: reason",
        "columns left out, as they are measured here: n_slices",
    ]
    tables.write(built, run / "tables" / "cohort.csv")


def test_a_stated_value_never_stands_for_one_that_could_not_be_measured(tmp_path):
    (tmp_path / "cases.csv").write_text("case_id,reference_mask,tilt_deg\na,a.nii.gz,17\nb,b.nii.gz,17\n")
    write_nifti(tmp_path / "a.nii.gz", ball())
    table = cohort.build(own_cases.from_manifest(tmp_path / "cases.csv", tmp_path), tmp_path, False, 1)
    assert table["tilt_deg"].fillna(-1).tolist() == [0, -1]  # slices at a right angle; b is not there


def test_mask_missing_from_the_list_is_named(folders):
    masks, _, run = folders
    pd.DataFrame({"case_id": ["good"], "patient_id": ["1"]}).to_csv(masks / "scans.csv", index=False)
    with pytest.raises(ValueError, match=r"4 masks are not listed.*corrupt"):
        own_cases.from_folders(masks, None, run)


def test_manifest_names_case_and_allowed_values(tmp_path):
    path = tmp_path / "cases.csv"
    path.write_text("case_id,reference_mask,hemorrhage_type\n001,a.nii.gz,parenchymal\n002,b.nii.gz,epidural\n")
    with pytest.raises(ValueError, match=r"case 002: hemorrhage_type is 'epidural'.*subarachnoid"):
        own_cases.from_manifest(path, tmp_path)


def test_manifest_names_a_doubled_case(tmp_path):
    path = tmp_path / "cases.csv"
    path.write_text("case_id,reference_mask\n001,a.nii.gz\n001,b.nii.gz\n")
    with pytest.raises(ValueError, match="case 001 is listed more than once"):
        own_cases.from_manifest(path, tmp_path)


def test_the_same_pixels_count_once(folders):
    masks, images, run = folders
    (masks / "again.nii.gz").write_bytes((masks / "good.nii.gz").read_bytes())
    # Another file around the same pixels: compressed anew, with another header text.
    again = nibabel.load(images / "good.nii.gz")
    again.header["descrip"] = b"exported again"
    nibabel.save(again, images / "again.nii.gz")
    table = cohort.build(own_cases.from_folders(masks, images, run), run, need_image=True, jobs=1, excluding=())
    reasons = table.set_index("case_id")["reason"]
    assert pd.isna(reasons["again"])
    assert reasons["good"] == "the same pixels as case again"


def test_a_mask_with_one_slice_distance_is_measured_on_the_slices_of_its_scan(tmp_path):
    """Ten slices 4 mm, then ten 7 mm apart; the mask's affine can only say 5.4 mm, and blood lies among the first."""
    z = np.r_[np.arange(10) * 4.0, 36 + 7.0 * np.arange(1, 11)]
    hu = np.random.default_rng(1).normal(30, 5, (64, 64, 20)).astype(np.int16)
    write_series(tmp_path / "scan", z, hu, PixelSpacing=[2.0, 2.0])
    grid = read_scan(tmp_path / "scan").grid
    labels = np.zeros(grid.shape, np.uint8)
    labels[20:30, 20:30, 2:7] = 1
    mask = tmp_path / "mask.nii.gz"
    nibabel.Nifti1Image(labels, grid.affine).to_filename(mask)
    before = mask.read_bytes()
    row = {"case_id": "c1", "patient_id": "p1", "reference_mask": str(mask), "image": str(tmp_path / "scan")}
    pd.DataFrame([row]).to_csv(tmp_path / "cases.csv", index=False)
    run = tmp_path / "run"
    run.mkdir()
    (found,) = cohort.build(
        own_cases.from_manifest(tmp_path / "cases.csv", run), run, True, 1, excluding=()
    ).itertuples()
    true_ml = 100 * 2 * 2 * 5 * 4 / 1000
    assert found.included
    assert found.reference_volume_ml == pytest.approx(true_ml)
    assert not found.slice_spacing_uniform
    assert "those of the scan are used" in found.geometry_note
    kept, kept_grid = read_mask(run / found.reference_mask)
    assert kept_grid.volume_ml(kept > 0) == pytest.approx(true_ml), "what is measured later"
    assert mask.read_bytes() == before


def test_a_case_is_set_aside_with_its_reason(folders):
    masks, _, run = folders
    sources = own_cases.from_folders(masks, None, run)

    def built(**aside):
        return cohort.build(sources, run, need_image=False, jobs=1, set_aside=pd.DataFrame(aside))

    table = built(case_id=["shape", "empty"], reason=["after surgery", "seen"]).set_index("case_id")
    assert table.loc["shape", "reason"] == "set aside: after surgery"
    assert table.loc["empty", "reason"] == "the reference mask is empty"
    assert not table.loc["shape", "included"]
    with pytest.raises(ValueError, match="case other is not in the cohort"):
        built(case_id=["other"], reason=["x"])
    with pytest.raises(ValueError, match="case good has no reason"):
        built(case_id=["good"], reason=[" "])
    with pytest.raises(ValueError, match="no column reason; found case_id"):
        built(case_id=["good"])


def test_a_reason_of_the_source_excludes_the_case_unread(folders):
    masks, _, run = folders
    sources = own_cases.from_folders(masks, None, run).assign(reason=None)
    sources.loc[sources["case_id"] == "good", "reason"] = "subdural"
    table = cohort.build(sources, run, need_image=False, jobs=1).set_index("case_id")
    assert table.loc["good", "reason"] == "subdural"
    assert np.isnan(table.loc["good", "reference_volume_ml"])


def test_258_real_masks(shared_data, tmp_path):
    sources = own_cases.from_folders(shared_data / "masks" / "hemseg", None, tmp_path)
    table = tables.write(cohort.build(sources, tmp_path, need_image=False, jobs=2), tmp_path / "tables" / "cohort.csv")
    assert len(table) == 258
    assert table["included"].all()
    # The list tells the patient of each scan, so that splits and intervals go by patient.
    assert table["patient_id"].nunique() == pd.read_csv(shared_data / "masks/hemseg/scans.csv")["patient_id"].nunique()


def test_a_reason_with_other_numbers_is_one_reason_in_the_flow():
    reasons = ["mask of 3 < 5 slices", "mask of 4 < 5 slices", "no image", None]
    table = pd.DataFrame({"included": [False, False, False, True], "reason": reasons})
    stages = cohort.flow(table, pd.DataFrame({"split": ["test"]}))
    assert stages["excluded"].iloc[0] == "2 excluded: mask of … < … slices\n1 excluded: no image"


def test_rare_reasons_are_counted_together_in_the_flow():
    reasons = [letter for times, letter in enumerate("abcdef", start=1) for _ in range(times)]
    table = pd.DataFrame({"included": False, "reason": reasons})
    stages = cohort.flow(table, pd.DataFrame({"split": []}))
    assert stages["excluded"].iloc[0].splitlines() == [
        "6 excluded: f", "5 excluded: e", "4 excluded: d", "6 excluded for 3 other reasons",
    ]  # fmt: skip


def test_masks_of_other_kinds_and_in_subfolders_are_cases_that_are_left_out(folders):
    masks, *_ = folders
    (masks / "m8.seg.nrrd").write_bytes(b"NRRD0004")
    (masks / "m9.dcm").write_bytes(b"")
    (masks / "more").mkdir()
    write_nifti(masks / "more" / "m10.nii.gz", ball())
    found = own_cases.from_folders(masks, None, masks.parent).set_index("case_id")["reason"]
    assert "a .nrrd file is not read as a mask" in found["m8"]
    assert "`ich cohort dicom` reads DICOM" in found["m9"]
    assert "lies in a subfolder" in found["m10"]


def test_a_reason_does_not_tell_the_name_of_a_file(tmp_path):
    """Case ids of a manifest are pseudonyms, names of its files need not be."""
    given = tmp_path / "Süd"
    write_nifti(given / "Müller_Jörg.nii.gz", ball(value=5))
    (given / "cases.csv").write_text("case_id,reference_mask\nc1,Müller_Jörg.nii.gz\nc2,Meier.nii.gz\n")
    run = tmp_path / "run"
    run.mkdir()
    table = cohort.build(own_cases.from_manifest(given / "cases.csv", run), run, False, 1)
    reasons = " ".join(table["reason"])
    assert "the mask: " in reasons
    assert not any(name in reasons for name in ("Müller", "Meier", "Süd"))


def test_limits_of_quality_checks_hold_in_the_cohort(folders):
    """Slices of these scans are 5 mm apart."""
    masks, images, run = folders
    sources = own_cases.from_folders(masks, images, run)
    for limit, kept in ((5.5, True), (4.5, False)):
        limits = QualityLimits(slice_mm=limit)
        table = cohort.build(sources, run, True, 1, excluding=("slices",), limits=limits).set_index("case_id")
        assert bool(table.loc["good", "included"]) is kept
    assert table.loc["good", "reason"] == "slices: 5.0 mm apart, limit 4.5"
