"""Cases of one's own: folders of masks and scans, or a manifest that lists them."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from ich.folders import UNREAD, files_below, hidden, real_path
from ich.given import case_table
from ich.layouts import NO_MASK, nifti_files, stem
from ich.nifti import is_nifti
from ich.pseudonyms import tells_who
from ich.tables import check_ids

MADE = ("source", "simulated", "included", "reason", "pseudonymous", "label_1_stated", "prediction")


def from_folders(masks: Path, images: Path | None, run_dir: Path, about: Path | None = None) -> pd.DataFrame:
    """Sources from a folder of NIfTI masks and, if there is one, a folder of scans of the same names.

    A scan is `<case>.nii.gz`, `<case>_0000.nii.gz` (nnU-Net) or a DICOM folder `<case>`. A table `about`,
    or else `scans.csv` beside the masks (case_id or scan_id, patient_id, and the optional columns of `from_manifest`),
    tells whose scan each is; without it every scan counts as its own patient. A scan or a row of the table without a
    mask has that as its `reason`, and so has a mask of another kind or in a subfolder.

    Raises
    ------
    ValueError
        The folder holds no mask, a name twice (.nii and .nii.gz), or the table lacks a mask of the folder or a needed
        column.
    """
    files = nifti_files(masks)
    if not files:
        raise ValueError(f"{masks.name}: no .nii or .nii.gz mask in this folder")
    scans = {} if images is None else _scans(images, files, masks)
    unread = _unread(masks, images, files)
    rows = pd.DataFrame({"case_id": list(files | scans | unread)})
    check_ids(rows["case_id"], masks.name)
    found = {"reference_mask": files} if images is None else {"reference_mask": files, "image": scans}
    for column, paths in found.items():
        named = [paths.get(case_id) for case_id in rows["case_id"]]
        rows[column] = [None if path is None else path_from_run(path, run_dir) for path in named]
    listed = about or masks / "scans.csv"
    if about or listed.is_file():
        rows = _join_listed(rows, listed, run_dir)
    else:
        rows["patient_id"] = rows["case_id"]
    rows["reason"] = [
        None if isinstance(mask, str) else unread.get(case_id, NO_MASK)
        for case_id, mask in zip(rows["case_id"], rows["reference_mask"], strict=True)
    ]
    return rows.assign(source=f"folder {masks.name}", simulated=False)


def from_manifest(path: Path, run_dir: Path) -> pd.DataFrame:
    """Sources from a CSV: case_id, reference_mask, and optionally patient_id, image, second_mask, scan_date,
    hemorrhage_type, site, split, age, sex and columns of one's own. Paths are relative to the CSV's folder.
    Of columns that tell who somebody is, and those that the study makes itself, `attrs` has a note in place of them.

    Raises
    ------
    ValueError
        A needed column is missing, a case is listed twice, or a type or split is unknown.
    """
    rows = _kept(case_table(path, ("case_id", "reference_mask")), path, run_dir, MADE)
    return rows.assign(source=f"manifest {path.name}", simulated=False)


def _kept(rows: pd.DataFrame, table: Path, run_dir: Path, made: tuple[str, ...]) -> pd.DataFrame:
    """What a cohort takes of a given table: paths from the run folder, and a note on every column that it leaves."""
    telling = [str(name) for name in rows if tells_who(str(name))]
    ours = [str(name) for name in rows if name in made]
    whys = ((telling, "as they may tell who a patient is"), (ours, "as the study finds out by itself"))
    notes = [f"{table.name}: columns left out, {why}: {', '.join(names)}" for names, why in whys if names]
    rows = rows.drop(columns=[*telling, *ours])
    for column in ("image", "reference_mask", "second_mask"):
        if column in rows:
            named = [_named(table, value) if isinstance(value, str) else None for value in rows[column]]
            rows[column] = [None if path is None else path_from_run(path, run_dir) for path in named]
    rows.attrs["notes"] = [*rows.attrs.get("notes", ()), *notes]
    return rows


def _named(table: Path, text: str) -> Path:
    """The file that a cell of a table names."""
    if "\0" in text:
        raise ValueError(f"{table.name}: {text!r} is no path")
    if "\\" in text:
        raise ValueError(f"{table.name}: path {text!r}: wanted / between folders")
    return table.parent / text


def path_from_run(path: Path, run_dir: Path) -> str:
    """Path as tables hold it, from the run folder: a report must not tell where on a machine the data lay."""
    return os.path.relpath(real_path(path), real_path(run_dir))


def _unread(masks: Path, images: Path | None, files: Mapping[str, Path]) -> dict[str, str]:
    """Files beside and below the masks that look like masks and are not read, by case id, with the reason."""
    found = {}
    for path in files_below(masks):
        place, case_id = path.relative_to(masks), path.name.partition(".")[0]
        if hidden(place) or case_id in files or (images is not None and path.is_relative_to(images)):
            continue
        if path.suffix.lower() in (*UNREAD, ".dcm"):
            found[case_id] = f"a {path.suffix} file is not read as a mask here: wanted NIfTI"
            found[case_id] += " (`ich cohort dicom` reads DICOM)" if path.suffix.lower() == ".dcm" else ""
        elif is_nifti(path) and len(place.parts) > 1:
            found[case_id] = "the mask lies in a subfolder: wanted all masks in one folder"
    return found


def _scans(images: Path, cases: Iterable[str], masks: Path) -> dict[str, Path]:
    """Scan of each case, and those of no case, which are left out as cases without a mask."""
    files = nifti_files(images)
    folders = {path.name: path for path in sorted(images.iterdir()) if path.is_dir() and path.name[0] != "."}
    scans = {}
    for case in cases:
        places = ((files, case), (files, f"{case}_0000"), (folders, case))
        there = next((place[name] for place, name in places if name in place), None)
        if there is not None:
            scans[case] = there
    numbered = any(stem(path) == f"{case}_0000" for case, path in scans.items())  # channels, as nnU-Net names them
    rest, used = {**folders, **files}, {masks, *scans.values()}
    for name in (name for name, path in rest.items() if path not in used):
        case = name.removesuffix("_0000") if numbered else name
        if not (numbered and re.search(r"_\d{4}$", case)):
            scans.setdefault(case, rest[name])
    return scans


def _join_listed(rows: pd.DataFrame, table: Path, run_dir: Path) -> pd.DataFrame:
    """What the table says of each case; a case that is only listed there has neither mask nor scan."""
    made = (*MADE, "image", "reference_mask")  # which the folders tell
    listed = _kept(case_table(table, ("case_id", "patient_id")), table, run_dir, made)
    masked = rows.loc[rows["reference_mask"].notna(), "case_id"]
    unlisted = masked[~masked.isin(listed["case_id"])]
    if len(unlisted):
        raise ValueError(f"{table.name}: {len(unlisted)} masks are not listed, the first is {unlisted.iloc[0]}")
    alone = listed.loc[~listed["case_id"].isin(rows["case_id"]), ["case_id"]]
    joined = pd.concat([rows, alone], ignore_index=True).merge(listed, on="case_id", how="left")
    joined["patient_id"] = joined["patient_id"].fillna(joined["case_id"])  # of scans that are not listed
    joined.attrs = listed.attrs
    return joined
