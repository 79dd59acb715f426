"""One CT in: a NIfTI file or a DICOM folder becomes HU (I, J, K) with the true position of every slice."""

from pathlib import Path

from ich.dicom import read_dicom_scan
from ich.grid import Grid, Scan, ScanError, check_same_grid, slice_weights_mm
from ich.nifti import is_nifti, read_mask, read_nifti_scan, write_mask, write_scan
from ich.series import find_series

__all__ = [
    "Grid",
    "Scan",
    "ScanError",
    "check_same_grid",
    "find_series",
    "read_mask",
    "read_scan",
    "said_of",
    "slice_weights_mm",
    "write_mask",
    "write_scan",
]


def said_of(error: Exception, path: Path) -> str:
    """What an error says, with a file's name in the place of its path: folders tell of a machine and of patients."""
    return str(error).replace(str(path), path.name)


def read_scan(path: str | Path, series: str | None = None) -> Scan:
    """The scan in a NIfTI file, or the one usable axial CT series in a folder of DICOM files.

    Parameters
    ----------
    path : a .nii or .nii.gz file, or a folder, searched with all its subfolders.
    series : name of the DICOM series to take, as `find_series` and the error about several series give it.

    Raises
    ------
    ScanError : says what was found and what was wanted.
    """
    path = Path(path)
    if path.is_dir():
        return read_dicom_scan(path, series)
    if not path.exists():
        raise ScanError(f"{path}: no such file or folder")
    if not is_nifti(path):
        raise ScanError(f"{path}: wanted a .nii or .nii.gz file, or the folder of a DICOM series")
    if series is not None:
        raise ScanError(f"{path}: series {series} was asked for, and a NIfTI file has none")
    return read_nifti_scan(path)
