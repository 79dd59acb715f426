"""Many scans in one call: weights loaded once, a table of all, a failure stops nothing."""

from pathlib import Path

import pandas as pd
from tqdm import tqdm

from ich.case import Weights, segment
from ich.model import SHIPPED_WEIGHTS
from ich.scan import ScanError, find_series
from ich.tables import write_plain

COLUMNS = ["case", "volume_ml", "parenchymal_ml", "ventricular_ml", "subarachnoid_ml", "interval_low_ml",
           "interval_high_ml", "abc2_ml", "slice_mm", "tilt_deg", "warnings", "reason"]  # fmt: skip


def scans_in(path: Path) -> list[Path]:
    """The scans that a path names: a file or a DICOM series itself, else the NIfTI files or subfolders of a folder.

    Raises
    ------
    ScanError : the folder is missing or holds no scan.
    """
    if not path.is_dir():
        return [path]
    files = sorted(each for each in path.iterdir() if each.name.endswith((".nii", ".nii.gz")))
    if files:
        return files
    if any(each.is_file() and not each.name.startswith(".") for each in path.iterdir()):
        return [path]
    folders = sorted(each for each in path.iterdir() if each.is_dir())
    if len(folders) < 2 or sum(part.kept for part in find_series(path)) < 2:
        return [path]  # one patient's export: scout, summary and one series
    return folders


def segment_all(scans: list[Path], out: Path, weights: Path = SHIPPED_WEIGHTS, device: str = "auto") -> pd.DataFrame:
    """Segment each scan into `out`/case-001, case-002, ... and write `out`/summary.csv and `out`/key.csv.

    Folders are numbered because names of scans may tell of patients; key.csv alone tells which is which.

    Returns
    -------
    The summary, one row per scan in order; `reason` is set where there is no result.
    """
    loaded = Weights.load(weights, device)
    rows, key = [], []
    for number, scan in enumerate(tqdm(scans, desc="scans"), start=1):
        name = f"case-{number:03d}"
        key.append({"case": name, "scan": str(scan)})
        try:
            rows.append({"case": name} | _row(segment(scan, out / name, loaded)))
        except (ScanError, OSError, ValueError, RuntimeError) as error:
            rows.append({"case": name, "reason": str(error).replace(str(scan), name)})
        # Written anew each time: a machine that stops leaves what was done.
        summary = pd.DataFrame(rows, columns=COLUMNS)
        write_plain(summary, out / "summary.csv")
        write_plain(pd.DataFrame(key), out / "key.csv")
    return summary


def _row(result: dict) -> dict:
    low, high = result["volume_interval_ml"] or (None, None)
    return {
        "volume_ml": result["volume_ml"],
        **{f"{name}_ml": volume for name, volume in result["volume_ml_by_label"].items()},
        "interval_low_ml": low,
        "interval_high_ml": high,
        "abc2_ml": result["abc2"]["abc2_ml"],
        "slice_mm": result["spacing"]["slice_mm"],
        "tilt_deg": result["tilt_deg"],
        "warnings": "; ".join(result["warnings"]),
    }
