import numpy as np
import pytest
from made_dicom import write_series

from ich.scan import Grid, ScanError, read_scan, write_scan


def test_a_nifti_file_has_no_series(tmp_path):
    path = tmp_path / "a.nii"
    path.write_bytes(b"")
    with pytest.raises(ScanError, match="series 2 was asked for, and a NIfTI file has none"):
        read_scan(path, "2")


def test_a_file_is_nifti_and_a_folder_is_dicom(tmp_path):
    grid = Grid((4, 4, 3), (1, 1), np.array([0.0, 5, 10]), np.diag([-1, -1, 5, 1.0]))
    write_scan(tmp_path / "s.nii.gz", np.full((4, 4, 3), -1000, np.int16), grid)
    write_series(tmp_path / "ct", np.arange(8) * 5.0)
    assert read_scan(tmp_path / "s.nii.gz").source == "nifti"
    assert read_scan(tmp_path / "ct").source == "dicom"
    assert read_scan(str(tmp_path / "ct"), series="2").source == "dicom"


def test_anything_else_is_named(tmp_path):
    (tmp_path / "one.dcm").write_bytes(b"x")
    with pytest.raises(ScanError, match=r"one\.dcm: wanted a \.nii or \.nii\.gz file, or the folder"):
        read_scan(tmp_path / "one.dcm")
    with pytest.raises(ScanError, match="absent: no such file or folder"):
        read_scan(tmp_path / "absent")
