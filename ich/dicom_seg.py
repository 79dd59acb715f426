"""The mask of a DICOM series as DICOM SEG, for a PACS: one segment per label, coded with SNOMED CT.

The segmentation refers to the series it was made on and therefore carries the patient and study of that series.
"""

import warnings
from copy import deepcopy
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import DS

from ich.atomic import replacing
from ich.dicom import series_grid
from ich.grid import ScanError, flipped
from ich.series import Series
from ich.tables import LABELS

NAMES = {
    "parenchymal": "Intraparenchymal hemorrhage",
    "ventricular": "Intraventricular hemorrhage",
    "subarachnoid": "Subarachnoid hemorrhage",
}
# Where the hemorrhage lies, SNOMED CT: the property itself is "Hemorrhage" for all (DICOM PS3.16 CID 6030).
PLACES = {"parenchymal": "Brain", "ventricular": "BrainVentricle", "subarachnoid": "CranialSubarachnoidSpace"}
WANTED = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime"),
    *("AccessionNumber", "ReferringPhysicianName"),
)


def write_dicom_seg(path: Path, labels: np.ndarray, series: Series, weights: str, version: str) -> None:
    """Write `labels` (I, J, K) of the scan of `series` as a binary DICOM SEG in one step.

    Parameters
    ----------
    weights : name and hash of the weights that made the mask, for the algorithm's identification.
    version : of this package.

    Raises
    ------
    ScanError
        The mask is empty (DICOM has no SEG without a segment), its shape is not the series', or the series is a
        multi-frame one.
    """
    import highdicom as hd  # a second to import

    grid, axes, flips = series_grid(series)
    if labels.shape != grid.shape:
        raise ScanError(f"mask shape {labels.shape} differs from {grid.shape} of series {series.name}")
    if len({image.path for image in series.slices}) < len(series.slices):
        raise ScanError(
            f"series {series.name} is one multi-frame file: DICOM SEG is written for single-frame series only"
        )
    present = [name for name, label in LABELS.items() if (labels == label).any()]
    if not present:
        raise ScanError("the mask is empty: a DICOM SEG needs a segment")
    stored = flipped(labels, flips).transpose(np.argsort(axes))
    frames = np.moveaxis(stored, (0, 1, 2), (2, 1, 0))  # (columns, rows, K) to (K, rows, columns)
    pixels = np.stack([frames == LABELS[name] for name in present], -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd values in the source's header
        sources = source_headers(series)
        made = hd.seg.Segmentation(
            source_images=sources,
            pixel_array=pixels.astype(np.uint8),
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[_described(hd, number, name, weights) for number, name in enumerate(present, 1)],
            series_instance_uid=generate_uid(),
            series_number=900 + int(sources[0].get("SeriesNumber") or 0) % 100,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer="ich study workbook",
            manufacturer_model_name="ich, research use only",
            software_versions=version,
            device_serial_number=weights,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            series_description="Hemorrhage, research use only",
        )
        _state_thickness(made, series, grid.slice_weights_mm[:: -1 if flips[2] else 1])
        with replacing(path) as part:
            made.save_as(part)


def _state_thickness(made: pydicom.Dataset, series: Series, weights_mm: np.ndarray) -> None:
    """Give every frame the extent of its slice, `weights_mm` (K,) in the order of the series, as its thickness.

    The one thickness of the first image, which all frames would share, gives another volume where slices differ, lie
    apart or overlap (DICOM PS3.3, C.7.6.16.2.1).
    """
    shared = made.SharedFunctionalGroupsSequence[0]
    measures = shared.PixelMeasuresSequence[0]
    del shared.PixelMeasuresSequence
    places = np.array([image.position_mm for image in series.slices])
    for frame in made.PerFrameFunctionalGroupsSequence:
        place = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        own = deepcopy(measures)
        own.SliceThickness = DS(float(weights_mm[np.abs(places - place).sum(axis=1).argmin()]), auto_format=True)
        frame.PixelMeasuresSequence = [own]


def source_headers(series: Series) -> list[pydicom.Dataset]:
    """Headers of the series' images, with what DICOM lets be empty but not be absent.

    Raises
    ------
    ScanError
        The series lacks an identifier that other objects refer to it by.
    """
    return [_with_all(pydicom.dcmread(image.path, stop_before_pixels=True)) for image in series.slices]


def _with_all(header: pydicom.Dataset) -> pydicom.Dataset:
    for name in WANTED:
        if name not in header:
            setattr(header, name, "")
    for name in ("FrameOfReferenceUID", "StudyInstanceUID"):
        if name not in header:
            raise ScanError(f"the series has no {name}: a DICOM SEG cannot refer to it")
    if any(str(each).startswith("ISO 2022") for each in _sets(header)):
        header.decode()  # highdicom takes no set that switches within a text
        header.SpecificCharacterSet = "ISO_IR 192"
    header.pop("PatientComments", None)  # free text, which need not be passed on
    if header.get("PatientIdentityRemoved") == "YES" and not header.get("DeidentificationMethod"):
        header.DeidentificationMethod = "not stated"  # DICOM wants one where identity was removed
    return header


def _sets(header: pydicom.Dataset) -> list[str]:
    given = header.get("SpecificCharacterSet") or []
    return [given] if isinstance(given, str) else list(given)


def _described(hd, number: int, name: str, weights: str):
    from pydicom.sr.codedict import codes

    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=NAMES[name],
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Hemorrhage,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name="ich U-Net, research use only", version=weights, family=codes.DCM.ArtificialIntelligence
        ),
        anatomic_regions=[getattr(codes.SCT, PLACES[name])],
    )
