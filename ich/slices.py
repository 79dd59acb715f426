"""The images in DICOM files, as their headers describe them; pixels are left alone.

Only what the geometry of a volume needs is read: no name, identifier, date or description.
"""

import struct
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
from pydicom.errors import BytesLengthException, InvalidDicomError

DAMAGED = "damaged DICOM file"
SCOUT_WORDS = {"LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW", "REF_SURVIEW"}
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
CT_IMAGES = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1")
SUFFIXES = (".dcm", ".ima")  # of DICOM files, where they have one
MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"
TAGS = [
    "SOPClassUID",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "Modality",
    "ImageType",
    "InstanceNumber",
    "AcquisitionNumber",
    "Rows",
    "Columns",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "GantryDetectorTilt",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "ConvolutionKernel",
    "ContrastBolusAgent",
    "ContrastBolusAgentSequence",
    "ContrastBolusVolume",
    "NumberOfFrames",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]
BROKEN_FILE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    AttributeError,
    TypeError,
    IndexError,
    OverflowError,
    MemoryError,
    RecursionError,
    NotImplementedError,
    BytesLengthException,
    struct.error,
)


@dataclass(frozen=True)
class Slice:
    """One image of a series: a file, or one frame of a multi-frame file."""

    path: Path
    frame: int
    patient: str = field(repr=False)  # PatientID: to tell patients apart, never to be shown
    study: str  # StudyInstanceUID
    uid: str
    number: str
    instance: int
    kind: str  # "image", or why its file cannot be part of a volume
    modality: str
    size: tuple[int, int]  # columns, rows
    spacing_mm: tuple[float, ...]  # between columns, between rows; empty if the header has none
    orientation: tuple[float, ...]  # row and column direction, LPS; empty if the header has none
    position_mm: tuple[float, ...]  # center of the first voxel, LPS; empty if the header has none
    thickness_mm: float | None
    header_spacing_mm: float | None
    header_tilt_deg: float | None
    acquisition: str
    kernel: str
    image_type: str
    contrast: bool  # whether the header names a contrast agent


def read_slices(path: Path) -> Iterator[Slice]:
    """The images of one file: none if it is not DICOM, one of kind `DAMAGED` if it cannot be read."""
    try:
        bare = _lacks_preamble(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd values in headers of no interest here
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(TAGS), force=bare)
            if str(header.file_meta.get("MediaStorageSOPClassUID", "")) == MEDIA_DIRECTORY:
                return
            yield from _frames(header, path)
    except InvalidDicomError:
        if path.suffix.lower() in SUFFIXES:  # empty or overwritten: a slice may be lost
            yield _damaged(path)
    except BROKEN_FILE:
        yield _damaged(path)


def _damaged(path: Path) -> Slice:
    return Slice(
        path=path,
        frame=0,
        patient="",
        study="",
        uid="",
        number="without number",
        instance=0,
        kind=DAMAGED,
        modality="",
        size=(0, 0),
        spacing_mm=(),
        orientation=(),
        position_mm=(),
        thickness_mm=None,
        header_spacing_mm=None,
        header_tilt_deg=None,
        acquisition="",
        kernel="",
        image_type="",
        contrast=False,
    )


def _lacks_preamble(path: Path) -> bool:
    """Whether a file without the DICM mark starts like a bare data set, as some archives export them."""
    with path.open("rb") as file:
        start = file.read(132)
    return start[128:] != b"DICM" and start[:2] == b"\x08\x00" and start[3:4] == b"\x00"


def _frames(header: pydicom.Dataset, path: Path) -> Iterator[Slice]:
    per_frame = header.get("PerFrameFunctionalGroupsSequence")
    if not per_frame:
        yield _slice(header, path, 0, header)
        return
    shared = header.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()]
    for frame, own in enumerate(per_frame):
        merged = pydicom.Dataset()
        for group in (shared[0], own):
            for element in group:
                if element.VR == "SQ" and element.value:
                    merged.update(element.value[0])
        yield _slice(header, path, frame, merged)


def _slice(header: pydicom.Dataset, path: Path, frame: int, geometry: pydicom.Dataset) -> Slice:
    def numbers(name: str) -> tuple[float, ...]:
        return tuple(float(v) for v in (geometry.get(name) or ()))

    def number(name: str) -> float | None:
        value = geometry.get(name, header.get(name))
        return None if value in (None, "") else float(value)

    row_step_column_step = numbers("PixelSpacing")
    return Slice(
        path=path,
        frame=frame,
        patient=str(header.get("PatientID") or "").strip(),
        study=str(header.get("StudyInstanceUID") or ""),
        uid=str(header.get("SeriesInstanceUID") or ""),
        number=str(header.get("SeriesNumber") or "without number"),
        instance=frame + 1 if geometry is not header else int(header.get("InstanceNumber") or 0),
        kind=_kind(header),
        modality=str(header.get("Modality", "unknown")),
        size=(int(header.get("Columns") or 0), int(header.get("Rows") or 0)),
        spacing_mm=row_step_column_step[::-1],
        orientation=numbers("ImageOrientationPatient"),
        position_mm=numbers("ImagePositionPatient"),
        thickness_mm=number("SliceThickness"),
        header_spacing_mm=number("SpacingBetweenSlices"),
        header_tilt_deg=number("GantryDetectorTilt"),
        acquisition=str(header.get("AcquisitionNumber") or ""),
        kernel="/".join(_words(geometry.get("ConvolutionKernel", header.get("ConvolutionKernel")))),
        image_type="/".join(_words(header.get("ImageType"))),
        contrast=_has_contrast(header),
    )


def _has_contrast(header: pydicom.Dataset) -> bool:
    agent = str(header.get("ContrastBolusAgent") or "").strip().upper()
    volume = header.get("ContrastBolusVolume")
    named = agent not in ("", "NONE", "NO", "N", "WITHOUT")
    return named or bool(header.get("ContrastBolusAgentSequence")) or bool(volume and float(volume) > 0)


def _words(value: str | Sequence[str] | None) -> list[str]:
    """Values of an element that holds one text or several."""
    return [value] if isinstance(value, str) else list(value or ())


def _kind(header: pydicom.Dataset) -> str:
    words = set(_words(header.get("ImageType")))
    if "Rows" not in header or "Columns" not in header:
        if str(header.get("SOPClassUID", "")) in CT_IMAGES:
            return DAMAGED  # a file that was cut off
        return "no image (report, dose sheet or state)"
    if str(header.get("SOPClassUID", "")).startswith(SECONDARY_CAPTURE):
        return "secondary capture (exam summary, dose sheet or screen picture)"
    if words & SCOUT_WORDS:
        return "scout"
    return "image"
