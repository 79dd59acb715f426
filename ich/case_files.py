"""One scan in, one report out: mask on the native grid, case.json and case.html."""

import importlib.metadata
import json
from pathlib import Path

from ich.atomic import write_text
from ich.case import Case, analyze
from ich.case_page import case_page
from ich.dicom_report import write_dicom_report
from ich.dicom_seg import write_dicom_seg
from ich.folders import real_path
from ich.model import SHIPPED_WEIGHTS
from ich.predict import Prediction, Weights
from ich.provenance import file_hash
from ich.scan import ScanError, read_mask, write_mask
from ich.series import Series, choose_series

FILES = ("mask.nii.gz", "mask.dcm", "report.dcm", "case.html", "case.json")  # of a case


def write(found: Case, scan_path: Path, out: Path, dicom_out: Path | None = None, series: str | None = None) -> None:
    """Write mask.nii.gz, case.json and case.html into `out`.

    A DICOM series also gets mask.dcm (DICOM SEG) and report.dcm (structured report) where blood was marked; why not,
    where the series cannot be referred to, becomes a warning. They name the patient, as DICOM has to: `dicom_out` is
    where they go if `out` is to be shared.
    """
    _write_content(found, out)  # first: it tells whose the other files are, should this be interrupted
    write_mask(out / "mask.nii.gz", found.prediction.labels, found.scan.grid)
    found.content["mask_sha256"] = file_hash(out / "mask.nii.gz")
    if found.scan.source == "dicom" and found.prediction.volume_ml > 0:
        found.content["warnings"] += _write_dicom(
            choose_series(scan_path, series), dicom_out or out, found.prediction, found.content
        )
    _write_content(found, out)
    write_text(out / "case.html", case_page(found))


def segment(
    scan_path: Path,
    out: Path,
    weights: Path | Weights = SHIPPED_WEIGHTS,
    device: str = "auto",
    earlier: Path | None = None,
    series: str | None = None,
    earlier_series: str | None = None,
) -> dict:
    """`analyze` one scan and `write` what was found; returns the content of case.json.

    What an earlier call has left in `out` is removed before the scan is read, as it may be another patient's; a scan or
    weights that are not there remove nothing.

    Raises
    ------
    FileExistsError
        `out` holds a file that a case would overwrite and that no earlier call has written, or a mask that was changed
        since.
    """
    loaded = weights if isinstance(weights, Weights) else Weights.load(weights, device)
    if not scan_path.exists():
        raise FileNotFoundError(f"{scan_path}: no such file or folder")
    _clear(out, scan_path)
    found = analyze(scan_path, loaded, device, earlier, series=series, earlier_series=earlier_series)
    _clear(out, scan_path)  # again: another call may have written there meanwhile
    write(found, scan_path, out, series=series)
    return found.content


def _write_content(found: Case, out: Path) -> None:
    write_text(out / "case.json", json.dumps(found.content, indent=2, allow_nan=False) + "\n")


def _clear(out: Path, scan_path: Path) -> None:
    left = [out / name for name in FILES if (out / name).exists()]
    own = (out / "case.json").is_file()
    if left and (not own or any(real_path(path) == real_path(scan_path) for path in left)):
        raise FileExistsError(
            f"{left[0]} would be overwritten and is not what `ich segment` wrote there: choose another folder"
        )
    if own and is_changed(out):
        raise FileExistsError(
            f"{out / 'mask.nii.gz'} was changed after `ich segment` wrote it, by a reader perhaps: move it away, or "
            "choose another folder"
        )
    for path in sorted(left, key=lambda path: path.name == "case.json"):  # which tells whose they are, last
        path.unlink()


def is_changed(out: Path) -> bool:
    """Whether the mask of a case is another than was written, as far as its case.json tells, and not a damaged one."""
    try:
        written = json.loads((out / "case.json").read_text(encoding="utf-8")).get("mask_sha256")
    except (OSError, ValueError, AttributeError):
        return False
    mask = out / "mask.nii.gz"
    if written is None or not mask.is_file() or file_hash(mask) == written:
        return False
    try:
        read_mask(mask)
    except ScanError:
        return False
    return True


def _write_dicom(series: Series, out: Path, prediction: Prediction, result: dict) -> list[str]:
    """Mask and volumes as DICOM; why not, where the series cannot be referred to: the case stands without them."""
    made_by = f"weights {str(result['weights']['sha256'])[:12]}"
    version = importlib.metadata.version("ich")
    try:
        write_dicom_seg(out / "mask.dcm", prediction.labels, series, made_by, version)
        volumes = result["volume_ml_by_label"]
        write_dicom_report(out / "report.dcm", out / "mask.dcm", volumes, series, made_by, version)
    except (ScanError, ValueError, AttributeError, TypeError) as error:
        return [f"No DICOM SEG and report were written: {error}."]
    return []
