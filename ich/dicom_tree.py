"""A tree of DICOM files as cases: one per study, with its usable head CT series and the mask that was drawn on it."""

import itertools
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.filereader import read_file_meta_info
from pydicom.misc import is_dicom

from ich.dicom_masks import is_dicom_mask, referenced_series
from ich.folders import files_below
from ich.grid import ScanError
from ich.layouts import NO_MASK, Layout, case_row, date_of, hidden, sex_of, stem
from ich.nifti import is_nifti
from ich.series import Series, choose_series, find_series
from ich.slices import DAMAGED, MEDIA_DIRECTORY

TAGS = ["StudyInstanceUID", "PatientID", "StudyDate", "InstitutionName", "PatientAge", "PatientSex"]
YEARS = {"Y": 1.0, "M": 1 / 12, "W": 1 / 52.1775, "D": 1 / 365.2425}


@dataclass(frozen=True, eq=False)
class _Mask:
    path: Path
    series: tuple[Series, ...]  # kept series that it may have been drawn on
    lost: str  # why there is none
    fits: int = 1  # studies that it may belong to


def dicom_tree(root: Path) -> Layout:
    """Cases of a tree of DICOM files; masks are SEG, RTSTRUCT, or NIfTI files named as the folder of a series.

    Of several folders of that name, those that share the longest path with the mask count.
    Patient and study are the identifiers of the headers; sites are numbered in order of appearance.

    Raises
    ------
    ValueError : no DICOM image, or no CT among them.
    """
    found = find_series(root)
    parts = [part for part in found if not hidden(part.slices[0].path, root)]
    headers = {id(part): _header(part) for part in parts}
    studies: dict[str, list[Series]] = defaultdict(list)
    for part in sorted(parts, key=lambda each: each.slices[0].path):
        if part.slices[0].kind != DAMAGED:
            studies[_study(headers[id(part)], part)].append(part)
    masks = _masks_by_study(root, parts, studies)
    layout = Layout(reasons=_unread(root, found))
    for part in parts:
        reason = part.reason or "another usable series of a study whose mask was drawn on, or chosen from, others"
        layout.reasons |= {image.path: reason for image in part.slices}
    sites: dict[str, str] = {}
    unnamed = 0
    for study, own in studies.items():
        scans = [part for part in own if part.slices[0].modality == "CT"]
        if not scans:
            continue
        row, series = _study_case(study, scans, masks[study])
        layout.used |= files_of(series) if series else set()
        header = headers[id(scans[0])]
        patient = str(header.get("PatientID") or "").strip()
        unnamed += not patient
        place = str(header.get("InstitutionName") or "").strip()
        row |= {
            "patient_id": patient or study,
            "scan_date": _date(header),
            "site": sites.setdefault(place, f"site-{len(sites) + 1}") if place else None,
            "age": _age(header),
            "sex": sex_of(str(header.get("PatientSex") or "")),
        }
        layout.rows.append(row)
        layout.reasons |= {mask.path: f"mask of a case that is left out: {row['reason']}" for mask in masks[study]}
    if not layout.rows:
        raise ValueError(f"no CT series among the {len(parts)} series found")
    if unnamed:
        layout.notes.append(f"{unnamed} studies have no PatientID: each counts as a patient of its own")
    return layout


def chosen_series(folder: Path, name: str | None) -> tuple[Series | None, str | None, dict[Path, str]]:
    """The usable series of a scan's folder, or why there is none, and why each other file there is not used."""
    try:
        found = find_series(folder)
        reasons = _unread(folder, found)
        reasons |= {image.path: part.reason for part in found for image in part.slices if part.reason}
        return choose_series(folder, name), None, reasons
    except ScanError as error:
        problem = str(error).removeprefix(f"{folder}: ")
        return None, problem, {path: problem for path in files_below(folder)}


def files_of(series: Series) -> set[Path]:
    """The files that hold the slices of a series."""
    return {image.path for image in series.slices}


def _study_case(study: str, scans: list[Series], masks: list[_Mask]) -> tuple[dict, Series | None]:
    """The case of one study and its series; unusable if there is no series, no mask, or several of either."""
    kept = [part for part in scans if part.kept]
    mask = masks[0] if len(masks) == 1 else None
    unclear = [each.fits for each in masks if each.fits > 1]
    candidates = list(mask.series) if mask else kept
    series = candidates[0] if len(candidates) == 1 else None
    if not kept:
        counts = Counter(part.reason for part in scans)
        reason = "no usable axial CT series: " + "; ".join(f"{text} ({n})" for text, n in counts.items())
    elif not masks:
        reason = NO_MASK
    elif unclear:
        reason = f"the name of the mask fits {max(unclear)} studies, wanted one"
    elif mask is None:
        reason = f"{len(masks)} reference masks were found, wanted one"
    elif not candidates:
        reason = mask.lost
    elif series is None:
        reason = f"{len(candidates)} usable series could be the one the mask was drawn on, wanted one"
    else:
        reason = None
    files = tuple(sorted(files_of(series))) if series else None
    folder = Path(os.path.commonpath([path.parent for path in files])) if files else None
    own = mask.path if mask and not reason else None
    return case_row(study, folder, own, files=files, reason=reason), series


def _masks_by_study(root: Path, parts: list[Series], studies: dict[str, list[Series]]) -> dict[str, list[_Mask]]:
    """Masks of each study: by the series they name, else by their own study, NIfTI by the nearest folder's name."""
    study_of = {id(part): study for study, own in studies.items() for part in own}
    of_uid: dict[str, list[Series]] = defaultdict(list)
    for part in parts:
        of_uid[part.slices[0].uid].append(part)
    found: dict[str, list[_Mask]] = defaultdict(list)
    for part in parts:
        if part.slices[0].modality in ("SEG", "RTSTRUCT"):
            for path in sorted(path for path in files_of(part) if is_dicom_mask(path)):
                target = _target(path)
                drawn = of_uid.get(target, []) if target is not None else []
                study = study_of[id(drawn[0])] if drawn else study_of[id(part)]
                able = drawn if target is not None else studies[study]
                found[study].append(_mask(path, able, "the series that the mask was drawn on"))
    below: dict[tuple[str, Path], list[tuple[Path, Series]]] = defaultdict(list)  # by a folder's name, and one above it
    for part in (each for own in studies.values() for each in own):
        for folder in {path.parent for path in files_of(part)}:
            for above in (folder, *folder.parents):
                below[folder.name, above].append((folder, part))
    for path in (path for path in files_below(root) if is_nifti(path) and not hidden(path, root)):
        able = _nearest(path, below)
        fitting = {study_of[id(part)] for part in able}
        for study in fitting:
            own = [part for part in able if study_of[id(part)] == study]
            drawn_on = _mask(path, own, "the series in the folder that the mask is named after")
            found[study].append(drawn_on if len(fitting) == 1 else _Mask(path, (), "", fits=len(fitting)))
    return found


def _nearest(mask: Path, below: Mapping[tuple[str, Path], list[tuple[Path, Series]]]) -> list[Series]:
    """The series in the folders called as the mask that share the longest path with it: `CT1` may be every patient's.

    Of several, as where masks have a tree of their own, those whose last folders are called as the mask's.
    """
    name = stem(mask)
    near = next((below[name, above] for above in mask.parents if (name, above) in below), [])
    alike = [_same_end((*mask.parent.parts, name), folder.parts) for folder, _ in near]
    most = max(alike, default=0)
    return list(dict.fromkeys(part for (_, part), ends in zip(near, alike, strict=True) if ends == most))


def _same_end(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """How many of the last parts of two paths are equal."""
    return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one[::-1], other[::-1], strict=False))))


def _mask(path: Path, able: list[Series], what: str) -> _Mask:
    scans = [part for part in able if part.slices[0].modality == "CT"]
    kept = tuple(part for part in scans if part.kept)
    why = "; ".join(dict.fromkeys(part.reason for part in scans)) or "it is not here"
    return _Mask(path, kept, "" if kept else f"{what} cannot be used: {why}")


def _target(path: Path) -> str | None:
    try:
        return referenced_series(path)
    except (ScanError, AttributeError, KeyError):  # a damaged mask is found out when it is read
        return None


def _unread(root: Path, parts: list[Series]) -> dict[Path, str]:
    """Why files below `root` that belong to none of the series are not used."""
    reasons = {}
    for path in set(files_below(root)).difference(*map(files_of, parts)):
        if not path.is_file() or hidden(path, root):
            continue
        if is_dicom(path):
            directory = read_file_meta_info(path).get("MediaStorageSOPClassUID") == MEDIA_DIRECTORY
            reasons[path] = "index of a DICOM medium" if directory else "exact copy of another image"
        elif is_nifti(path):
            reasons[path] = "NIfTI file that is not named as the folder of a series"
        else:
            reasons[path] = "not a DICOM file"
    return reasons


def _header(part: Series) -> pydicom.Dataset:
    if part.slices[0].kind == DAMAGED:
        return pydicom.Dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd values in headers of no interest here
        return pydicom.dcmread(part.slices[0].path, stop_before_pixels=True, specific_tags=list(TAGS), force=True)


def _study(header: pydicom.Dataset, part: Series) -> str:
    return str(header.get("StudyInstanceUID") or part.slices[0].uid or part.slices[0].path.parent.name)


def _date(header: pydicom.Dataset) -> str | None:
    text = str(header.get("StudyDate") or "")
    return date_of(f"{text[:4]}-{text[4:6]}-{text[6:8]}") if len(text) == 8 else None


def _age(header: pydicom.Dataset) -> float | None:
    text = str(header.get("PatientAge") or "").strip()
    if not text[:-1].isdigit() or text[-1] not in YEARS or not int(text[:-1]):  # anonymizers write 0
        return None
    return round(int(text[:-1]) * YEARS[text[-1]], 2)
