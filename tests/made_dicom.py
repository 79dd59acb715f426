"""DICOM series of known geometry for the tests of series, slices and dicom."""

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


def orientation(tilt_deg: float) -> list[float]:
    """Row and column directions (LPS) of slices whose front is turned towards the head."""
    angle = np.radians(tilt_deg)
    return [1, 0, 0, 0, float(np.cos(angle)), float(-np.sin(angle))]


def image(stored: np.ndarray, position: list[float], instance: int, uid: str, **fields) -> Dataset:
    """One CT image of 0.5 mm pixels; `fields` replace or add header entries, None removes one."""
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = CTImageStorage
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = generate_uid()
    header.SOPClassUID = CTImageStorage
    header.SeriesInstanceUID = uid
    header.PatientName = "Secret^Name"
    header.PatientID = "SECRETID"
    header.AccessionNumber = "SECRETNUMBER"
    header.SeriesDescription = "SECRETDESCRIPTION"
    header.Modality = "CT"
    header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    header.SeriesNumber = 2
    header.InstanceNumber = instance
    header.Rows, header.Columns = stored.shape
    header.PixelSpacing = [0.5, 0.5]
    header.ImageOrientationPatient = orientation(0)
    header.ImagePositionPatient = position
    header.SamplesPerPixel = 1
    header.PhotometricInterpretation = "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
    header.PixelRepresentation = int(stored.dtype == np.int16)
    header.RescaleSlope, header.RescaleIntercept = 1, 0
    header.PixelData = stored.tobytes()
    for name, value in fields.items():
        if value is None:
            delattr(header, name)
        else:
            setattr(header, name, value)
    return header


def write_series(folder: Path, z_mm, hu: np.ndarray | None = None, start: int = 1, **fields) -> str:
    """Write one image per table position, air with a brain-gray square, or `hu` (rows, columns, K)."""
    folder.mkdir(parents=True, exist_ok=True)
    uid = generate_uid()
    for n, z in enumerate(z_mm):
        if hu is None:
            stored = np.full((24, 32), -1000, np.int16)
            stored[8:16, 8:24] = 30 + n
        else:
            stored = hu[:, :, n]
        header = image(stored, [-8.0, -6.0, float(z)], start + n, uid, **fields)
        header.save_as(folder / f"{uid[-8:]}_{(7 * n) % len(z_mm):03d}_{n}.dcm", enforce_file_format=True)
    return uid
