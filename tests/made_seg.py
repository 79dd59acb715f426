"""DICOM SEG on a made series, written by highdicom; volumes of a structured report, read by it."""

import warnings

import highdicom as hd
import numpy as np
import pydicom
from made_dicom import orientation, write_series
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from ich.series import choose_series

FRAME = "1.2.826.0.1.3680043.8.498.1"
Z = np.arange(16) * 5.0


def write_ct(folder, z=Z, tilt=0.0, size=(48, 64), hu=None, **fields):
    """A series of `hu` (rows, columns, K), else of noise of `size`, that highdicom accepts as a source."""
    if hu is None:
        hu = np.random.default_rng(0).integers(-1000, 100, (*size, len(z)), dtype=np.int16)
    study = {"StudyInstanceUID": generate_uid(), "FrameOfReferenceUID": FRAME, "StudyID": "1", "SliceThickness": 5}
    empty = ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName", "Manufacturer")
    fields = {"ImageOrientationPatient": orientation(tilt), **study, **dict.fromkeys(empty, ""), **fields}
    write_series(folder, z, hu, **fields)
    return choose_series(folder)


def segment(number, name, code=codes.SCT.Mass):
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=code,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
    )


def write_seg(path, series, masks, kind="BINARY", syntax=ExplicitVRLittleEndian, descriptions=None, **options):
    """SEG by highdicom of name -> mask (rows, columns, K) in the order of the series' slices, foot to head."""
    sources = [pydicom.dcmread(image.path) for image in series.slices]
    for source in sources:  # an anonymized scan may lack what highdicom copies
        source.PatientBirthDate = source.PatientSex = ""
        source.PatientName = "Secret^Name"
    pixels = np.stack(list(masks.values()), axis=-1).transpose(2, 0, 1, 3)
    seg = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=pixels,
        segmentation_type=kind,
        segment_descriptions=descriptions or [segment(n, name) for n, name in enumerate(masks, start=1)],
        series_instance_uid=generate_uid(),
        series_number=9,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="test",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
        transfer_syntax_uid=syntax,
        **options,
    )
    seg.save_as(path)
    return path


def read_volumes(path):
    """Tracking identifier to volume in ml, of a structured report, read back by highdicom."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = hd.sr.srread(path)
    groups = report.content.get_volumetric_roi_measurement_groups()
    return {group.tracking_identifier: float(group.get_measurements()[0].value) for group in groups}
