"""Mask files to tables: volume and ABC/2 of each mask, and each prediction against its reference."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ich.abc2 import Variants, abc2_variants
from ich.components import Box, bounding_box, holes
from ich.hull import solidity
from ich.layouts import stem
from ich.nifti import is_nifti
from ich.overlap import overlap_by_label
from ich.parallel import each
from ich.scan import Grid, ScanError, check_same_grid, read_mask, said_of

COLUMNS = (
    "case_id", "volume_ml", "n_components", "largest_component_ml", "a_mm", "b_mm", "c_mm", "abc2_ml",
    "c_kothari_mm", "abc2_kothari_ml", "abc3_ml", "two_thirds_sh_ml", "b_width_mm", "abc2_width_ml",
    "abc2_components_ml", "abc2_filtered_ml", "index_slice", "solidity", "tilt_deg", "slice_spacing_mm",
    "header_volume_ml", "notes",
)  # fmt: skip
ABC2_SLACK = 0.1  # of ABC/2: more that small parts add to it is told
VOLUME_SLACK = 0.005  # header and slice normal may differ by this share before a note says so


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Predictions against references of the same file name.

    `cases` has one row per reference: volumes of both masks, ABC/2 on the reference, and `status`, which is
    "measured", "prediction missing" or "failed"; a case without a usable prediction stays in it. `metrics`
    has a row per measured case and label, "blood" being all labels together and the only one where no mask
    holds a label above 1; `failures` says why a file has none.
    """

    cases: pd.DataFrame
    metrics: pd.DataFrame
    failures: pd.DataFrame


def case_id_of(path: str | Path) -> str:
    """File name without `.nii` or `.nii.gz`."""
    return stem(Path(path))


def measure_mask(path: str | Path, label: int | None = None) -> dict:
    """Volume, components and every ABC/2 variant of one mask file; all labels count as lesion, or `label` alone.

    An empty mask gives 0.0 for every length and volume and says so in `notes`.

    Raises
    ------
    ScanError : the file cannot be read or measured.
    """
    mask, grid = read_mask(path)
    return {"case_id": case_id_of(path), **_columns(_lesion(mask, label) != 0, grid)}


def _lesion(mask: np.ndarray, label: int | None) -> np.ndarray:
    """The mask, or what of it bears one label."""
    return mask if label is None else np.where(mask == label, mask, 0)


def measure_masks(
    paths: Iterable[str | Path] | Mapping[str, Path], jobs: int = 1, label: int | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Table of `measure_mask` rows in the order of `paths`, and table of failures (case_id, reason).

    Parameters
    ----------
    paths : mask files by case id, or files alone, whose names are the case ids then.
    label : the one label that counts as lesion; None: all of them.

    Raises
    ------
    ValueError : two files give one case id.
    """
    files = paths if isinstance(paths, Mapping) else _by_case(paths)
    results = _each(measure_mask, [(path, label) for path in files.values()], jobs)
    rows = [row | {"case_id": case} for case, row in zip(files, results, strict=True) if isinstance(row, dict)]
    failures = [(case, row) for case, row in zip(files, results, strict=True) if isinstance(row, str)]
    return _table(rows, COLUMNS), _failure_table(failures)


def evaluate(
    references: dict[str, Path], predictions: dict[str, Path], jobs: int = 1, label: int | None = None
) -> Evaluation:
    """Every reference mask (case id -> file) against the prediction of the same case id; `label` as in
    `measure_masks`, of both."""
    pairs = [(path, predictions.get(case), label) for case, path in references.items()]
    results = _each(_evaluate, pairs, jobs)
    cases, metrics, failures = [], [], []
    for case, result in zip(references, results, strict=True):
        if isinstance(result, str):
            cases.append({"case_id": case, "status": "failed"})
            failures.append((case, result))
            continue
        row, overlaps, reason = result
        cases.append({"case_id": case, **row})
        metrics += [{"case_id": case, **overlap} for overlap in overlaps]
        if reason:
            failures.append((case, reason))
    failures += [(case, "prediction without a reference") for case in predictions if case not in references]
    frame = _table(cases, ("case_id", "status", "reference_ml", "predicted_ml", *COLUMNS[1:]))
    labels = pd.DataFrame(metrics) if metrics else pd.DataFrame(columns=["case_id", "label"], dtype="str")
    if not labels["label"].isin(("ventricular", "subarachnoid")).any():
        labels = labels[labels["label"] == "blood"]  # binary masks: label 1 names no type
    return Evaluation(frame, labels.reset_index(drop=True), _failure_table(failures))


def _evaluate(
    reference_path: Path, prediction_path: Path | None, label: int | None
) -> tuple[dict, list[dict], str | None]:
    """Row of the case, its rows of metrics, and why there are none."""
    reference, grid = read_mask(reference_path)
    reference = _lesion(reference, label)
    row = {"status": "prediction missing", "predicted_ml": float("nan"), **_columns(reference != 0, grid)}
    row["reference_ml"] = row["volume_ml"]
    if prediction_path is None:
        return row, [], f"prediction missing: no {reference_path.name} among the predictions"
    try:
        predicted, predicted_grid = read_mask(prediction_path)
        check_same_grid(case_id_of(reference_path), grid, predicted_grid)
    except ScanError as error:
        return row | {"status": "failed"}, [], f"prediction: {said_of(error, prediction_path)}"
    overlaps = overlap_by_label(
        reference,
        _lesion(predicted, label),
        grid.spacing_mm,
        grid.positions_mm,
        thickness_mm=grid.header_slice_spacing_mm,
        shear=grid.shear,
    )
    return row | {"status": "measured", "predicted_ml": overlaps[0]["predicted_ml"]}, overlaps, None


def _columns(lesion: np.ndarray, grid: Grid) -> dict:
    thickness_mm = grid.header_slice_spacing_mm
    variants = abc2_variants(lesion, grid.spacing_mm, grid.positions_mm, thickness_mm=thickness_mm)
    row = variants.row()
    box = bounding_box(lesion)
    area_mm2 = float(variants.whole.areas_mm2.sum())
    header_ml = area_mm2 * grid.header_slice_spacing_mm / 1000
    return row | {
        "solidity": solidity(lesion[box], grid.slice_weights_mm[box[2]]),
        "tilt_deg": grid.tilt_deg,
        "slice_spacing_mm": grid.slice_spacing_mm,
        "header_volume_ml": header_ml,
        "notes": "; ".join((*grid.notes, *_notes(lesion, box, variants, header_ml, grid))),
    }


def _notes(lesion: np.ndarray, box: Box, variants: Variants, header_ml: float, grid: Grid) -> list[str]:
    """What a reader of the row must know about this lesion."""
    volume_ml = variants.whole.volume_ml
    if volume_ml == 0:
        return ["mask is empty"]
    notes = []
    if abs(header_ml - volume_ml) > VOLUME_SLACK * volume_ml:
        more = 100 * (header_ml / volume_ml - 1)
        notes.append(f"the header's slice spacing would give {header_ml:.2f} ml ({more:+.1f} %)")
    if not grid.uniform and not any("unequal" in note for note in grid.notes):
        notes.append("slice distances are unequal")
    index = [0, -1]
    if lesion[index].any() or lesion[:, index].any():
        notes.append("lesion touches the edge of the field of view")
    if lesion[:, :, index].any():
        notes.append("lesion reaches the first or last slice")
    enclosed_ml = float(holes(lesion[box]) @ grid.voxel_ml[box[2]])
    if enclosed_ml:
        notes.append(f"lesion encloses {enclosed_ml:.2f} ml that is not outlined")
    filtered_ml = variants.row()["abc2_filtered_ml"]
    if filtered_ml > 0 and abs(variants.whole.abc2_ml - filtered_ml) > ABC2_SLACK * variants.whole.abc2_ml:
        notes.append(f"small parts stretch ABC/2: {filtered_ml:.1f} ml without them")
    if variants.whole.slices.size == 1:
        notes.append("lesion lies on one slice")
    return notes


def _each(measure, arguments: list[tuple], jobs: int) -> list:
    """Results in order; a file that cannot be measured gives the reason as text instead."""
    work = [(measure, *given) for given in arguments]
    return each(_or_reason, work, jobs, dead=lambda *given: "the process that read this file died")


def _or_reason(measure, *given):
    try:
        return measure(*given)
    except ScanError as error:
        return str(error)


def masks_in(folder: str | Path) -> dict[str, Path]:
    """Mask files of a folder by case id; of a folder that `ich segment` has filled, by the names of the scans.

    Raises
    ------
    ValueError : no such folder, no mask in it, or two files of one case id.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    found = sorted(path for path in folder.glob("[!.]*") if is_nifti(path))
    if not found and (folder / "key.csv").is_file():
        return _segmented(folder)
    if not found:
        raise ValueError(f"{folder}: holds no .nii or .nii.gz file")
    return _by_case(found)


def _segmented(folder: Path) -> dict[str, Path]:
    """Masks of `ich.batch.segment_all` by the name of the scan; a scan that failed has none."""
    key = pd.read_csv(folder / "key.csv", dtype="str")
    if list(key) != ["case", "scan"]:
        raise ValueError(f"{folder}: holds no .nii or .nii.gz file, and a key.csv that `ich segment` did not write")
    scans = key["scan"].map(case_id_of)
    if scans.duplicated().any():
        raise ValueError(f"{folder}: two scans of key.csv are named {scans[scans.duplicated()].iloc[0]}")
    masks = {scan: folder / case / "mask.nii.gz" for scan, case in zip(scans, key["case"], strict=True)}
    found = {scan: mask for scan, mask in masks.items() if mask.is_file()}
    if not found:
        raise ValueError(f"{folder}: none of the {len(masks)} scans of key.csv has a mask")
    return found


def _by_case(paths: Iterable[str | Path]) -> dict[str, Path]:
    found = [Path(path) for path in paths]
    count = Counter(case_id_of(path) for path in found)
    doubled = [case for case, n in count.items() if n > 1]
    if doubled:
        files = ", ".join(str(path) for path in found if case_id_of(path) in doubled)
        raise ValueError(f"case ids must be unique, doubled: {', '.join(doubled)} ({files})")
    return {case_id_of(path): path for path in found}


def _table(rows: list[dict], columns: tuple[str, ...]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=list(columns))
    return table.astype({"case_id": "str", "n_components": "Int64", "index_slice": "Int64"})


def _failure_table(failures: list[tuple[str, str]]) -> pd.DataFrame:
    return pd.DataFrame(failures, columns=["case_id", "reason"], dtype="str")


def study_tables(
    cases: pd.DataFrame, run_dir: Path, readers: dict[str, str], jobs: int = 1, label: int | None = None
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Measurements and metrics of a study's cases, each reader's masks against the reference.

    Parameters
    ----------
    cases : cohort rows with patient_id, hemorrhage_type, reference_mask and a column of masks per reader
        (paths from `run_dir`; empty where a reader has none).
    readers : name in the tables (`network`, `second_reader`) -> column of `cases`.
    label : the one label that counts as lesion, in every mask; None: all of them.

    Returns
    -------
    measurements : the table of `tables`; a missing prediction leaves `<reader>_ml` empty.
    metrics : one row per case, reader and label.
    failures : case_id, stage, reason.
    """
    about = cases[["case_id", "patient_id", "hemorrhage_type"]]
    references = {str(row.case_id): run_dir / str(row.reference_mask) for row in cases.itertuples()}
    measurements, metrics, failures = None, [], []
    for reader, column in readers.items():
        named = cases[cases[column].notna()]
        masks = {str(case): run_dir / str(path) for case, path in zip(named["case_id"], named[column], strict=True)}
        if not masks:
            continue
        found = evaluate(references, masks, jobs, label)
        if measurements is None:
            measurements = found.cases.drop(columns=["status", "predicted_ml", "volume_ml"], errors="ignore")
        volumes = found.cases[["case_id", "predicted_ml"]].rename(columns={"predicted_ml": f"{reader}_ml"})
        measurements = measurements.merge(volumes, on="case_id")
        metrics.append(found.metrics.assign(reader=reader))
        failures.append(found.failures.assign(stage=reader))
    if measurements is None:
        table, failed = measure_masks(references, jobs, label)
        measurements = table.rename(columns={"volume_ml": "reference_ml"})
        failures.append(failed.assign(stage="reference"))
    true = cases[["case_id", "true_volume_ml"]].rename(columns={"true_volume_ml": "true_ml"})
    measurements = measurements[measurements["reference_ml"].notna()]  # the others are among the failures
    measured = about.merge(measurements, on="case_id").merge(true, on="case_id")
    overlaps = about.merge(pd.concat(metrics), on="case_id") if metrics else pd.DataFrame()
    return measured, overlaps, pd.concat(failures)[["case_id", "stage", "reason"]]
