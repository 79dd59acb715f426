"""Datasets brought into a run folder: the dataset is not changed, nothing that identifies a patient goes along."""

import hashlib
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from made_seg import write_ct, write_seg

from ich import cohort, intake
from ich.pseudonyms import pseudonym, study_salt
from ich.scan import read_mask, read_scan
from ich.sources import find_cases

AFFINE = np.diag([-1.0, -1.0, 5.0, 1.0])


@pytest.fixture(autouse=True)
def salt(tmp_path, monkeypatch):
    """A salt of the test's own, outside the run folder."""
    monkeypatch.setenv("ICH_SALT_FILE", str(tmp_path / "salt"))
    (tmp_path / "salt").write_text("0123456789abcdef")


def nifti(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values.astype(np.int16), AFFINE), path)


@pytest.fixture
def bhsd(tmp_path):
    """Two cases in BHSD's layout: 1 epidural, 2 parenchymal, 3 ventricular, 4 subarachnoid, 5 subdural."""
    for patient, values in {"aa": [2, 3, 4, 0], "bb": [2, 2, 5, 1]}.items():
        mask = np.zeros((8, 8, 4))
        mask[2, 2:6, 1] = values
        name = f"ID_{patient}_ID_{patient}.nii.gz"
        nifti(tmp_path / "bhsd" / "label_192" / "images" / name, np.full((8, 8, 4), -1000))
        nifti(tmp_path / "bhsd" / "label_192" / "ground truths" / name, mask)
    return tmp_path / "bhsd"


def digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_labels_become_the_studys_and_extra_axial_blood_is_kept_apart(bhsd, tmp_path):
    before, run = digest(bhsd), tmp_path / "run"
    for _ in range(2):  # a second time writes over the first
        sources, _ = intake.take_in(find_cases("bhsd", bhsd), run)
    assert digest(bhsd) == before
    first, second = sources.to_dict("records")
    assert (first["case_id"], first["patient_id"]) == ("ID_aa_ID_aa", "ID_aa")
    assert read_mask(run / first["reference_mask"])[0][
        np.nonzero(read_mask(run / first["reference_mask"])[0])
    ].tolist() == [1, 2, 3]
    assert first["reason"] is None
    assert second["reason"] == intake.EXTRA_AXIAL_REASON
    assert second["extra_axial_ml"] == pytest.approx(2 * 5 / 1000)
    assert np.count_nonzero(read_mask(run / second["reference_mask"])[0]) == 2
    assert (run / first["image"]).is_symlink()
    kept, _ = intake.take_in(find_cases("bhsd", bhsd), run, extra_axial=True)
    assert kept["reason"].isna().all()


def test_a_value_that_the_dataset_does_not_have(bhsd, tmp_path):
    name = "label_192/ground truths/ID_aa_ID_aa.nii.gz"
    nifti(bhsd / name, np.full((8, 8, 4), 7))
    sources, _ = intake.take_in(find_cases("bhsd", bhsd), tmp_path / "run")
    wanted = "reference mask of ID_aa_ID_aa: mask holds the value 7; the dataset's labels are 1, 2, 3, 4, 5"
    assert sources.loc[0, "reason"] == wanted


def types(sources: pd.DataFrame, run: Path) -> list[str | None]:
    built = cohort.build(sources, run, need_image=False, jobs=1)
    assert "label_1_stated" not in built
    return [kind if isinstance(kind, str) else None for kind in built["hemorrhage_type"]]


@pytest.mark.parametrize(
    ("labels", "drawn", "kind"),
    [
        ({"parenchymal": 1}, [1, 1], "parenchymal"),
        ({"IPH": 2, "IVH": 1}, [2, 2], "parenchymal"),
        ({"IPH": 1, "IVH": 2}, [1, 2], "mixed"),
        ({"hemorrhage": 1}, [1, 1], None),
        ({"hemorrhage": 1, "IPH": 2}, [2, 2], "parenchymal"),
        ({"hemorrhage": 1, "IPH": 2}, [1, 2], None),
    ],
)
def test_the_type_is_unknown_only_where_no_label_states_it(tmp_path, labels, drawn, kind):
    root = tmp_path / "raw"
    mask = np.zeros((8, 8, 4))
    mask[2:4, 2, 1] = drawn
    nifti(root / "imagesTr" / "a_0000.nii.gz", np.full((8, 8, 4), 30))
    nifti(root / "labelsTr" / "a.nii.gz", mask)
    about = {"labels": {"background": 0, **labels}, "channel_names": {"0": "CT"}, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(about))
    sources, _ = intake.take_in(find_cases("nnunet", root), tmp_path / "run")
    assert types(sources, tmp_path / "run") == [kind]


@pytest.mark.parametrize(
    ("segments", "kind"),
    [
        (["IPH"], "parenchymal"),
        (["Segment_1"], None),
        (["hemorrhage"], None),
        (["hemorrhage", "IPH"], None),
    ],
)
def test_a_segment_that_names_its_type_states_it(tmp_path, segments, kind):
    whole = np.zeros((48, 64, 16), bool)
    whole[20:30, 22:40, 6:9] = True
    part = whole & (np.arange(16) < 8)
    series = write_ct(tmp_path / "dicom", StudyInstanceUID="1.2")
    write_seg(tmp_path / "dicom" / "seg.dcm", series, dict(zip(segments, (whole, part), strict=False)))
    sources, _ = intake.take_in(find_cases("dicom", tmp_path / "dicom"), tmp_path / "run")
    assert types(sources, tmp_path / "run") == [kind]


@pytest.fixture
def hospital(tmp_path):
    """Two studies of one patient with a SEG each, and a study without a mask."""
    root = tmp_path / "Secret^Name" / "export"
    shape = (48, 64, 16)
    bleed = np.zeros(shape, bool)
    bleed[20:30, 22:40, 6:9] = True
    for n, day in enumerate(("20210405", "20210406", "20210407")):
        series = write_ct(root / f"SECRETID_{n}", StudyDate=day, StudyInstanceUID=f"1.2.{n}", PatientAge="063Y",
                          InstitutionName="SECRETPLACE", PatientBirthDate="19580101")  # fmt: skip
        if n < 2:
            write_seg(root / f"SECRETID_{n}" / "seg.dcm", series, {"IVH": bleed})
    return root


def test_dicom_with_segmentations(hospital, tmp_path):
    before, run = digest(hospital), tmp_path / "run"
    sources, people = intake.take_in(find_cases("dicom", hospital), run)
    assert digest(hospital) == before
    assert sources["patient_id"].tolist() == [pseudonym("patient", "SECRETID", study_salt(run))] * 3
    assert sources["case_id"].is_unique
    assert people["age"].tolist() == [63, 63, 63]
    assert sources["reason"].notna().tolist() == [False, False, True]
    labels, grid = read_mask(run / sources.loc[0, "reference_mask"])
    assert np.count_nonzero(labels == 2) == 10 * 18 * 3
    assert read_scan(run / sources.loc[0, "image"]).grid.shape == grid.shape
    days = pd.to_datetime(sources["scan_date"])
    assert days.diff().dropna().dt.days.tolist() == [1, 1]  # order and intervals stay
    assert days.max() < pd.Timestamp("2021-04-05")


def test_nothing_of_the_headers_or_the_machine_is_in_a_table(hospital, tmp_path):
    shutil.rmtree(hospital / "SECRETID_1", ignore_errors=False)
    (hospital / "SECRETID_0" / "seg.dcm").write_bytes((hospital / "SECRETID_0" / "seg.dcm").read_bytes()[:900])
    run = tmp_path / "run"
    sources, _ = intake.take_in(find_cases("dicom", hospital), run)
    table = cohort.build(sources, run, need_image=True, jobs=1)
    text = table.to_csv() + cohort.exclusions(table).to_csv()
    for planted in ("Secret", "SECRET", "1958", "2021", str(tmp_path), "seg.dcm", "1.2.0"):
        assert planted not in text, text
    assert not table["included"].any()


def test_the_key_stays_in_the_data_folder(hospital, tmp_path):
    run = tmp_path / "run"
    intake.take_in(find_cases("dicom", hospital), run)
    key = pd.read_csv(run / "data" / "key.csv")
    assert set(key["patient_id"]) == {"SECRETID"}
    left = pd.read_csv(run / "data" / "files_left_out.csv")
    assert left["reason"].notna().all()


def test_a_mask_for_another_scan_is_the_case_s_reason(tmp_path):
    nifti(tmp_path / "masks" / "a.nii.gz", np.ones((4, 4, 4)))
    (tmp_path / "cases.csv").write_text("case_id,reference_mask,image\na,masks/a.nii.gz,images/gone.nii.gz\n")
    sources, _ = intake.take_in(find_cases("manifest", tmp_path / "cases.csv"), tmp_path / "run")
    assert sources.loc[0, "reason"] == "the scan that is named is not there"
    assert json.loads(sources.to_json())["image"]["0"] is None


def test_a_second_reader_goes_along(tmp_path):
    for folder in ("masks", "second"):
        nifti(tmp_path / folder / "a.nii.gz", np.ones((4, 4, 4)))
    (tmp_path / "cases.csv").write_text("case_id,reference_mask,second_mask\na,masks/a.nii.gz,second/a.nii.gz\n")
    sources, _ = intake.take_in(find_cases("manifest", tmp_path / "cases.csv"), tmp_path / "run")
    assert sources.loc[0, "second_mask"].startswith("data/second_reader/case-")
    assert read_mask(tmp_path / "run" / sources.loc[0, "second_mask"])[0].all()
