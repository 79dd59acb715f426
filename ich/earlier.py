"""Whether an earlier scan can be what it is said to be: of the same patient, made before, another series."""

import warnings
from pathlib import Path

import pydicom

from ich.folders import real_path
from ich.grid import ScanError
from ich.series import choose_series

TAGS = ("PatientID", "SeriesInstanceUID", "StudyDate", "StudyTime")


def doubts(scan: Path, earlier: Path, series: str | None = None, earlier_series: str | None = None) -> list[str]:
    """What speaks against comparing a scan with an earlier one, from their DICOM headers; names no identifier.

    Parameters
    ----------
    series : name of the scan's series, as `ich.series.choose_series` takes it.
    """
    if real_path(scan) == real_path(earlier) and (series == earlier_series or scan.is_file()):
        return ["The scan and the earlier scan are the same."]
    now, before = _header(scan, series), _header(earlier, earlier_series)
    found = [] if now and before else ["Nothing tells whether both scans are of one patient and which was made first."]
    if _differ(now, before, "PatientID"):
        found.append("The earlier scan has another patient ID: growth is meaningless if it is of another patient.")
    if str(now.get("SeriesInstanceUID") or "scan") == str(before.get("SeriesInstanceUID") or "earlier"):
        found.append("The scan and the earlier scan are the same series.")
    times = [(str(each.get("StudyDate") or ""), str(each.get("StudyTime") or "")) for each in (now, before)]
    if times[0][0] and times[1][0] and times[1] > times[0]:
        found.append("The earlier scan was made after the scan: they may be the wrong way round.")
    return found


def _differ(one: pydicom.Dataset, other: pydicom.Dataset, tag: str) -> bool:
    values = [str(each.get(tag) or "").strip() for each in (one, other)]
    return all(values) and values[0] != values[1]


def _header(scan: Path, series: str | None) -> pydicom.Dataset:
    """Of the first slice of a DICOM folder; empty for a NIfTI file, which names no patient."""
    if not scan.is_dir():
        return pydicom.Dataset()
    try:
        chosen = choose_series(scan, series)
    except ScanError:
        return pydicom.Dataset()  # reading the scan says what is wrong with it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd values in headers of no interest here
        return pydicom.dcmread(chosen.slices[0].path, stop_before_pixels=True, specific_tags=list(TAGS), force=True)
