"""Masks and volumes as DICOM: read back, and checked by dciodvfy (Debian's dicom3tools) where it is installed."""

import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from made_dicom import write_series
from made_seg import FRAME, read_volumes, write_ct

from ich.dicom import read_dicom_scan, series_grid
from ich.dicom_masks import read_dicom_mask, referenced_series
from ich.dicom_report import write_dicom_report
from ich.dicom_seg import write_dicom_seg
from ich.grid import ScanError
from ich.intake import take_in
from ich.series import choose_series
from ich.sources import find_cases


@pytest.fixture
def case(tmp_path):
    """A tilted prone series, so that stored and (I, J, K) order differ, and a mask of two labels on it."""
    series = write_ct(tmp_path / "ct", tilt=15.0, ImageOrientationPatient=[-1, 0, 0, 0, -1, 0], StudyDate="20200101")
    labels = np.zeros(read_dicom_scan(tmp_path / "ct").hu.shape, np.uint8)
    labels[10:20, 5:12, 3:6] = 1
    labels[30:34, 20:24, 8] = 3
    return series, labels, tmp_path


def test_the_mask_comes_back_voxel_for_voxel(case):
    series, labels, folder = case
    write_dicom_seg(folder / "mask.dcm", labels, series, "weights abc", "0.1")
    again = read_dicom_mask(folder / "mask.dcm", series)
    np.testing.assert_array_equal(again.labels, labels)
    assert referenced_series(folder / "mask.dcm") == series.slices[0].uid
    names = [item.SegmentLabel for item in pydicom.dcmread(folder / "mask.dcm").SegmentSequence]
    assert names == ["Intraparenchymal hemorrhage", "Subarachnoid hemorrhage"]
    assert not list(folder.glob("*.tmp"))


def test_volumes_come_back_with_the_report(case):
    series, labels, folder = case
    write_dicom_seg(folder / "mask.dcm", labels, series, "weights abc", "0.1")
    volumes = {"parenchymal": 1.05, "ventricular": 0.0, "subarachnoid": 0.02}
    write_dicom_report(folder / "report.dcm", folder / "mask.dcm", volumes, series, "weights abc", "0.1")
    assert read_volumes(folder / "report.dcm") == {
        "Intraparenchymal hemorrhage": 1.05,
        "Subarachnoid hemorrhage": 0.02,
    }
    report = pydicom.dcmread(folder / "report.dcm")
    assert report.StudyInstanceUID == pydicom.dcmread(series.slices[0].path).StudyInstanceUID
    assert report.SoftwareVersions == "0.1"


def test_an_independent_validator_finds_no_error(case):
    if not shutil.which("dciodvfy"):
        pytest.skip("dciodvfy of dicom3tools is not installed")
    series, labels, folder = case
    write_dicom_seg(folder / "mask.dcm", labels, series, "weights abc", "0.1")
    write_dicom_report(folder / "report.dcm", folder / "mask.dcm", {"parenchymal": 1.05}, series, "weights abc", "0.1")
    for name in ("mask.dcm", "report.dcm"):
        said = subprocess.run(["dciodvfy", str(folder / name)], capture_output=True, text=True, check=False).stderr
        assert "Error" not in said, said


def test_a_real_tilted_series_with_two_spacings(shared_data, tmp_path):
    series = choose_series(shared_data / "dicom" / "ge_head")
    before = {image.path: image.path.read_bytes() for image in series.slices}
    labels = np.zeros((512, 512, 28), np.uint8)
    labels[200:240, 180:230, 10:15] = 2
    write_dicom_seg(tmp_path / "mask.dcm", labels, series, "weights abc", "0.1")
    np.testing.assert_array_equal(read_dicom_mask(tmp_path / "mask.dcm", series).labels, labels)
    assert all(path.read_bytes() == content for path, content in before.items())


def test_what_cannot_be_written_is_named(case, tmp_path):
    series, labels, folder = case
    with pytest.raises(ScanError, match="the mask is empty"):
        write_dicom_seg(folder / "mask.dcm", np.zeros_like(labels), series, "w", "0.1")
    with pytest.raises(ScanError, match="differs from"):
        write_dicom_seg(folder / "mask.dcm", labels[1:], series, "w", "0.1")
    write_series(tmp_path / "bare", np.arange(6) * 5.0, FrameOfReferenceUID=FRAME)
    bare = choose_series(tmp_path / "bare")
    with pytest.raises(ScanError, match="has no StudyInstanceUID"):
        write_dicom_seg(folder / "mask.dcm", np.ones((32, 24, 6), np.uint8), bare, "w", "0.1")
    assert not (folder / "mask.dcm").exists()


def test_every_frame_states_the_extent_of_its_slice(tmp_path):
    """Pixels times thickness, as viewers count, give the volume where slices are 5 mm apart, then 10."""
    series = write_ct(tmp_path / "ct", np.r_[np.arange(6) * 5.0, 32.5 + np.arange(10) * 10.0])
    grid = series_grid(series)[0]
    labels = np.zeros(grid.shape, np.uint8)
    labels[5:20, 10:30, 3:9] = 1
    write_dicom_seg(tmp_path / "mask.dcm", labels, series, "weights abc", "0.1")
    made = pydicom.dcmread(tmp_path / "mask.dcm")
    volume = sum(
        plane.sum() * np.prod(group.PixelMeasuresSequence[0].PixelSpacing)
        * group.PixelMeasuresSequence[0].SliceThickness / 1000
        for plane, group in zip(made.pixel_array, made.PerFrameFunctionalGroupsSequence, strict=True)
    )  # fmt: skip
    assert volume == pytest.approx(grid.volume_ml(labels > 0), rel=1e-6)
    np.testing.assert_array_equal(read_dicom_mask(tmp_path / "mask.dcm", series).labels, labels)


def test_names_in_japanese_are_kept(tmp_path):
    name = "Yamada^Tarou=山田^太郎"
    series = write_ct(tmp_path / "ct", SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName=name)
    labels = np.zeros(series_grid(series)[0].shape, np.uint8)
    labels[5:20, 10:30, 3:9] = 1
    write_dicom_seg(tmp_path / "mask.dcm", labels, series, "weights abc", "0.1")
    write_dicom_report(tmp_path / "report.dcm", tmp_path / "mask.dcm", {"parenchymal": 1.0}, series, "w", "0.1")
    assert {str(pydicom.dcmread(tmp_path / f"{each}.dcm").PatientName) for each in ("mask", "report")} == {name}


def test_a_mask_that_a_program_made_is_no_reference(tmp_path):
    series = write_ct(tmp_path / "in" / "ct", PatientID="A")
    labels = np.zeros(series_grid(series)[0].shape, np.uint8)
    labels[5:20, 10:30, 3:9] = 1
    write_dicom_seg(tmp_path / "in" / "mask.dcm", labels, series, "weights abc", "0.1")
    assert read_dicom_mask(tmp_path / "in" / "mask.dcm", series).automatic
    sources, _ = take_in(find_cases("dicom", tmp_path / "in"), tmp_path / "run", jobs=1)
    assert "a program made it (SegmentAlgorithmType AUTOMATIC)" in sources["reason"].iloc[0]
