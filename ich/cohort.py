"""From scans and masks to a checked cohort: geometry, volumes, quality, exclusions with reasons."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

import numpy as np
import pandas as pd

from ich.folders import real_path
from ich.given import own_patients
from ich.grid import Grid, as_acquired
from ich.layouts import NO_IMAGE
from ich.parallel import each
from ich.quality import EXCLUDING, QualityLimits, check_quality
from ich.scan import ScanError, check_same_grid, read_mask, read_scan, write_mask
from ich.tables import LABELS, SPLITS

EMPTY = "the reference mask is empty"  # by it `ich.detection` knows a scan without blood
MOST_REASONS = 4  # lines beside the flow of cases
STATED = ("hemorrhage_type", "reference_mask")  # what a case is given with, though reading it may change it


def embedded(run_dir: Path, n: int, seed: int, size: int, jobs: int = -1) -> pd.DataFrame:
    """Sources of the simulated cohort, rendered into `run_dir`/data on first use."""
    from ich.phantom import write_cohort  # imports torch; real studies never need it

    cases = write_cohort(run_dir / "data", n, seed, size, jobs)
    for column in ("image", "reference_mask", "second_mask"):
        cases[column] = "data/" + cases[column].astype(str)
    return cases.assign(source="embedded cohort", simulated=True)


@dataclass(frozen=True)
class _Checked:
    row: dict
    reason: str | None


def _type_of(volumes: dict[str, float], stated: object, label_1_stated: bool) -> str | None:
    """The stated type, else what the labels say; label 1 alone may be any type if nothing says what it means."""
    if isinstance(stated, str):
        return stated
    present = [name for name, volume in volumes.items() if volume > 0]
    if not present or (present == ["parenchymal"] and not label_1_stated):
        return None
    return present[0] if len(present) == 1 else "mixed"


def _died(
    case: dict, run_dir: Path, need_image: bool, excluding: tuple[str, ...], limits: QualityLimits | None
) -> _Checked:
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


def _check_case(
    case: dict, run_dir: Path, need_image: bool, excluding: tuple[str, ...], limits: QualityLimits | None
) -> _Checked:
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
                write_mask(run_dir / row["reference_mask"], labels, acquired)
            row.update(hu_min=float(scan.hu.min()), hu_max=float(scan.hu.max()), content=_content(scan.hu, scan.grid))
            quality = check_quality(scan, labels, limits)
            row.update(quality.row)
            row["quality_flags"] = "; ".join(f"{name}: {text}" for name, text in quality.flags.items()) or None
            row["quality_slices"] = json.dumps(quality.slices) if quality.slices else None
            stops = [f"{name}: {text}" for name, text in quality.flags.items() if name in excluding]
            if stops:
                return _Checked(row, "; ".join(stops))
    except (ScanError, OSError) as error:
        return _Checked(row, _without_folder(_without_names(str(error), case, run_dir), run_dir))
    if row["reference_volume_ml"] == 0:
        return _Checked(row, EMPTY)
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
    limits: QualityLimits | None = None,
    set_aside: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Read every case once and decide whether it is included.

    Parameters
    ----------
    sources : one row per case, from `embedded`, `ich.own_cases` or `ich.intake.take_in`; a `reason`
        that is already there excludes the case unread.
    need_image : whether a case without a readable scan on the mask's grid is excluded.
    excluding : quality checks of `ich.quality` that exclude a case; the others only flag it.
    limits : of these checks; None: as they are in `QualityLimits`.
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
    work = [(case, run_dir, need_image, excluding, limits) for case in cases]
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
