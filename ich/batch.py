"""Many scans in one call: weights loaded once, a table of all, a failure stops nothing."""

import json
import math
import time
from itertools import cycle
from pathlib import Path

import pandas as pd
import torch

from ich.atomic import locked
from ich.case_files import segment
from ich.folders import UNREAD, files_below, hidden
from ich.gpu import devices, out_of_memory, processes
from ich.model import SHIPPED_WEIGHTS, choose_device
from ich.nifti import is_nifti
from ich.parallel import each
from ich.predict import ready
from ich.provenance import file_hash
from ich.scan import ScanError, find_series
from ich.slices import DAMAGED, read_slices
from ich.tables import write_plain

COLUMNS = ["case", "volume_ml", "parenchymal_ml", "ventricular_ml", "subarachnoid_ml", "interval_low_ml",
           "interval_high_ml", "abc2_ml", "slice_mm", "tilt_deg", "warnings", "mask_sha256", "reason"]  # fmt: skip
WRITE_EVERY_S = 2.0  # the summary of a batch, and at its end


def scans_in(path: Path) -> list[Path]:
    """The scans that a path names: a file or a DICOM series itself, else the images and subfolders of a folder.

    NIfTI files count wherever below the folder they lie, and so do images of kinds that cannot be read, whose row of
    the summary says so. Files that are no images, such as a DICOMDIR or a text, are passed over, and so are masks of
    earlier calls.

    Raises
    ------
    ScanError : the folder is missing or holds no scan.
    """
    if not path.is_dir():
        return [path]
    visible = sorted(each for each in path.iterdir() if not each.name.startswith("."))
    images = [each for each in files_below(path) if _is_image(each) and not hidden(each.relative_to(path))]
    others = (each for each in set(visible).difference(images) if each.is_file())
    if any(image.kind != DAMAGED for each in others for image in read_slices(each)):
        return [*images, path]  # the images of a series lie here
    folders = [each for each in visible if each.is_dir()]
    if images:
        return [*images, *(each for each in folders if _holds_scan(each))]
    if len(folders) < 2:
        return [path]
    found = find_series(path)
    patients = {(part.slices[0].patient, part.slices[0].study) for part in found if part.slices[0].kind == "image"}
    if sum(part.kept for part in found) < 2 and len(patients) < 2:
        return [path]  # one patient's export: scout, summary and one series
    return folders


def _is_image(path: Path) -> bool:
    """Whether a file is named as an image of volumes, and is not the mask that a case has beside its case.json."""
    if path.name == "mask.nii.gz" and path.with_name("case.json").is_file():
        return False
    return is_nifti(path) or path.suffix.lower() in UNREAD


def _holds_scan(folder: Path) -> bool:
    return any(True for path in files_below(folder) if not _is_image(path) for _ in read_slices(path))


def segment_all(
    scans: list[Path],
    out: Path,
    weights: Path = SHIPPED_WEIGHTS,
    device: str = "auto",
    jobs: int = 1,
    resume: bool = False,
) -> pd.DataFrame:
    """Segment each scan into `out`/case-001, case-002, ... and write `out`/summary.csv and `out`/key.csv.

    Folders are numbered because names of scans may tell of patients; key.csv alone tells which is which.

    Parameters
    ----------
    jobs : processes, each with the network; `ich.gpu.processes` says how many share a GPU.
    resume : take up what an earlier call with the same weights has done, after checking each mask's SHA-256 and that no
        file of its scan is newer; scans that it did not have come after its own. Without it all are done again.

    Returns
    -------
    The summary, one row per scan in the order of key.csv; `reason` is set where there is no result.

    Raises
    ------
    ValueError : the folder holds results of other scans.
    TimeoutError : another process writes into it.
    """
    out.mkdir(parents=True, exist_ok=True)
    with locked(out / ".lock", str(out)):
        return _segment_all(scans, out, weights, device, jobs, resume)


def _segment_all(scans: list[Path], out: Path, weights: Path, device: str, jobs: int, resume: bool) -> pd.DataFrame:
    jobs = processes(choose_device(device), jobs)
    places = devices(choose_device(device), jobs)
    card = ready(weights, places[0]).card  # weights that cannot be used are no fault of a scan
    if resume and (known := _scans_before(out)):
        given = {str(scan): scan for scan in scans}
        scans = [given[scan] for scan in known if scan in given] + [given[scan] for scan in given if scan not in known]
    names = [f"case-{number:03d}" for number in range(1, len(scans) + 1)]
    key = pd.DataFrame({"case": names, "scan": [str(scan) for scan in scans]})
    _check_folder(out, key)
    rows = _done_before(out, key, card["sha256"]) if resume else {}
    write_plain(key, out / "key.csv")
    left = [number for number in range(len(scans)) if number not in rows]

    written_at = -math.inf

    def write_summary() -> pd.DataFrame:
        nonlocal written_at
        summary = pd.DataFrame([rows[done] for done in sorted(rows)], columns=COLUMNS)
        write_plain(summary, out / "summary.csv")
        written_at = time.monotonic()
        return summary

    def keep(place: int, row: dict) -> None:
        rows[left[place]] = row
        # A machine that stops leaves what was done; thousands of rows are not written for each scan.
        if time.monotonic() - written_at > WRITE_EVERY_S:
            write_summary()

    work = [
        (scans[number], out, names[number], weights, place) for number, place in zip(left, cycle(places), strict=False)
    ]
    try:
        each(_segment, work, jobs, what="scans", dead=_died, done=keep)
    finally:
        summary = write_summary()
    return summary


def _scans_before(out: Path) -> list[str]:
    """The scans of an earlier call in their order."""
    return list(pd.read_csv(out / "key.csv", dtype=str)["scan"]) if (out / "key.csv").is_file() else []


def _check_folder(out: Path, key: pd.DataFrame) -> None:
    """Refuse a folder of other scans: case-001 of one patient would stand beside what is left of another's."""
    if before := _scans_before(out):
        if before != list(key["scan"].head(len(before))):
            raise ValueError(f"{out}: key.csv lists other scans than these: choose another folder")
    elif (out / "summary.csv").exists():
        raise ValueError(f"{out}: holds a summary.csv that is not of these scans: choose another folder")


def _done_before(out: Path, key: pd.DataFrame, weights_sha256: str) -> dict[int, dict]:
    """Rows of an interrupted call whose masks are still what they were, by number."""
    path = out / "summary.csv"
    if not path.is_file():
        return {}
    try:
        summary = pd.read_csv(path, dtype={"case": str, "mask_sha256": str, "reason": str})
    except ValueError as error:
        raise ValueError(f"{path}: not a table ({error}): remove it, or leave out --resume") from error
    if list(summary) != COLUMNS:
        raise ValueError(f"{path}: its columns are not those that were written: remove it, or leave out --resume")
    place = {name: number for number, name in enumerate(key["case"])}
    return {
        place[row["case"]]: row
        for row in summary.to_dict("records")
        if isinstance(row["mask_sha256"], str)
        and (mask := out / row["case"] / "mask.nii.gz").is_file()
        and file_hash(mask) == row["mask_sha256"]
        and _made_with(mask, weights_sha256)
        and not _newer(Path(key["scan"][place[row["case"]]]), mask)
    }


def _made_with(mask: Path, weights_sha256: str) -> bool:
    """Whether case.json beside a mask names these weights."""
    try:
        return json.loads(mask.with_name("case.json").read_text())["weights"]["sha256"] == weights_sha256
    except (OSError, ValueError, KeyError):
        return False


def _newer(scan: Path, mask: Path) -> bool:
    """Whether a file of the scan has changed since its mask was written."""
    files = files_below(scan) if scan.is_dir() else [scan]
    return any(each.exists() and each.stat().st_mtime > mask.stat().st_mtime for each in files)


def _segment(scan: Path, out: Path, name: str, weights: Path, device: str) -> dict:
    try:
        return {"case": name} | _row(segment(scan, out / name, ready(weights, device)))
    except (ScanError, OSError, ValueError, RuntimeError, MemoryError) as error:
        if isinstance(error, torch.AcceleratorError) and not out_of_memory(error):
            # The device is of no use to this process any more: later scans would fail for no fault of theirs.
            raise OSError(f"the device failed while {name} was segmented, --resume goes on: {error}") from error
        said = str(error).replace(str(scan), name).replace(str(out / name), name)
        return {"case": name, "reason": said.removeprefix(f"{name}: ")}


def _died(scan: Path, out: Path, name: str, weights: Path, device: str) -> dict:
    return {"case": name, "reason": "the process that read this scan died: a damaged file, too little memory or no end"}


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
        "mask_sha256": result["mask_sha256"],
    }
