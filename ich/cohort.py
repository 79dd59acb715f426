"""From scans and masks to a checked cohort: geometry, volumes, quality, exclusions with reasons."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

import numpy as np
import pandas as pd

from ich.folders import UNREAD, files_below, hidden, real_path
from ich.given import case_table, own_patients
from ich.grid import Grid, as_acquired
from ich.layouts import NO_IMAGE, NO_MASK, nifti_files, stem
from ich.nifti import is_nifti
from ich.parallel import each
from ich.pseudonyms import tells_who
from ich.quality import EXCLUDING, check_quality
from ich.scan import ScanError, check_same_grid, read_mask, read_scan, write_mask
from ich.tables import LABELS, SPLITS, check_ids

MOST_REASONS = 4  # lines beside the flow of cases
STATED = ("hemorrhage_type", "reference_mask")  # what a case is given with, though reading it may change it
MADE = ("source", "simulated", "included", "reason", "pseudonymous", "label_1_stated", "prediction")


def embedded(run_dir: Path, n: int, seed: int, size: int, jobs: int = -1) -> pd.DataFrame:
    """Sources of the simulated cohort, rendered into `run_dir`/data on first use."""
    from ich.phantom import write_cohort  # imports torch; real studies never need it

    cases = write_cohort(run_dir / "data", n, seed, size, jobs)
    for column in ("image", "reference_mask", "second_mask"):
        cases[column] = "data/" + cases[column].astype(str)
    return cases.assign(source="embedded cohort", simulated=True)


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
    # realpath, as Path.resolve fails on links that lead in a circle
    return os.path.relpath(os.path.realpath(path), os.path.realpath(run_dir))


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


@dataclass(frozen=True)
class _Checked:
    row: dict
    reason: str | None


def _type_of(volumes: dict[str, float], stated: object, label_1_stated: bool) -> str | None:
    """The stated type, else what the labels say; label 1 alone may be any type if nothing says what it means."""
    if isinstance(stated, str):
        return stated
    present = [name for name, volume in volumes.items() if volume > 0]
    if present == ["parenchymal"] and not label_1_stated:
        return None
    return present[0] if len(present) == 1 else "mixed"


def _died(case: dict, run_dir: Path, need_image: bool, excluding: tuple[str, ...]) -> _Checked:
    return _Checked(
        {}, "the process that read this case died: a damaged file, too little memory or no end within ten minutes"
    )


def _content(pixels: np.ndarray, grid: Grid) -> str:
    """What makes two images the same one: pixels and slice positions, whatever the file around them."""
    digest = hashlib.sha256(np.ascontiguousarray(pixels).data)
    digest.update(np.round(grid.positions_mm, 2).tobytes())
    return digest.hexdigest()


def _outlined(case: dict, labels: np.ndarray, grid: Grid) -> dict:
    """Columns of the cohort table that tell of the reference mask."""
    volumes = {name: grid.volume_ml(labels == label) for name, label in LABELS.items()}
    return {
        "n_slices": grid.shape[2],
        "spacing_i_mm": grid.spacing_mm[0],
        "spacing_j_mm": grid.spacing_mm[1],
        "slice_spacing_mm": grid.slice_spacing_mm,
        "slice_spacing_uniform": grid.uniform,
        "header_slice_spacing_mm": grid.header_slice_spacing_mm,
        "tilt_deg": grid.tilt_deg,
        "geometry_note": "; ".join(grid.notes) or None,
        **{f"reference_{name}_ml": volume for name, volume in volumes.items()},
        "reference_volume_ml": sum(volumes.values()),
        "hemorrhage_type": _type_of(volumes, case.get("hemorrhage_type"), case.get("label_1_stated") is True),
    }


def _check_case(case: dict, run_dir: Path, need_image: bool, excluding: tuple[str, ...]) -> _Checked:
    """Read one case; what is wrong with it becomes its reason."""
    row: dict = {}
    if isinstance(case.get("reason"), str):
        return _Checked(row, case["reason"])
    if not isinstance(case.get("reference_mask"), str):
        return _Checked(row, "no reference mask is named")
    if need_image and not isinstance(case.get("image"), str):
        return _Checked(row, NO_IMAGE)
    try:
        labels, grid = read_mask(run_dir / case["reference_mask"])
        row.update(_outlined(case, labels, grid), content=_content(labels, grid))
        if need_image:
            scan = read_scan(run_dir / case["image"])
            check_same_grid(case["case_id"], scan.grid, grid)
            acquired = as_acquired(grid, scan.grid)
            if acquired is not grid:
                row.update(
                    _outlined(case, labels, acquired), reference_mask=f"data/masks_as_acquired/{case['case_id']}.nii.gz"
                )
                (run_dir / row["reference_mask"]).parent.mkdir(parents=True, exist_ok=True)
                write_mask(run_dir / row["reference_mask"], labels, acquired)
            row.update(hu_min=float(scan.hu.min()), hu_max=float(scan.hu.max()), content=_content(scan.hu, scan.grid))
            quality = check_quality(scan, labels)
            row.update(quality.row)
            row["quality_flags"] = "; ".join(f"{name}: {text}" for name, text in quality.flags.items()) or None
            row["quality_slices"] = json.dumps(quality.slices) if quality.slices else None
            stops = [f"{name}: {text}" for name, text in quality.flags.items() if name in excluding]
            if stops:
                return _Checked(row, "; ".join(stops))
    except (ScanError, OSError) as error:
        return _Checked(row, _without_folder(_without_names(str(error), case, run_dir), run_dir))
    if row["reference_volume_ml"] == 0:
        return _Checked(row, "the reference mask is empty")
    return _Checked(row, None)


def _without_names(message: str, case: dict, run_dir: Path) -> str:
    """The message with what each file is in place of its path, which may name a patient."""
    roles = (("reference_mask", "the mask"), ("image", "the scan"))
    files = {word: run_dir / case[column] for column, word in roles if isinstance(case.get(column), str)}
    for word, path in files.items():
        for form in (real_path(path), path, os.path.relpath(path, run_dir)):
            message = message.replace(str(form), word)
    for word, path in files.items():  # names last: a scan and its mask may share one
        message = message.replace(path.name, word) if "." in path.name else message
    return message


def _without_folder(message: str, run_dir: Path) -> str:
    """The message without the folders of this machine."""
    for folder in (real_path(run_dir), run_dir):
        message = message.replace(f"{folder}{os.sep}", "")
    return message


def build(
    sources: pd.DataFrame,
    run_dir: Path,
    need_image: bool,
    jobs: int = -1,
    *,
    excluding: tuple[str, ...] = EXCLUDING,
    set_aside: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Read every case once and decide whether it is included.

    Parameters
    ----------
    sources : one row per case, from `embedded`, `from_folders`, `from_manifest` or `ich.intake.take_in`; a `reason`
        that is already there excludes the case unread.
    need_image : whether a case without a readable scan on the mask's grid is excluded.
    excluding : quality checks of `ich.quality` that exclude a case; the others only flag it.
    set_aside : case_id and reason of cases that an analyst has looked at and left out.

    Returns
    -------
    The cohort table of `tables`. A case without a patient id is its own patient. Patient ids that are no pseudonyms
    yet are replaced by running numbers in order of appearance. Of several cases with the same pixels the first is kept.
    What is measured here is not taken from `sources`; a note in `attrs` names such columns, after those of `sources`.

    Raises
    ------
    ValueError
        A case that is set aside is not in the cohort, or has no reason.
    """
    sources = own_patients(sources)
    cases = sources.to_dict("records")
    work = [(case, run_dir, need_image, excluding) for case in cases]
    checked = each(_check_case, work, jobs, what="cases", dead=_died)
    patients = {name: f"patient-{number:04d}" for number, name in enumerate(sources["patient_id"].unique(), 1)}
    if "pseudonymous" in sources and sources["pseudonymous"].all():
        patients = {name: name for name in patients}
    measured = {name for result in checked for name in result.row} - set(STATED)
    double = [str(name) for name in sources if name in measured]
    table = pd.DataFrame(
        [
            {
                **case,
                **dict.fromkeys(double),
                **result.row,
                "patient_id": patients[case["patient_id"]],
                "reason": result.reason,
            }
            for case, result in zip(cases, checked, strict=True)
        ]
    ).drop(columns=["pseudonymous", "label_1_stated"], errors="ignore")
    _exclude_doubled(table)
    if set_aside is not None:
        _set_aside(table, set_aside)
    said = [f"columns left out, as they are measured here: {', '.join(double)}"] if double else []
    table.attrs["notes"] = [*sources.attrs.get("notes", ()), *said]
    return table.assign(included=table["reason"].isna())


def _exclude_doubled(table: pd.DataFrame) -> None:
    """One image exported twice is one case: the later ones get a reason that names the first."""
    if "content" not in table:
        return
    kept = table[table["reason"].isna() & table["content"].notna()]
    first = kept.groupby("content")["case_id"].transform("first")
    doubled = kept.index[kept["case_id"] != first]
    table.loc[doubled, "reason"] = "the same pixels as case " + first[doubled]


def _set_aside(table: pd.DataFrame, chosen: pd.DataFrame) -> None:
    lacking = [name for name in ("case_id", "reason") if name not in chosen]
    if lacking:
        have = ", ".join(map(str, chosen.columns))
        raise ValueError(f"cases set aside: no column {', '.join(lacking)}; found {have}")
    for row in chosen.itertuples():
        found = table["case_id"] == str(row.case_id)
        if not found.any():
            first = table["case_id"].iloc[0]
            raise ValueError(
                f"cases set aside: case {row.case_id} is not in the cohort; wanted ids as cohort.csv has them, such as "
                f"{first} (of pseudonyms data/key.csv tells the cases)"
            )
        if not isinstance(row.reason, str) or not row.reason.strip():
            raise ValueError(f"cases set aside: case {row.case_id} has no reason")
        table.loc[found & table["reason"].isna(), "reason"] = f"set aside: {row.reason.strip()}"


def exclusions(cohort: pd.DataFrame) -> pd.DataFrame:
    """case_id, stage and reason of every case that is not included."""
    out = cohort.loc[~cohort["included"], ["case_id", "reason"]]
    return out.assign(stage="cohort")[["case_id", "stage", "reason"]]


def flow(cohort: pd.DataFrame, splits: pd.DataFrame) -> pd.DataFrame:
    """Flow of cases: stage, n, excluded (the most frequent reasons with counts), branch (whether one of the splits)."""
    told = cohort.loc[~cohort["included"], "reason"].astype("str")
    kinds = told.str.replace(r"\d+(\.\d+)?", "…", regex=True)  # one reason with other numbers is one
    reasons = sorted(
        (
            (len(same), same.iloc[0] if len(set(same)) == 1 else str(kind))
            for kind, same in told.groupby(kinds, sort=False)
        ),
        reverse=True,
    )
    shown = reasons if len(reasons) <= MOST_REASONS else reasons[: MOST_REASONS - 1]
    lines = [f"{count} excluded: {shorten(reason, 90, placeholder=' …')}" for count, reason in shown]
    if others := reasons[len(shown) :]:
        lines.append(f"{sum(count for count, _ in others)} excluded for {len(others)} other reasons")
    excluded = "\n".join(lines)
    rows = [
        {"stage": "cases found", "n": len(cohort), "excluded": excluded, "branch": False},
        {"stage": "cases included", "n": int(cohort["included"].sum()), "excluded": "", "branch": False},
    ]
    counts = splits["split"].value_counts()
    rows += [{"stage": name, "n": counts[name], "excluded": "", "branch": True} for name in SPLITS if name in counts]
    return pd.DataFrame(rows)
