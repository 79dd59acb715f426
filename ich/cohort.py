"""From scans and masks to a checked cohort: geometry, volumes, exclusions with reasons, splits by patient."""

import os
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import pandas as pd

from ich import tables
from ich.comparison import volume_group
from ich.scan import ScanError, check_same_grid, read_mask, read_scan
from ich.tables import HEMORRHAGE_TYPES, LABELS, SPLITS

SOURCE_COLUMNS = [
    "case_id",
    "patient_id",
    "image",
    "reference_mask",
    "second_mask",
    "scan_date",
    "hemorrhage_type",
]


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
    or else `scans.csv` beside the masks (case_id or scan_id, patient_id, optionally hemorrhage_type and scan_date),
    tells whose scan each is; without it every scan counts as its own patient.

    Raises
    ------
    ValueError
        The folder holds no mask, or the table lacks a mask of the folder or a needed column.
    """
    files = {_stem(path): path for path in sorted(masks.iterdir()) if path.name.endswith((".nii", ".nii.gz"))}
    if not files:
        raise ValueError(f"{masks.name}: no .nii or .nii.gz mask in this folder")
    rows = pd.DataFrame({"case_id": list(files), "reference_mask": [path_from_run(p, run_dir) for p in files.values()]})
    if images is not None:
        rows["image"] = [_find_image(images, case_id, run_dir) for case_id in rows["case_id"]]
    listed = about or masks / "scans.csv"
    if about or listed.is_file():
        rows = _join_listed(rows, pd.read_csv(listed, dtype=str), listed.name)
    else:
        rows["patient_id"] = rows["case_id"]
    return rows.assign(source=f"folder {masks.name}", simulated=False)


def from_manifest(path: Path, run_dir: Path) -> pd.DataFrame:
    """Sources from a CSV: case_id, reference_mask, and optionally patient_id, image, second_mask, scan_date,
    hemorrhage_type and split. Paths are relative to the CSV's folder.

    Raises
    ------
    ValueError
        A needed column is missing, a case is listed twice, or a type or split is unknown.
    """
    rows = pd.read_csv(path, dtype=str)
    for column in ("case_id", "reference_mask"):
        if column not in rows:
            raise ValueError(f"{path.name}: no column {column!r}; found {', '.join(rows.columns)}")
    doubled = rows.loc[rows["case_id"].duplicated(), "case_id"]
    if len(doubled):
        raise ValueError(f"{path.name}: case {doubled.iloc[0]} is listed more than once")
    if "patient_id" not in rows:
        rows["patient_id"] = rows["case_id"]
    for column, allowed in (("hemorrhage_type", HEMORRHAGE_TYPES), ("split", SPLITS)):
        if column in rows:
            wrong = rows[rows[column].notna() & ~rows[column].isin(allowed)]
            if len(wrong):
                case = wrong.iloc[0]
                raise ValueError(
                    f"{path.name}: case {case.case_id}: {column} is {case[column]!r}, "
                    f"wanted one of {', '.join(allowed)}"
                )
    for column in ("image", "reference_mask", "second_mask"):
        if column in rows:
            rows[column] = [
                path_from_run(path.parent / value, run_dir) if isinstance(value, str) else None
                for value in rows[column]
            ]
    return rows.assign(source=f"manifest {path.name}", simulated=False)


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")


def path_from_run(path: Path, run_dir: Path) -> str:
    """Path as tables hold it, from the run folder: a report must not tell where on a machine the data lay."""
    return os.path.relpath(path.resolve(), run_dir.resolve())


def _find_image(images: Path, case_id: str, run_dir: Path) -> str | None:
    for name in (f"{case_id}.nii.gz", f"{case_id}_0000.nii.gz", f"{case_id}.nii", case_id):
        if (images / name).exists():
            return path_from_run(images / name, run_dir)
    return None


def _join_listed(rows: pd.DataFrame, listed: pd.DataFrame, name: str) -> pd.DataFrame:
    listed = listed.rename(columns={"scan_id": "case_id"})
    known = ["case_id", "patient_id", "hemorrhage_type", "scan_date"]
    listed = listed[[column for column in known if column in listed]]
    for column in ("case_id", "patient_id"):
        if column not in listed:
            raise ValueError(f"{name}: no column {column!r}; found {', '.join(listed.columns)}")
    unlisted = rows.loc[~rows["case_id"].isin(listed["case_id"]), "case_id"]
    if len(unlisted):
        raise ValueError(f"{name}: {len(unlisted)} masks are not listed, the first is {unlisted.iloc[0]}")
    return rows.merge(listed, on="case_id", how="left", validate="one_to_one")


@dataclass(frozen=True)
class _Checked:
    row: dict
    reason: str | None


def _type_of(volumes: dict[str, float], stated: object) -> str | None:
    """The stated type, else what the labels say; label 1 alone may be any type drawn as one label."""
    if isinstance(stated, str):
        return stated
    present = [name for name, volume in volumes.items() if volume > 0]
    if present == ["parenchymal"]:
        return None
    return present[0] if len(present) == 1 else "mixed"


def _check_case(case: dict, run_dir: Path, need_image: bool) -> _Checked:
    """Read one case; what is wrong with it becomes its reason."""
    row: dict = {}
    if not isinstance(case.get("reference_mask"), str):
        return _Checked(row, "no reference mask is named")
    if need_image and not isinstance(case.get("image"), str):
        return _Checked(row, "no scan was found for this mask")
    try:
        labels, grid = read_mask(run_dir / case["reference_mask"])
        row.update(
            n_slices=grid.shape[2],
            spacing_i_mm=grid.spacing_mm[0],
            spacing_j_mm=grid.spacing_mm[1],
            slice_spacing_mm=grid.slice_spacing_mm,
            slice_spacing_uniform=grid.uniform,
            header_slice_spacing_mm=grid.header_slice_spacing_mm,
            tilt_deg=grid.tilt_deg,
            geometry_note="; ".join(grid.notes) or None,
        )
        volumes = {name: grid.volume_ml(labels == label) for name, label in LABELS.items()}
        row.update({f"reference_{name}_ml": volume for name, volume in volumes.items()})
        row["reference_volume_ml"] = sum(volumes.values())
        row["hemorrhage_type"] = _type_of(volumes, case.get("hemorrhage_type"))
        if need_image:
            scan = read_scan(run_dir / case["image"])
            check_same_grid(case["case_id"], scan.grid, grid)
            row.update(hu_min=float(scan.hu.min()), hu_max=float(scan.hu.max()))
    except (ScanError, OSError) as error:
        return _Checked(row, _without_folder(str(error), run_dir))
    if row["reference_volume_ml"] == 0:
        return _Checked(row, "the reference mask is empty")
    return _Checked(row, None)


def _without_folder(message: str, run_dir: Path) -> str:
    """The message without the folders of this machine."""
    for folder in (run_dir.resolve(), run_dir):
        message = message.replace(f"{folder}{os.sep}", "")
    return message


def build(sources: pd.DataFrame, run_dir: Path, need_image: bool, jobs: int = -1) -> pd.DataFrame:
    """Read every case once and decide whether it is included.

    Parameters
    ----------
    sources : one row per case, from `embedded`, `from_folders` or `from_manifest`.
    need_image : whether a case without a readable scan on the mask's grid is excluded.

    Returns
    -------
    The cohort table of `tables`. Patient ids are replaced by running numbers in order of appearance.
    """
    cases = sources.to_dict("records")
    checked = joblib.Parallel(n_jobs=jobs)(joblib.delayed(_check_case)(case, run_dir, need_image) for case in cases)
    patients = {name: f"patient-{number:04d}" for number, name in enumerate(sources["patient_id"].unique(), 1)}
    rows = [
        {
            **case,
            **result.row,
            "patient_id": patients[case["patient_id"]],
            "included": result.reason is None,
            "reason": result.reason,
        }
        for case, result in zip(cases, checked, strict=True)
    ]
    return pd.DataFrame(rows)


def exclusions(cohort: pd.DataFrame) -> pd.DataFrame:
    """case_id, stage and reason of every case that is not included."""
    out = cohort.loc[~cohort["included"], ["case_id", "reason"]]
    return out.assign(stage="cohort")[["case_id", "stage", "reason"]]


def split(cohort: pd.DataFrame, shares: dict[str, float], seed: int) -> pd.DataFrame:
    """Assign the included cases to splits, whole patients at a time, stratified by type and volume group.

    Patients are sorted by stratum, shuffled within it, and dealt in turn to the split that is furthest behind its
    share; every stratum is thereby spread over the splits in proportion. A column `split` in the cohort wins.

    Parameters
    ----------
    shares : relative size of each split, such as the paper's 905, 156 and 162.

    Raises
    ------
    ValueError
        A patient stands in two splits, or a share is negative or all are zero.
    """
    cases = cohort[cohort["included"]]
    if "split" in cases and cases["split"].notna().any():
        unassigned = cases.loc[cases["split"].isna(), "case_id"]
        if len(unassigned):
            raise ValueError(f"case {unassigned.iloc[0]}: no split is given, while other cases have one")
        table = cases[["case_id", "patient_id", "split"]].reset_index(drop=True)
        check_splits(table)
        return table
    if min(shares.values()) < 0 or sum(shares.values()) <= 0:
        raise ValueError(f"shares of the splits are {shares}, wanted positive numbers")
    keyed = cases.assign(
        group=volume_group(cases["reference_volume_ml"]).astype(str), kind=cases["hemorrhage_type"].fillna("")
    )
    # A patient's stratum is that of the largest bleed.
    largest = keyed.sort_values("reference_volume_ml", ascending=False).drop_duplicates("patient_id")
    order = np.random.default_rng(seed).permutation(len(largest))
    patients = largest.sort_values("patient_id").iloc[order].sort_values(["kind", "group"], kind="stable")
    sizes = keyed.groupby("patient_id").size()

    total = sum(shares.values())
    given = dict.fromkeys(shares, 0)
    assigned: dict[str, str] = {}
    for patient in patients["patient_id"]:
        dealt = sum(given.values()) + sizes[patient]
        behind = {name: shares[name] / total * dealt - given[name] for name in shares}
        name = max(behind, key=lambda key: behind[key])
        given[name] += sizes[patient]
        assigned[patient] = name
    table = cases[["case_id", "patient_id"]].assign(split=cases["patient_id"].map(assigned)).reset_index(drop=True)
    check_splits(table)
    return table


def check_splits(splits: pd.DataFrame) -> None:
    """Raise ValueError naming the first patient that stands in two splits."""
    counts = splits.groupby("patient_id")["split"].nunique()
    if (counts > 1).any():
        patient = counts.index[counts > 1][0]
        rows = splits[splits["patient_id"] == patient]
        where = ", ".join(f"{row.case_id} in {row.split}" for row in rows.itertuples())
        raise ValueError(f"patient {patient} stands in more than one split: {where}")


def open_split(run_dir: Path, name: str) -> pd.DataFrame:
    """The included cases of one split with their cohort columns, checked once more for shared patients.

    Raises
    ------
    ValueError
        A patient stands in two splits, or the split has no case.
    """

    cohort = tables.read(run_dir / "tables" / "cohort.csv")
    splits = tables.read(run_dir / "tables" / "splits.csv")
    check_splits(splits)
    wanted = splits.loc[splits["split"] == name, ["case_id", "split"]]
    if wanted.empty:
        raise ValueError(f"split {name!r} has no case: {splits['split'].value_counts().to_dict()}")
    return cohort.drop(columns="split", errors="ignore").merge(wanted, on="case_id", validate="one_to_one")


def table_one(cohort: pd.DataFrame, splits: pd.DataFrame) -> pd.DataFrame:
    """Cases, patients and volume (mean ± SD, median, range) by type and split, with totals."""
    cases = cohort[cohort["included"]].drop(columns="split", errors="ignore").merge(
        splits[["case_id", "split"]], on="case_id", how="left"
    )  # fmt: skip
    cases["hemorrhage_type"] = cases["hemorrhage_type"].fillna("not stated")
    rows = []
    kinds = [kind for kind in (*HEMORRHAGE_TYPES, "not stated") if (cases["hemorrhage_type"] == kind).any()]
    for kind in (*kinds, "all"):
        of_kind = cases if kind == "all" else cases[cases["hemorrhage_type"] == kind]
        for part in (*[name for name in SPLITS if (cases["split"] == name).any()], "all"):
            chosen = of_kind if part == "all" else of_kind[of_kind["split"] == part]
            volume = chosen["reference_volume_ml"]
            rows.append(
                {
                    "hemorrhage_type": kind,
                    "split": part,
                    "cases": len(chosen),
                    "patients": chosen["patient_id"].nunique(),
                    "mean_ml": volume.mean(),
                    "sd_ml": volume.std(),
                    "median_ml": volume.median(),
                    "min_ml": volume.min(),
                    "max_ml": volume.max(),
                }
            )
    return pd.DataFrame(rows)


def flow(cohort: pd.DataFrame, splits: pd.DataFrame) -> pd.DataFrame:
    """Flow of cases: stage, n, excluded (reasons with counts), branch (whether the stage is one of the splits)."""
    reasons = cohort.loc[~cohort["included"], "reason"].value_counts()
    excluded = "\n".join(f"{count} excluded: {str(reason)[:70]}" for reason, count in reasons.items())
    rows = [
        {"stage": "cases found", "n": len(cohort), "excluded": excluded, "branch": False},
        {"stage": "cases included", "n": int(cohort["included"].sum()), "excluded": "", "branch": False},
    ]
    counts = splits["split"].value_counts()
    rows += [{"stage": name, "n": counts[name], "excluded": "", "branch": True} for name in SPLITS if name in counts]
    return pd.DataFrame(rows)
