"""Published datasets of head CT with outlined hemorrhage, each in the folders it is distributed in."""

import re
from collections import Counter
from pathlib import Path

import pandas as pd

from ich.layouts import (
    TABLE,
    Layout,
    age_of,
    case_row,
    counted,
    deviations,
    folder_with,
    hidden,
    nifti_files,
    read_table,
    sex_of,
)
from ich.tables import LABEL_NAMES

TYPES = {
    "Intraparenchymal": 1,
    "Intraventricular": 2,
    "Subarachnoid": 3,
    "Epidural": "epidural",
    "Subdural": "subdural",
}
SHORT = dict(zip(TYPES, ("IPH", "IVH", "SAH", "EDH", "SDH"), strict=True))
DEMOGRAPHICS_ORDER = ("Intraventricular", "Intraparenchymal", "Subarachnoid", "Epidural", "Subdural")
FIVE_TYPES = {"1": "epidural", "2": 1, "3": 2, "4": 3, "5": "subdural"}  # BHSD's dataset.json
PHYSIONET_SCANS = {f"{number:03d}" for number in (*range(49, 59), *range(66, 131))}
INSTANCE_SCANS = {f"{number:03d}" for number in range(1, 101)}
RSNA_ID = re.compile(r"(ID_[0-9a-f]+)_ID_[0-9a-f]+$")  # patient, then study


def _whole_mask(types: set[str]) -> dict:
    """Columns of a case whose mask draws blood of the stated types under one value, 1 or 255.

    One type alone names the mask. Of several, the mask tells none apart: blood that is not extra-axial counts under
    label 1, and a mask that mixes it with extra-axial blood cannot be used.
    """
    meanings = [TYPES[name] for name in TYPES if name in types]
    inside = [LABEL_NAMES[meaning] for meaning in meanings if isinstance(meaning, int)]
    reason = None
    if inside and len(inside) < len(meanings):
        reason = "subdural or epidural blood is drawn with the rest under one value: the mask cannot be split"
    return {
        "hemorrhage_type": None if not inside else inside[0] if len(inside) == 1 else "mixed",
        "extra_axial": len(inside) < len(meanings),
        "label_map": dict.fromkeys(("1", "255"), meanings[0] if len(meanings) == 1 else "unknown"),
        "reason": reason,
    }


def physionet(root: Path) -> Layout:
    """PhysioNet CT-ICH 1.3.1: binary masks (255), hemorrhage types by slice in a table of their own."""
    if any(root.rglob("Patients_CT")):
        raise ValueError("Patients_CT holds the JPEG images of an older version; wanted ct_scans and masks in NIfTI")
    folder = folder_with(root, "ct_scans", "masks", "hemorrhage_diagnosis_raw_ct.csv")
    listed = folder / "hemorrhage_diagnosis_raw_ct.csv"
    table = read_table(listed, ("PatientNumber", *TYPES, "No_Hemorrhage"))
    table["scan"] = table["PatientNumber"].str.removesuffix(".0").str.zfill(3)
    stated = {scan: _stated_types(rows) for scan, rows in table.groupby("scan")}
    people, notes = _physionet_people(folder)
    images, masks = nifti_files(folder / "ct_scans"), nifti_files(folder / "masks")
    rows = []
    for scan in sorted({*images, *masks}):
        types, reason = stated.get(scan, (set(), f"{listed.name} has no row of this scan"))
        age, sex, whole = people.get(scan, (None, None, None))
        if reason is None and whole is not None and whole != types:
            said = [", ".join(sorted(names)) or "none" for names in (types, whole)]
            reason = f"the tables contradict each other: hemorrhage by slice {said[0]}, by patient {said[1]}"
        if reason is None and not types:
            reason = f"no hemorrhage according to {listed.name}"
        known = _whole_mask(types)
        known["reason"] = reason or known["reason"]
        rows.append(case_row(scan, images.get(scan), masks.get(scan), **known, age=age, sex=sex))
    trauma = "all scans are of patients with a traumatic brain injury: none is known to be a spontaneous hemorrhage"
    notes = [trauma, *notes, *deviations("scans", set(images), PHYSIONET_SCANS)]
    notes += deviations("masks", set(masks), PHYSIONET_SCANS)
    return Layout(rows, notes, reasons={p: TABLE for p in folder.iterdir() if p.is_file()})


def _stated_types(rows: pd.DataFrame) -> tuple[set[str], str | None]:
    """Types that the rows of one scan name, and why they cannot be used."""
    flags = rows[[*TYPES, "No_Hemorrhage"]].apply(pd.to_numeric, errors="coerce")
    if not flags.isin([0, 1]).all(axis=None):
        return set(), "the table of diagnoses has fields that are neither 0 nor 1"
    named = flags[[*TYPES]].any(axis=1)
    wrong = int((named == flags["No_Hemorrhage"].eq(1)).sum())
    types = {name for name in TYPES if flags[name].any()}
    return types, f"the table of diagnoses contradicts itself on {wrong} slices" if wrong else None


def _physionet_people(folder: Path) -> tuple[dict[str, tuple], list[str]]:
    """Age, sex and hemorrhage types by scan; the five columns of types have one heading in common."""
    path = next((p for p in folder.iterdir() if p.name.lower() == "patient_demographics.csv"), None)
    if path is None:
        return {}, ["Patient_demographics.csv is missing: age and sex are not known"]
    table = read_table(path, ("Patient Number",))

    def column(start: str) -> str | None:
        return next((name for name in table.columns if name.lower().startswith(start)), None)

    first, age, sex = column("hemorrhage type"), column("age"), column("gender")
    people = {}
    for row in table.to_dict("records"):
        number = str(row["Patient Number"]).removesuffix(".0")
        if not number.isdigit():
            continue  # the second line of headings
        whole = None
        if first is not None:
            start = list(table.columns).index(first)
            cells = zip(DEMOGRAPHICS_ORDER, table.columns[start : start + 5], strict=True)
            whole = {name for name, cell in cells if pd.notna(row[cell]) and row[cell] not in ("0", "0.0")}
        people[number.zfill(3)] = (age_of(row.get(age)), sex_of(row.get(sex)), whole)
    return people, []


def instance(root: Path) -> Layout:
    """INSTANCE 2022: value 1 is blood of any type; nothing says which scans hold which type."""
    folder = folder_with(root, "data", "label")
    images, masks = nifti_files(folder / "data"), nifti_files(folder / "label")
    rows = [
        case_row(name, images.get(name), masks.get(name), label_map={"1": "unknown"})
        for name in sorted({*images, *masks})
    ]
    notes = [
        "the masks draw blood of every type, subdural and epidural too, under one value, and no table tells the "
        "types: extra-axial blood can neither be left out nor found",
        *deviations("training scans", set(images), INSTANCE_SCANS),
        *deviations("training masks", set(masks), INSTANCE_SCANS),
    ]
    unlabeled = "scan of the validation or test set, without a reference mask"
    return Layout(rows, notes, reasons={p: unlabeled for p in root.rglob("*.nii*")})


def bhsd(root: Path) -> Layout:
    """BHSD, the part with voxel labels: five types, two of them extra-axial."""
    folder = folder_with(root, "images", "ground truths")
    images, masks = nifti_files(folder / "images"), nifti_files(folder / "ground truths")
    rows = [_rsna_case(name, images.get(name), masks.get(name)) for name in sorted({*images, *masks})]
    notes = [*counted("scans", len(images), 192), *counted("masks", len(masks), 192), *_unnamed_patients(rows)]
    return Layout(rows, notes, reasons={p: "scan without voxel labels" for p in root.rglob("*.nii*")})


def _rsna_case(name: str, image: Path | None, mask: Path | None, **known) -> dict:
    patient = RSNA_ID.search(name)
    return case_row(name, image, mask, patient_id=patient[1] if patient else name, label_map=FIVE_TYPES, **known)


def _unnamed_patients(rows: list[dict]) -> list[str]:
    count = sum(not RSNA_ID.search(row["case_id"]) for row in rows)
    text = f"{count} names are not of the form ID_<patient>_ID_<study>: each counts as a patient of its own"
    return [text] if count else []


def mbh_seg(root: Path) -> Layout:
    """MBH-Seg of 2024 (imagesTr, labelsTr) or 2025 (a folder a case, outlines of several annotators)."""
    folders = sorted(p.parent for p in root.rglob("image.nii.gz") if not hidden(p, root))
    reasons = {p: "scan with labels by case only, or of a part without labels" for p in root.rglob("*.nii*")}
    if not folders:
        folder = folder_with(root, "imagesTr", "labelsTr")
        images = {name.removesuffix("_0000"): p for name, p in nifti_files(folder / "imagesTr").items()}
        masks = nifti_files(folder / "labelsTr")
        rows = [_rsna_case(name, images.get(name), masks.get(name)) for name in sorted({*images, *masks})]
        return Layout(rows, _unnamed_patients(rows), reasons=reasons)
    rows = []
    annotators: Counter[int] = Counter()
    for folder in folders:
        outlines = sorted(folder.glob("label_annot_*.nii.gz"), key=lambda p: (len(p.name), p.name))
        reasons |= dict.fromkeys(outlines[1:], "outline of another annotator of the same scan")
        annotators[len(outlines)] += 1
        rows.append(_rsna_case(folder.name, folder / "image.nii.gz", outlines[0] if outlines else None))
    counts = ", ".join(f"{cases} with {count}" for count, cases in sorted(annotators.items()))
    notes = [
        f"the reference is the outline of the annotator of lowest number; scans by number of annotators: {counts}",
        "the scans come from the same source as those of BHSD and may be the same: a study takes one of the two",
        *counted("scans with voxel labels", len(rows), 192),
        *_unnamed_patients(rows),
    ]
    return Layout(rows, notes, reasons=reasons)


def cq500(root: Path) -> Layout:
    """Seg-CQ500: binary masks, and the three readers' consensus on each type as probabilities in info.csv."""
    folder = folder_with(root, "info.csv")
    table = read_table(folder / "info.csv", ("name", *SHORT.values()))
    stated = {str(row["name"]): row for row in table.to_dict("records")}
    folders = {p.name: p for p in sorted(folder.iterdir()) if p.is_dir() and not hidden(p, folder)}
    rows = []
    for name in sorted({*folders, *stated}):
        files = nifti_files(folder / name) if name in folders else {}
        known = _cq500_types(stated.get(name))
        rows.append(case_row(name, files.get("CT"), files.get("ICH_mask"), **known))
    reasons = {p: "mask of the brain, not of blood" for p in folder.glob("*/brain.nii*")}
    notes = [
        "a type counts as present where info.csv gives it a probability above 0.5",
        *deviations("scans of info.csv", set(folders), set(stated)),
        *counted("scans", len(rows), 51),
    ]
    return Layout(rows, notes, reasons={folder / "info.csv": TABLE, **reasons})


def _cq500_types(row: dict | None) -> dict:
    if row is None:
        return {"reason": "info.csv has no row of this scan"}
    shares = {name: pd.to_numeric(row[short], errors="coerce") for name, short in SHORT.items()}
    if any(not 0 <= share <= 1 for share in shares.values()):
        return {"reason": "info.csv has fields that are no probability from 0 to 1"}
    types = {name for name, share in shares.items() if share > 0.5}
    known = _whole_mask(types)
    return known if types else {**known, "reason": "info.csv names no type of hemorrhage above 0.5"}
