"""A dataset's cases into a run folder: pseudonyms, links to the scans, masks with the study's labels.

What is put into `data/` of the run belongs to this machine alone: links that lead to the scans and the key of the
pseudonyms. Everything else in the run folder may be shared.
"""

import json
import os
import shutil
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from ich.dicom_masks import is_dicom_mask, read_dicom_mask
from ich.folders import real_path
from ich.nifti import read_values
from ich.parallel import each
from ich.pseudonyms import days_shifted, pseudonym, study_salt
from ich.scan import ScanError, write_mask
from ich.series import choose_series
from ich.sources import Found
from ich.tables import write_plain

EXTRA_AXIAL = ("subdural", "epidural")
EXTRA_AXIAL_REASON = "subdural or epidural blood: not spontaneous intracerebral hemorrhage"


def take_in(
    found: Found, run_dir: Path, *, extra_axial: bool = False, jobs: int = 1
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Bring the cases of a dataset into `run_dir`/data; the dataset's own files are only read.

    Parameters
    ----------
    found : of `ich.sources.find_cases`.
    extra_axial : keep cases that also hold subdural or epidural blood; that blood itself is never part of a mask.

    Returns
    -------
    sources : rows for `ich.cohort.build`, with `reason` where a case cannot be used.
    people : case_id, age, sex, for aggregated tables; never written.
    """
    salt = None if found.kind.public_ids else study_salt(run_dir)
    ids = _identities(found, salt)
    rows = found.cases.to_dict("records")
    work = [(row, case_id, run_dir) for row, case_id in zip(rows, ids["case_id"], strict=True)]
    taken = each(_take, work, jobs, what="cases taken in", dead=_died)
    sources = ids.assign(
        **{name: found.cases[name].to_numpy() for name in ("hemorrhage_type", "split", "site")},
        scan_date=found.cases["scan_date"].map(lambda day: _shifted(day, salt)).to_numpy(),
        source=found.kind.title,
        simulated=found.kind.simulated,
        pseudonymous=True,
    ).join(pd.DataFrame(taken, index=ids.index))
    outside = (sources["extra_axial_ml"].fillna(0) > 0) | found.cases["extra_axial"].to_numpy()
    if not extra_axial:
        sources.loc[outside & sources["reason"].isna(), "reason"] = EXTRA_AXIAL_REASON
    people = pd.DataFrame({"case_id": ids["case_id"], **{n: found.cases[n].to_numpy() for n in ("age", "sex")}})
    _write_key(found, ids, run_dir)
    return sources, people


def _identities(found: Found, salt: bytes | None) -> pd.DataFrame:
    """case_id and patient_id as tables hold them: published ones as they are, others as pseudonyms."""
    given = found.cases[["case_id", "patient_id"]].astype(str).reset_index(drop=True)
    if salt is None:
        return given
    return pd.DataFrame(
        {
            "case_id": [pseudonym("case", each_id, salt) for each_id in given["case_id"]],
            "patient_id": [pseudonym("patient", each_id, salt) for each_id in given["patient_id"]],
        }
    )


def _shifted(scan_date: str | None, salt: bytes | None) -> str | None:
    """A date that names no day of a hospital's: all of the study's are moved by the same secret number of days."""
    if salt is None or not isinstance(scan_date, str):
        return scan_date
    return (date.fromisoformat(scan_date[:10]) - timedelta(days=days_shifted(salt))).isoformat()


def _write_key(found: Found, ids: pd.DataFrame, run_dir: Path) -> None:
    """Which case is which, and every file that is no case: beside the links, for whoever has the dataset anyway."""
    key = ids.rename(columns={"case_id": "pseudonym", "patient_id": "patient_pseudonym"})
    own = found.cases[["case_id", "patient_id", "scan_date", "image", "reference_mask"]].reset_index(drop=True)
    write_plain(key.join(own), run_dir / "data" / "key.csv")
    write_plain(found.left_out, run_dir / "data" / "files_left_out.csv")


def _died(row: dict, case_id: str, run_dir: Path) -> dict:
    return _result(
        reason="the process that took this case in died: a damaged file, too little memory or no end within ten minutes"
    )


def _result(**known) -> dict:
    names = ("image", "reference_mask", "second_mask", "extra_axial_ml", "mask_note", "label_1_stated", "reason")
    return dict.fromkeys(names) | known


def _take(row: dict, case_id: str, run_dir: Path) -> dict:
    """Links and masks of one case, as columns of `sources`."""
    result = _result(reason=row["reason"] if isinstance(row["reason"], str) else None)
    try:
        if isinstance(row["image"], str):
            result["image"] = _link_scan(Path(row["image"]), row["files"], case_id, run_dir)
        if isinstance(row["reference_mask"], str):
            taken = _take_mask(row, "reference_mask", "masks", result["image"], case_id, run_dir)
            result |= {"reference_mask": taken.path, "extra_axial_ml": taken.extra_axial_ml, "mask_note": taken.note}
            result["label_1_stated"] = taken.label_1_stated
        if isinstance(row["second_mask"], str):
            result["second_mask"] = _take_mask(
                row, "second_mask", "second_reader", result["image"], case_id, run_dir
            ).path
    except (ScanError, OSError) as error:
        result["reason"] = result["reason"] or _without_paths(str(error), row, case_id, run_dir)
    return result


def _without_paths(message: str, row: dict, case_id: str, run_dir: Path) -> str:
    """A message may name files; folders and names of the source stay out of the tables."""
    message = message.replace(f"{run_dir}{os.sep}", "")
    named = {name: Path(row[name]) for name in ("image", "reference_mask", "second_mask") if isinstance(row[name], str)}
    for text_of in (str, lambda path: path.name):  # whole paths first: a scan and its mask may share the name
        for name, path in named.items():
            message = message.replace(text_of(path), f"{name.replace('_', ' ')} of {case_id}")
    return message


def _link_scan(image: Path, files: tuple[Path, ...] | None, case_id: str, run_dir: Path) -> str:
    """Link a NIfTI file, or each file of a DICOM series, below data/images; returns the path from the run folder."""
    folder = run_dir / "data" / "images"
    if files:
        for number, path in enumerate(files, 1):
            _link(path, folder / case_id / f"{number:04d}.dcm")
        return f"data/images/{case_id}"
    ending = next((end for end in (".nii.gz", ".nii") if image.name.lower().endswith(end)), None)
    if ending is None:
        raise ScanError(f"{image}: wanted a .nii or .nii.gz file, or the folder of a DICOM series")
    _link(image, folder / f"{case_id}{ending}")
    return f"data/images/{case_id}{ending}"


def _link(target: Path, link: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    try:
        link.symlink_to(real_path(target))
    except OSError:
        shutil.copy2(target, link)  # file systems without links


@dataclass(frozen=True)
class _Taken:
    """A mask in the run folder."""

    path: str  # from the run folder
    extra_axial_ml: float | None = None  # subdural and epidural blood that was left out of it
    note: str | None = None
    label_1_stated: bool = False  # whether all of label 1 is said to be parenchymal blood


def _take_mask(row: dict, name: str, into: str, image: str | None, case_id: str, run_dir: Path) -> _Taken:
    """The mask below data/`into` with labels 1 parenchymal, 2 ventricular, 3 subarachnoid."""
    mask = Path(row[name])
    notes: tuple[str, ...] = ()
    label_map = json.loads(row["label_map"]) if isinstance(row["label_map"], str) else None
    if is_dicom_mask(mask):
        if image is None:
            raise ScanError(f"{mask}: the series it was drawn on was not found")
        drawn = read_dicom_mask(mask, choose_series(run_dir / image), label_map)
        if drawn.automatic:
            raise ScanError(f"{mask}: a program made it (SegmentAlgorithmType AUTOMATIC), wanted a reader's outline")
        labels, outside, grid, notes = drawn.labels, drawn.extra_axial, drawn.grid, drawn.notes
        untyped = drawn.untyped
    elif label_map is None:
        ending = ".nii.gz" if mask.name.lower().endswith(".nii.gz") else ".nii"
        path = f"data/{into}/{case_id}{ending}"
        _link(mask, run_dir / path)
        return _Taken(path)
    else:
        values, grid = read_values(mask)
        labels, outside, untyped = _mapped(values, label_map, mask)
    path = f"data/{into}/{case_id}.nii.gz"
    write_mask(run_dir / path, labels, grid)  # in the place of an earlier link, never through it
    return _Taken(path, grid.volume_ml(outside), "; ".join(notes) or None, not untyped)


def _mapped(values: np.ndarray, names: dict[str, int | str], mask: Path) -> tuple[np.ndarray, np.ndarray, bool]:
    """Labels 0..3 and extra-axial blood of a dataset's own numbers, and whether blood of unknown type is in label 1."""
    untyped = False
    labels, outside = np.zeros(values.shape, np.uint8), np.zeros(values.shape, bool)
    for value in np.unique(values):
        meant = names.get(str(value), 0 if value == 0 else None)
        if meant is None:
            known = ", ".join(names)
            raise ScanError(f"{mask}: mask holds the value {value}; the dataset's labels are {known}")
        if meant in EXTRA_AXIAL:
            outside |= values == value
        else:
            labels[values == value] = 1 if meant == "unknown" else int(meant)
            untyped |= meant == "unknown"
    return labels, outside, untyped
