"""Each layout is written as its dataset documents it, small, and read back; expected values are those documents'."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest
from made_dicom import write_series
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from ich.dicom_masks import STRUCTURE_SET
from ich.sources import COLUMNS, KINDS, find_cases

FIVE = {"1": "epidural", "2": 1, "3": 2, "4": 3, "5": "subdural"}
DIAGNOSES = "PatientNumber,SliceNumber,Intraventricular,Intraparenchymal,Subarachnoid,Epidural,Subdural,No_Hemorrhage\n"
PEOPLE = '"Patient Number","Age\n(years)",Gender,"Hemorrhage type based on the radiologists diagnosis ",,,,,Note1\n'
INFO = "name,CT_fn,mask_fn,ICH,IPH,IVH,SDH,EDH,SAH,MidlineShift\n"


def write(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.name.lower().endswith((".nii", ".nii.gz")):
            nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), path)
        else:
            path.write_text("")


def cases_by_id(found) -> dict[str, dict]:
    return {row["case_id"]: row for row in found.cases.to_dict("records")}


def reason_of(found, file: str) -> str:
    return found.left_out.set_index("file").loc[file, "reason"]


def physionet(root: Path) -> None:
    for number in ("049", "050", "051", "052", "053", "054"):
        write(root / "ct_scans" / f"{number}.nii", root / "masks" / f"{number}.nii")
    (root / "hemorrhage_diagnosis_raw_ct.csv").write_text(
        DIAGNOSES
        + "49,1,0,0,0,0,0,1\n49,2,0,1,0,0,0,0\n"  # parenchymal
        + '"50 ",1,1,1,0,0,0,0\n'  # ventricular and parenchymal
        + "51,1,0,0,0,0,1,0\n"  # subdural alone
        + "52,1,0,1,0,1,0,0\n"  # parenchymal and epidural
        + "53,1,0,0,0,0,0,1\n"  # none
        + "54,1,0,1,0,0,0,1\n"  # a type and no hemorrhage at once
    )
    (root / "Patient_demographics.csv").write_text(
        PEOPLE
        + ",,,Intraventricular,Intraparenchymal,Subarachnoid,Epidural,Subdural,\n"
        + '49,27,Male,,1,,,,"a, note"\n50,?,Female,1,1,,,,\n'
    )
    write(root / "LICENSE.txt", root / "ct_scans" / "._049.nii")


def instance(root: Path) -> None:
    write(*(root / "train_2" / part / f"{n:03d}.nii.gz" for part in ("data", "label") for n in range(1, 101) if n != 7))
    write(root / "train_2" / "label" / "007.nii.gz", root / "evaluation" / "101.nii.gz", root / "readme.txt")


def bhsd(root: Path) -> None:
    for name in ("ID_2db7ee14_ID_2591d00dfc", "ID_2db7ee14_ID_f27e38fdfd", "ID_05331dc6_ID_47213b7e2e"):
        write(root / "label_192" / "images" / f"{name}.nii.gz", root / "label_192" / "ground truths" / f"{name}.nii.gz")
    write(root / "unlabel_2000" / "ID_aaaaaaaa_ID_bbbbbbbb.nii.gz", root / "label_192" / ".DS_Store")


def mbh_2025(root: Path) -> None:
    folder = root / "MBH_Train_2025_voxel-label" / "ID_0a01a6c4_ID_f361ca3063"
    write(folder / "image.nii.gz", *(folder / f"label_annot_{n}.nii.gz" for n in (10, 2, 3)))
    write(root / "MBH_Train_2025_case-label" / "ID_0c3eef60_ID_6994ad7df0.nii.gz")


def mbh_2024(root: Path) -> None:
    for part in ("imagesTr", "labelsTr"):
        write(root / "MBH_train_label" / part / "ID_0a01a6c4_ID_f361ca3063.nii.gz")


def cq500(root: Path) -> None:
    volumes = root / "Seg-CQ500" / "data" / "volumes"
    for number in (1, 2, 3, 4):
        folder = volumes / f"CQ500-CT-{number}"
        write(folder / "CT.nii", folder / "ICH_mask.nii.gz", folder / "brain.nii.gz")
    (volumes / "info.csv").write_text(
        INFO
        + "CQ500-CT-1,,,0.98,0.97,0.1,0,0,0.2,0\n"
        + "CQ500-CT-2,,,0.98,0.1,0.1,0.93,0,0,0.99\n"
        + "CQ500-CT-3,,,0.98,,0.1,0.93,0,0,0.99\n"
        + "CQ500-CT-5,,,0.98,0.9,0,0,0,0,0\n"
    )


def nnunet(root: Path, **about) -> None:
    folder = root / "Dataset001_ICH"
    for case in ("a", "b"):
        write(folder / "imagesTr" / f"{case}_0000.nii.gz", folder / "labelsTr" / f"{case}.nii.gz")
    write(folder / "imagesTs" / "c_0000.nii.gz", folder / "imagesTs" / "c_0001.nii.gz")
    labels = {"background": 0, "IPH": 1, "IVH": 2, "SAH": 3, "SDH": 4, "edema": 5}
    about = {
        "channel_names": {"0": "CT", "1": "mask"},
        "labels": labels,
        "numTraining": 3,
        "file_ending": ".nii.gz",
    } | about
    (folder / "dataset.json").write_text(json.dumps(about))


def bids(root: Path) -> None:
    for name in ("sub-01/ses-1/ct/sub-01_ses-1", "sub-02/ct/sub-02", "sub-03/ct/sub-03", "sub-04/ct/sub-04"):
        write(root / f"{name}_ct.nii.gz", root / f"{name}_ct.json")
    masks = root / "derivatives" / "readers"
    write(masks / "sub-01" / "ses-1" / "ct" / "sub-01_ses-1_dseg.nii.gz")
    write(
        masks / "sub-02" / "ct" / "sub-02_label-IVH_mask.nii.gz",
        masks / "sub-02" / "ct" / "sub-02_desc-brain_mask.nii.gz",
    )
    write(*(masks / "sub-03" / "ct" / f"sub-03_label-{name}_mask.nii.gz" for name in ("IPH", "IVH")))
    write(masks / "sub-04" / "ct" / "sub-04_space-MNI_label-IPH_mask.nii.gz")
    (masks / "desc-blood_dseg.tsv").write_text(
        "index\tname\n0\tbackground\n1\tventricular hemorrhage\n2\tepidural hematoma\n"
    )
    (root / "participants.tsv").write_text("participant_id\tage\tsex\nsub-01\t63\tF\nsub-02\tn/a\tmale\n")
    (root / "sub-01" / "ses-1" / "sub-01_ses-1_scans.tsv").write_text(
        "filename\tacq_time\nct/sub-01_ses-1_ct.nii.gz\t2021-04-05T10:00:00\n"
    )
    (root / "sub-02" / "sub-02_scans.tsv").write_text("filename\tacq_time\nct/sub-02_ct.nii.gz\t1905-04-05T10:00:00\n")


def folders(root: Path) -> None:
    write(root / "masks" / "a.nii.gz", root / "images" / "a_0000.nii.gz", root / "masks" / "._a.nii.gz")
    write_series(root / "images" / "b", np.arange(6) * 5.0)
    write_series(root / "images" / "b", [0.0, 1.0], SeriesNumber=1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write(root / "masks" / "b.nii.gz", root / "images" / "unused.nii.gz")


def phantom(root: Path) -> None:
    for part in ("images", "masks", "second_reader"):
        write(root / part / "phantom-0000.nii.gz")
    write(root / "rows" / "phantom-0000.json")
    (root / "cases.csv").write_text(
        "case_id,patient_id,image,reference_mask,second_mask,scan_date,hemorrhage_type,true_volume_ml\n"
        "phantom-0000,P1,images/phantom-0000.nii.gz,masks/phantom-0000.nii.gz,second_reader/phantom-0000.nii.gz,"
        "2019-02-01,mixed,12.5\n"
    )


def manifest(root: Path) -> Path:
    write(root / "m" / "1.nii.gz", root / "m" / "2.nii.gz", root / "m" / "other.nii.gz", root / "s" / "1.nii.gz")
    (root / "cases.csv").write_text(
        "case_id,patient_id,reference_mask,image,hemorrhage_type,scan_date,site,age,sex,split\n"
        '001,"P,1",m/1.nii.gz,s/1.nii.gz,mixed,2020-01-02,A,71,F,train\n'
        "002,P2,m/2.nii.gz,s/2.nii.gz,,02.01.2020,B,n/a,x,test\n"
        "003,P3,m/3.nii.gz,,,,,,,test\n"
    )
    return root / "cases.csv"


def rtstruct(path: Path, series: str | None, study: str) -> None:
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = STRUCTURE_SET
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = generate_uid()
    header.Modality, header.SeriesNumber = "RTSTRUCT", 50
    header.SeriesInstanceUID, header.StudyInstanceUID = generate_uid(), study
    if series:
        referenced, of_study, frame = Dataset(), Dataset(), Dataset()
        referenced.SeriesInstanceUID = series
        of_study.RTReferencedSeriesSequence = [referenced]
        frame.RTReferencedStudySequence = [of_study]
        header.ReferencedFrameOfReferenceSequence = [frame]
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path, enforce_file_format=True)


def study(folder: Path, uid: str, *numbers: int, **fields) -> list[str]:
    known = {"StudyInstanceUID": uid, "PatientID": "P1", "StudyDate": "20210405", **fields}
    return [write_series(folder / f"s{n}", np.arange(6) * 5.0, SeriesNumber=n, **known) for n in numbers]


def dicom(root: Path) -> None:
    first = study(root / "one", "1.1", 2, 3, InstitutionName="General", PatientAge="063Y", PatientSex="F")
    rtstruct(root / "one" / "rt.dcm", first[1], "1.1")
    write_series(
        root / "one" / "scout", [0.0], StudyInstanceUID="1.1", SeriesNumber=1, ImageType=["O", "P", "LOCALIZER"]
    )
    study(root / "two", "1.2", 4, InstitutionName="Other", PatientAge="018M")
    write(root / "two" / "s4.nii.gz", root / "two" / "stray.nii.gz", root / "two" / "report.pdf")
    study(root / "three", "1.3", 5, InstitutionName="General", PatientID="")
    copied = next((root / "three" / "s5").iterdir())
    shutil.copy(copied, copied.with_name("copy.dcm"))
    write(root / "three" / ".DS_Store")


TREES = {
    "physionet": physionet,
    "instance": instance,
    "bhsd": bhsd,
    "mbh-seg": mbh_2025,
    "cq500": cq500,
    "nnunet": nnunet,
    "bids": bids,
    "folders": folders,
    "dicom": dicom,
    "phantom": phantom,
    "manifest": manifest,
}


def test_every_kind_is_tested():
    assert set(TREES) == set(KINDS)


@pytest.mark.parametrize("kind", TREES)
def test_every_file_is_used_or_has_a_reason(tmp_path, kind):
    root = TREES[kind](tmp_path) or tmp_path
    found = find_cases(kind, root)
    used = set()
    for row in found.cases.to_dict("records"):
        used |= {Path(row[name]) for name in ("reference_mask", "second_mask") if row[name]}
        used |= set(row["files"] or ([Path(row["image"])] if row["image"] else []))
    left = {tmp_path / file for file in found.left_out["file"]}
    everything = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert left | used == everything
    assert not left & used
    assert found.left_out["reason"].str.len().gt(0).all()
    assert not found.left_out["file"].duplicated().any()
    assert list(found.cases.columns) == COLUMNS
    assert found.cases["extra_axial"].dtype == bool
    assert found.cases["case_id"].is_unique
    assert all(value is None for column in found.cases for value in found.cases[column] if pd.isna(value))


@pytest.mark.parametrize(
    ("kind", "file", "origin"),
    [
        ("physionet", "hemorrhage_diagnosis_raw_ct.csv", "physionet.org"),
        ("physionet", "masks", "physionet.org"),
        ("instance", "train_2/label", "instance.grand-challenge.org"),
        ("bhsd", "label_192/ground truths", "huggingface.co"),
        ("cq500", "Seg-CQ500/data/volumes/info.csv", "zenodo.org"),
        ("nnunet", "Dataset001_ICH/dataset.json", "your own data"),
        ("nnunet", "Dataset001_ICH/labelsTr", "your own data"),
        ("folders", "masks", "your own data"),
        ("phantom", "cases.csv", "ich phantom"),
    ],
)
def test_missing_piece_is_named_with_its_origin(tmp_path, kind, file, origin):
    TREES[kind](tmp_path)
    path = tmp_path / file
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(ValueError, match=f"{path.name}(.|\n)*{origin}") as error:
        find_cases(kind, tmp_path)
    assert KINDS[kind].title in str(error.value)


@pytest.mark.parametrize("kind", [kind for kind in TREES if kind != "manifest"])
def test_other_folders_and_no_folder_are_errors(tmp_path, kind):
    write(tmp_path / "holiday" / "photo.jpg")
    with pytest.raises(ValueError, match=r"Wanted: (.|\n)*Obtained from"):
        find_cases(kind, tmp_path)
    with pytest.raises(ValueError, match="no such file or folder"):
        find_cases(kind, tmp_path / "nowhere")


def test_unknown_kind_lists_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="'brats' is not known, wanted one of physionet, instance"):
        find_cases("brats", tmp_path)


def test_only_published_identifiers_stay_as_they_are():
    assert {name for name, kind in KINDS.items() if not kind.public_ids} == {
        "nnunet",
        "bids",
        "manifest",
        "folders",
        "dicom",
    }


def test_physionet_types_come_from_the_table_of_slices(tmp_path):
    physionet(tmp_path)
    found = find_cases("physionet", tmp_path)
    cases = cases_by_id(found)
    assert json.loads(cases["049"]["label_map"])["255"] == 1
    assert cases["049"]["hemorrhage_type"] == "parenchymal"
    assert (cases["049"]["age"], cases["049"]["sex"], cases["049"]["reason"]) == (27, "M", None)
    assert json.loads(cases["050"]["label_map"])["255"] == "unknown"
    assert (cases["050"]["hemorrhage_type"], cases["050"]["age"], cases["050"]["sex"]) == ("mixed", None, "F")
    assert not cases["050"]["extra_axial"]
    assert json.loads(cases["051"]["label_map"])["255"] == "subdural"
    assert cases["051"]["extra_axial"]
    assert cases["051"]["reason"] is None
    assert cases["052"]["extra_axial"]
    assert "cannot be split" in cases["052"]["reason"]
    assert cases["053"]["reason"] == "no hemorrhage according to hemorrhage_diagnosis_raw_ct.csv"
    assert "contradicts itself on 1 slices" in cases["054"]["reason"]
    assert "traumatic" in found.notes[0]
    assert any(note.startswith("75 scans documented, 6 found: missing 055, 056") for note in found.notes)
    assert reason_of(found, "ct_scans/._049.nii").startswith("hidden")


def test_physionet_tables_that_disagree_exclude_the_scan(tmp_path):
    physionet(tmp_path)
    path = tmp_path / "Patient_demographics.csv"
    path.write_text(path.read_text().replace("49,27,Male,,1,", "49,27,Male,1,,"))
    reason = cases_by_id(find_cases("physionet", tmp_path))["049"]["reason"]
    assert "hemorrhage by slice Intraparenchymal, by patient Intraventricular" in reason


def test_physionet_without_demographics_or_of_an_older_version(tmp_path):
    physionet(tmp_path)
    (tmp_path / "Patient_demographics.csv").unlink()
    found = find_cases("physionet", tmp_path)
    assert "Patient_demographics.csv is missing: age and sex are not known" in found.notes
    (tmp_path / "Patients_CT").mkdir()
    with pytest.raises(ValueError, match="JPEG images of an older version"):
        find_cases("physionet", tmp_path)


def test_quotes_that_are_never_closed_are_an_error(tmp_path):
    physionet(tmp_path)
    path = tmp_path / "hemorrhage_diagnosis_raw_ct.csv"
    path.write_text(path.read_text().replace("49,2,", '49,"2,'))
    with pytest.raises(ValueError, match=r"hemorrhage_diagnosis_raw_ct\.csv: not a table"):
        find_cases("physionet", tmp_path)
    path.write_text(DIAGNOSES + '"49,1,0,1,0,0,0,0\n50,1",0,1,0,0,0,0,0\n')
    with pytest.raises(ValueError, match="column PatientNumber: a quotation mark near line 2 is not closed"):
        find_cases("physionet", tmp_path)


def test_instance_counts_are_compared_with_the_documented_ones(tmp_path):
    instance(tmp_path)
    found = find_cases("instance", tmp_path)
    assert len(found.cases) == 100
    assert "100 training scans documented, 99 found: missing 007" in found.notes
    assert not any("training masks documented" in note for note in found.notes)
    assert cases_by_id(found)["007"]["reason"] == "no scan was found for this mask"
    assert json.loads(found.cases["label_map"][0]) == {"1": "unknown"}
    assert "without a reference mask" in reason_of(found, "evaluation/101.nii.gz")
    assert "extra-axial blood can neither be left out nor found" in found.notes[0]


def test_bhsd_patients_and_the_order_of_its_labels(tmp_path):
    bhsd(tmp_path)
    found = find_cases("bhsd", tmp_path)
    assert found.cases["patient_id"].nunique() == 2
    assert json.loads(found.cases["label_map"][0]) == FIVE
    assert "192 scans documented, 3 found" in found.notes
    assert reason_of(found, "unlabel_2000/ID_aaaaaaaa_ID_bbbbbbbb.nii.gz") == "scan without voxel labels"


def test_mbh_seg_takes_the_annotator_of_lowest_number(tmp_path):
    mbh_2025(tmp_path)
    found = find_cases("mbh-seg", tmp_path)
    case = found.cases.iloc[0]
    assert Path(case["reference_mask"]).name == "label_annot_2.nii.gz"
    assert (case["case_id"], case["patient_id"]) == ("ID_0a01a6c4_ID_f361ca3063", "ID_0a01a6c4")
    assert sum(found.left_out["reason"] == "outline of another annotator of the same scan") == 2
    assert "1 with 3" in found.notes[0]


def test_mbh_seg_of_2024(tmp_path):
    mbh_2024(tmp_path)
    found = find_cases("mbh-seg", tmp_path)
    assert json.loads(found.cases["label_map"][0]) == FIVE
    assert found.cases["reason"].tolist() == [None]


def test_cq500_types_come_from_the_readers_consensus(tmp_path):
    cq500(tmp_path)
    found = find_cases("cq500", tmp_path)
    cases = cases_by_id(found)
    assert (cases["CQ500-CT-1"]["hemorrhage_type"], cases["CQ500-CT-1"]["extra_axial"]) == ("parenchymal", False)
    assert json.loads(cases["CQ500-CT-2"]["label_map"])["1"] == "subdural"
    assert cases["CQ500-CT-2"]["extra_axial"]
    assert "no probability" in cases["CQ500-CT-3"]["reason"]
    assert cases["CQ500-CT-4"]["reason"] == "info.csv has no row of this scan"
    assert cases["CQ500-CT-5"]["reason"] == "no reference mask was found"
    assert any("missing CQ500-CT-5; not documented CQ500-CT-4" in note for note in found.notes)
    assert any(found.left_out["reason"] == "mask of the brain, not of blood")


def test_nnunet_labels_are_read_by_name(tmp_path):
    nnunet(tmp_path)
    found = find_cases("nnunet", tmp_path)
    cases = cases_by_id(found)
    assert json.loads(cases["a"]["label_map"]) == {"0": 0, "1": 1, "2": 2, "3": 3, "4": "subdural", "5": 0}
    assert cases["c"]["reason"] == "no reference mask was found"
    assert cases["a"]["split"] is None
    assert found.notes == ("3 training cases documented, 2 found",)
    assert reason_of(found, "Dataset001_ICH/imagesTs/c_0001.nii.gz") == "channel 0001, not the CT"
    write(tmp_path / "Dataset001_ICH" / "labelsTs" / "c.nii.gz")
    assert find_cases("nnunet", tmp_path).cases["split"].tolist() == ["train", "train", "test"]


def test_nnunet_of_version_1_has_its_labels_reversed(tmp_path):
    nnunet(tmp_path, labels={"0": "background", "1": "ICH"}, channel_names=None, modality={"0": "CT"})
    assert json.loads(find_cases("nnunet", tmp_path).cases["label_map"][0]) == {"0": 0, "1": "unknown"}


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"labels": {"background": 0, "whole": [1, 2], "IVH": 2}}, "label 'whole' is a region"),
        ({"labels": {"background": 0, "one": 1, "two": 2}}, "labels 'one' .1., 'two' .2. do not say"),
        ({"labels": {"background": 0, "edema": 1}}, "name no blood"),
        ({"channel_names": {"0": "T1", "1": "T2"}}, "channels are T1, T2"),
        ({"file_ending": ".png"}, "file_ending is '.png'"),
        ({"dataset": {}}, "lists its files under 'dataset'"),
    ],
)
def test_nnunet_that_cannot_be_read_without_guessing(tmp_path, about, said):
    nnunet(tmp_path, **about)
    with pytest.raises(ValueError, match=said):
        find_cases("nnunet", tmp_path)


def test_nnunet_with_one_label_of_no_telling_name(tmp_path):
    nnunet(tmp_path, labels={"background": 0, "target": 1})
    found = find_cases("nnunet", tmp_path)
    assert json.loads(found.cases["label_map"][0]) == {"0": 0, "1": "unknown"}
    assert "'target', does not say what it is" in found.notes[0]


def test_bids_in_capitals_is_read(tmp_path):
    write(tmp_path / "sub-01" / "ct" / "sub-01_CT.NII.GZ")
    write(tmp_path / "derivatives" / "r" / "sub-01" / "ct" / "sub-01_label-IPH_MASK.NII.GZ")
    cases = cases_by_id(find_cases("bids", tmp_path))
    assert cases["sub-01"]["reason"] is None
    assert cases["sub-01"]["reference_mask"].endswith("_MASK.NII.GZ")


def test_bids_masks_labels_people_and_dates(tmp_path):
    bids(tmp_path)
    found = find_cases("bids", tmp_path)
    cases = cases_by_id(found)
    one, two = cases["sub-01_ses-1"], cases["sub-02"]
    assert json.loads(one["label_map"]) == {"0": 0, "1": 2, "2": "subdural"}
    assert (one["patient_id"], one["age"], one["sex"], one["scan_date"]) == ("sub-01", 63, "F", "2021-04-05")
    assert json.loads(two["label_map"]) == {"1": 2}
    assert (two["age"], two["sex"], two["scan_date"], two["reason"]) == (None, "M", None, None)
    assert cases["sub-03"]["reason"] == "2 reference masks were found, wanted one"
    assert cases["sub-04"]["reason"] == "no reference mask was found"
    assert any("before 1925" in note for note in found.notes)
    assert "space MNI" in reason_of(found, "derivatives/readers/sub-04/ct/sub-04_space-MNI_label-IPH_mask.nii.gz")
    assert "not blood" in reason_of(found, "derivatives/readers/sub-02/ct/sub-02_desc-brain_mask.nii.gz")
    (tmp_path / "derivatives" / "readers" / "desc-blood_dseg.tsv").unlink()
    assert "no table" in cases_by_id(find_cases("bids", tmp_path))["sub-01_ses-1"]["reason"]


def test_manifest_keeps_what_it_says_and_names_what_is_not_there(tmp_path):
    found = find_cases("manifest", manifest(tmp_path))
    cases = cases_by_id(found)
    first = cases["001"]
    assert (first["patient_id"], first["age"], first["sex"], first["site"], first["split"]) == (
        "P,1",
        71,
        "F",
        "A",
        "train",
    )
    assert first["reason"] is None
    assert cases["002"]["reason"] == "the scan that is named is not there"
    assert (cases["002"]["age"], cases["002"]["sex"], cases["002"]["scan_date"]) == (None, None, None)
    assert cases["003"]["reason"] == "the reference mask that is named is not there"
    assert found.notes == ("1 scan dates are not of the form YYYY-MM-DD: not used",)
    assert set(found.left_out["file"]) == {"cases.csv", "m/other.nii.gz"}


def test_columns_that_a_pseudonymous_cohort_does_not_take_are_named(tmp_path):
    path = manifest(tmp_path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([f"{lines[0]},shape,anticoagulant", *(f"{line},round,no" for line in lines[1:])]))
    assert any(
        "not taken in" in note and note.endswith("shape, anticoagulant") for note in find_cases("manifest", path).notes
    )


def test_manifest_reaches_files_outside_its_folder(tmp_path):
    write(tmp_path / "scans" / "1.nii.gz")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "cases.csv").write_text("case_id,reference_mask\n1,../scans/1.nii.gz\n")
    found = find_cases("manifest", tmp_path / "lists" / "cases.csv")
    assert found.cases["reason"].tolist() == [None]  # a study of masks alone needs no scan
    assert Path(found.cases["reference_mask"][0]).is_file()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("case_id,image\n1,a.nii\n", "no column 'reference_mask'"),
        ("case_id,reference_mask\n1,a.nii\n1,b.nii\n", "case 1 is listed more than once"),
        ("case_id,reference_mask,hemorrhage_type\n1,a.nii,SDH\n", "hemorrhage_type is 'SDH'"),
        ("case_id,reference_mask,split\n1,a.nii,dev\n", "split is 'dev'"),
        ("case_id,reference_mask\n,a.nii\n", "row 2 of the table has no case_id"),
        ("case_id,reference_mask\n", "no case at all"),
        ("", "No columns"),
    ],
)
def test_manifest_errors(tmp_path, text, said):
    (tmp_path / "cases.csv").write_text(text)
    with pytest.raises(ValueError, match=said):
        find_cases("manifest", tmp_path / "cases.csv")


def test_folders_with_nnunet_names_and_dicom_folders(tmp_path):
    folders(tmp_path)
    cases = cases_by_id(find_cases("folders", tmp_path))
    assert set(cases) == {"a", "b", "unused"}
    assert cases["unused"]["reason"] == "no reference mask was found"
    assert Path(cases["a"]["image"]).name == "a_0000.nii.gz"
    assert (Path(cases["b"]["image"]).name, len(cases["b"]["files"]), cases["b"]["reason"]) == ("b", 6, None)
    write_series(tmp_path / "images" / "b", np.arange(6) * 5.0, SeriesNumber=7)
    found = find_cases("folders", tmp_path)
    reason = cases_by_id(found)["b"]["reason"]
    assert reason.startswith("2 usable axial CT series")
    assert str(tmp_path) not in reason


def test_phantom_keeps_types_and_says_that_it_is_simulated(tmp_path):
    phantom(tmp_path)
    found = find_cases("phantom", tmp_path)
    case = found.cases.iloc[0]
    assert (case["hemorrhage_type"], case["scan_date"], case["patient_id"]) == ("mixed", "2019-02-01", "P1")
    assert "simulated" in found.notes[0]
    assert Path(case["second_mask"]) == tmp_path / "second_reader" / "phantom-0000.nii.gz"


def test_dicom_tree_takes_the_series_of_the_mask(tmp_path):
    dicom(tmp_path)
    found = find_cases("dicom", tmp_path)
    cases = cases_by_id(found)
    assert set(cases) == {"1.1", "1.2", "1.3"}
    one, two, three = (cases[name] for name in ("1.1", "1.2", "1.3"))
    assert {path.parent for path in one["files"]} == {tmp_path / "one" / "s3"}
    assert Path(one["reference_mask"]) == tmp_path / "one" / "rt.dcm"
    assert (one["patient_id"], one["scan_date"], one["age"], one["sex"]) == ("P1", "2021-04-05", 63, "F")
    assert Path(two["reference_mask"]) == tmp_path / "two" / "s4.nii.gz"
    assert two["age"] == 1.5
    assert (one["reason"], two["reason"], three["reason"]) == (None, None, "no reference mask was found")
    assert (one["site"], two["site"], three["site"]) == ("site-1", "site-2", "site-1")
    assert three["patient_id"] == "1.3"
    assert found.notes == ("1 studies have no PatientID: each counts as a patient of its own",)
    reasons = found.left_out.set_index("file")["reason"]
    assert reasons[reasons.index.str.startswith("one/s2/")].str.startswith("another usable series of a study").all()
    assert reasons[reasons.index.str.startswith("one/scout/")].tolist() == ["scout"]
    assert (reasons == "exact copy of another image").sum() == 1
    assert reasons["two/report.pdf"] == "not a DICOM file"
    assert "not named as the folder" in reasons["two/stray.nii.gz"]


def test_dicom_studies_that_leave_a_choice_are_left_out(tmp_path):
    first, second = study(tmp_path / "a", "1.1", 2, 3)
    rtstruct(tmp_path / "a" / "rt1.dcm", first, "1.1")
    rtstruct(tmp_path / "a" / "rt2.dcm", second, "1.1")
    study(tmp_path / "b", "1.2", 4, 5)
    rtstruct(tmp_path / "b" / "rt.dcm", None, "1.2")
    study(tmp_path / "c", "1.3", 6)
    rtstruct(tmp_path / "c" / "rt.dcm", generate_uid(), "1.3")
    write_series(tmp_path / "d", [0.0, 5.0], StudyInstanceUID="1.4", SeriesNumber=7)
    cases = cases_by_id(find_cases("dicom", tmp_path))
    assert cases["1.1"]["reason"] == "2 reference masks were found, wanted one"
    assert cases["1.2"]["reason"].startswith("2 usable series could be the one")
    assert cases["1.3"]["reason"] == "the series that the mask was drawn on cannot be used: it is not here"
    assert cases["1.4"]["reason"] == "no usable axial CT series: 2 slices, wanted 4 or more (1)"
    assert all(case["reference_mask"] is None for case in cases.values())


def patients(root: Path, *masks: str) -> dict[str, dict]:
    """Two patients whose only series lies in a folder CT1 each, and masks."""
    for patient, uid in (("A", "1.1"), ("B", "1.2")):
        write_series(root / f"dicom/Pat{patient}/CT1", np.arange(6) * 5.0, StudyInstanceUID=uid, PatientID=patient)
    write(*(root / mask for mask in masks))
    return {row["patient_id"]: row for row in find_cases("dicom", root).cases.to_dict("records")}


@pytest.mark.parametrize(
    "place",
    ["dicom/PatA/CT1.NII.GZ", "dicom/PatA/CT1.nii.gz", "dicom/PatA/CT1/CT1.nii.gz", "dicom/PatA/masks/CT1.nii.gz"],
)
def test_a_mask_goes_to_the_nearest_folder_of_its_name(tmp_path, place):
    cases = patients(tmp_path, place)
    assert cases["A"]["reference_mask"] == str(tmp_path / place)
    assert cases["B"]["reference_mask"] is None
    assert (cases["A"]["reason"], cases["B"]["reason"]) == (None, "no reference mask was found")


@pytest.mark.parametrize("tree", ["dicom", "masks"])
def test_every_patient_has_a_mask_of_the_same_name(tmp_path, tree):
    cases = patients(tmp_path, f"{tree}/PatA/CT1.nii.gz", f"{tree}/PatB/CT1.nii.gz")
    assert {name: case["reference_mask"] for name, case in cases.items()} == {
        patient: str(tmp_path / f"{tree}/Pat{patient}/CT1.nii.gz") for patient in "AB"
    }


def test_a_mask_that_is_as_near_to_another_patient_goes_to_neither(tmp_path):
    cases = patients(tmp_path, "masks/CT1.nii.gz")
    assert [case["reason"] for case in cases.values()] == ["the name of the mask fits 2 studies, wanted one"] * 2
    assert [case["reference_mask"] for case in cases.values()] == [None, None]


def test_dicom_names_of_institutions_stay_out(tmp_path):
    dicom(tmp_path)
    found = find_cases("dicom", tmp_path)
    text = found.cases.drop(columns=["image", "reference_mask"]).to_csv() + found.left_out.to_csv()
    assert "General" not in text
    assert "Secret" not in text


def test_two_studies_in_one_folder_are_told_apart(tmp_path):
    for uid, number in (("1.1", 2), ("1.2", 2)):
        write_series(tmp_path / "all", np.arange(6) * 5.0, StudyInstanceUID=uid, SeriesNumber=number)
    cases = cases_by_id(find_cases("dicom", tmp_path))
    files = [path for case in cases.values() for path in case["files"]]
    assert sorted(files) == sorted((tmp_path / "all").iterdir())
    assert {pydicom.dcmread(path).StudyInstanceUID for path in cases["1.1"]["files"]} == {"1.1"}


def test_real_dicom_files_are_all_accounted_for(shared_data):
    root = shared_data / "dicom"
    found = find_cases("dicom", root)
    assert set(found.cases["reason"].str.split(":").str[0]) == {
        "no reference mask was found",
        "no usable axial CT series",
    }
    assert pd.notna(found.left_out["reason"]).all()
    directories = found.left_out[found.left_out["file"].str.endswith("DIRFILE")]
    assert set(directories["reason"]) == {"index of a DICOM medium"}
    assert sorted(map(len, found.cases["files"].dropna()))[-1] >= 28
