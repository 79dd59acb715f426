import numpy as np
import pydicom
import pytest
from made_dicom import orientation, write_series
from pydicom.uid import XRayRadiationDoseSRStorage as DoseReport

from ich.grid import ScanError
from ich.scan import read_scan
from ich.series import choose_series, find_series

Z = np.arange(10) * 5.0


def test_one_series_is_kept_in_the_order_of_its_slices(tmp_path):
    write_series(tmp_path / "deep" / "down", Z[::-1])
    (tmp_path / "readme.txt").write_text("not DICOM")
    (found,) = find_series(tmp_path)
    assert found.kept
    assert found.positions_mm.tolist() == Z.tolist()
    assert [s.instance for s in found.slices] == list(range(10, 0, -1))
    assert str(found) == "series 2: 10 images of 32 x 24, 5.00 mm apart"


@pytest.mark.parametrize(
    ("fields", "z", "reason"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, Z[:1], "scout"),
        ({"SOPClassUID": pydicom.uid.SecondaryCaptureImageStorage}, Z, "secondary capture"),
        (
            {"Rows": None, "Columns": None, "PixelData": None, "SOPClassUID": DoseReport},
            Z[:1],
            "no image",
        ),
        ({"Modality": "MR"}, Z, "MR images, wanted CT"),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, Z, "sagittal slices, wanted axial"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, Z, "coronal slices, wanted axial"),
        ({"ImageOrientationPatient": None}, Z, "no position, orientation or pixel spacing"),
        ({"PixelSpacing": [0.0, 0.0]}, Z, "wanted 0.05 to 5 mm"),
        ({}, Z[:1], "a single image"),
        ({}, Z[:3], "3 slices, wanted 4 or more"),
        ({}, np.full(6, 3.0), "6 images at one position: a time series, not a volume"),
        ({}, np.delete(Z, 4), "slice missing: 1 between images 4 and 5 (a gap of 10.00 mm where neighboring"),
        ({}, np.delete(Z, [4, 5]), "slices missing: 2 between images 4 and 5 (a gap of 15.00 mm"),
        ({}, [*Z, 20.0], "doubled slices: 11 images at 10 positions"),
    ],
)
def test_left_out_with_the_reason(tmp_path, fields, z, reason):
    write_series(tmp_path, z, **fields)
    (found,) = find_series(tmp_path)
    assert not found.kept
    assert reason in found.reason
    with pytest.raises(ScanError, match="no usable axial CT series among 1 found: series 2: "):
        choose_series(tmp_path)


@pytest.mark.parametrize(
    "z",
    [
        [*np.arange(8) * 2.5, *(17.5 + np.arange(1, 8) * 5.0)],
        [*np.arange(8) * 4.0, 29.08, *(29.08 + np.arange(1, 8) * 7.0)],
        [0, 5, 10, 15, 22, 27, 32],
    ],
    ids=["2.5 then 5", "4, 1.08, 7", "a gap that is no multiple"],
)
def test_unequal_distances_are_no_missing_slices(tmp_path, z):
    write_series(tmp_path, z)
    assert choose_series(tmp_path).positions_mm.tolist() == pytest.approx(list(z))


def test_exact_copies_are_passed_over_and_told(tmp_path):
    write_series(tmp_path, Z)
    first = sorted(tmp_path.glob("*.dcm"))[0]
    (tmp_path / "copy.dcm").write_bytes(first.read_bytes())
    chosen = choose_series(tmp_path)
    assert len(chosen.slices) == 10
    assert chosen.notes == ("exact copies of other images, passed over: 1",)


def test_a_localizer_with_a_single_word_is_a_scout(tmp_path):
    write_series(tmp_path, Z, ImageType="LOCALIZER")
    (found,) = find_series(tmp_path)
    assert "scout" in found.reason


def test_series_without_a_uid_are_those_of_their_folders(tmp_path):
    """What a crude anonymizer leaves: two patients would become one scan."""
    for name, shift in (("one", 0.0), ("two", 100.0)):
        write_series(tmp_path / name, np.asarray(Z) + shift, SeriesInstanceUID="", PatientID=name)
    assert [len(part.slices) for part in find_series(tmp_path) if part.kept] == [10, 10]
    with pytest.raises(ScanError, match="scans of 2 patients, 2 usable axial CT series"):
        choose_series(tmp_path)


def test_a_series_of_two_patients_is_refused(tmp_path):
    uid = write_series(tmp_path / "a", Z[:7], PatientID="A")
    write_series(tmp_path / "b", Z[7:], PatientID="B", SeriesInstanceUID=uid)
    found = find_series(tmp_path)
    assert [part.kept for part in found] == [True, False]
    assert "the images of its series name 2 patients" in found[1].reason


@pytest.mark.parametrize(
    ("z", "said"),
    [
        ([0, 5, 10, 15, 25, 35, 40, 45, 50], "slices missing: 1 between images 4 and 5 (a gap of 10.00 mm"),
        ([*np.arange(8) * 5.0, 185, *(185 + np.arange(1, 8) * 7.0)], "a gap of 150.00 mm"),
    ],
    ids=["two gaps side by side", "another acquisition far off"],
)
def test_gaps_beside_gaps_are_missing_slices(tmp_path, z, said):
    write_series(tmp_path, z)
    (found,) = find_series(tmp_path)
    assert not found.kept
    assert said in found.reason


def test_a_cut_off_or_empty_file_is_told(tmp_path):
    write_series(tmp_path, Z)
    last = max(tmp_path.iterdir(), key=lambda path: pydicom.dcmread(path).ImagePositionPatient[2])
    header = pydicom.dcmread(last)
    del header.Rows, header.PixelData
    header.save_as(last)
    (tmp_path / "empty.dcm").touch()
    chosen = choose_series(tmp_path)
    assert len(chosen.slices) == 9
    assert chosen.notes == ("damaged DICOM files beside the series, whose slices they may be: 2",)


def test_a_series_left_out_for_a_defect_is_told_of(tmp_path):
    write_series(tmp_path / "whole", Z)
    write_series(tmp_path / "other", np.delete(Z, 4), SeriesNumber=3)
    assert "beside it lies series 3: 9 images, left out: slice missing" in choose_series(tmp_path).notes[0]


def test_an_agent_that_is_none_is_no_contrast(tmp_path):
    write_series(tmp_path, Z, ContrastBolusAgent="NONE")
    assert choose_series(tmp_path).notes == ()


def test_kernels_that_lie_between_each_other_are_two_series_and_one_that_changes_is_one(tmp_path):
    uid = {"SeriesInstanceUID": "1.2.3", "SeriesNumber": 2}
    for name, kernels in (("mixed", ("H30", "H70")), ("changed", ("H30", "H30"))):
        write_series(tmp_path / name / "a", Z, ConvolutionKernel=kernels[0], **uid)
        write_series(tmp_path / name / "b", Z + (2.5 if name == "mixed" else 150), ConvolutionKernel=kernels[1], **uid)
    found = find_series(tmp_path / "mixed")
    assert [(part.kept, part.slices[0].kernel, len(part.slices)) for part in found] == [
        (True, "H30", len(Z)), (True, "H70", len(Z)),
    ]  # fmt: skip
    with pytest.raises(ScanError, match="2 usable axial CT series"):
        choose_series(tmp_path / "mixed")
    assert len(find_series(tmp_path / "changed")) == 1


@pytest.mark.parametrize("said", [{"ContrastBolusAgent": "Iomeprol"}, {"ContrastBolusVolume": 60.0}])
def test_a_contrast_agent_is_told(tmp_path, said):
    write_series(tmp_path, Z, **said)
    assert choose_series(tmp_path).notes == ("the header names a contrast agent: vessels may look like blood",)


def test_links_are_followed_and_those_to_nothing_told(tmp_path):
    write_series(tmp_path / "elsewhere", Z)
    (tmp_path / "scan").mkdir()
    (tmp_path / "scan" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "scan" / "round").symlink_to(tmp_path / "scan")
    (tmp_path / "scan" / "lost.dcm").symlink_to(tmp_path / "nowhere.dcm")
    chosen = choose_series(tmp_path / "scan")
    assert len(chosen.slices) == 10
    assert chosen.notes == ("damaged DICOM files beside the series, whose slices they may be: 1",)


def test_several_usable_series_are_listed_with_the_way_to_choose(tmp_path):
    write_series(tmp_path / "a", Z, ConvolutionKernel="H30s")
    write_series(tmp_path / "b", Z, ConvolutionKernel="H70s")
    write_series(tmp_path / "c", Z[:1], SeriesNumber=1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    with pytest.raises(ScanError) as caught:
        choose_series(tmp_path)
    said = str(caught.value)
    assert "2 usable axial CT series among 3 found" in said
    assert 'read_scan(folder, series="2a")' in said
    assert "series 1: 1 image, left out: scout" in said
    assert "kernel H70s" in said
    assert choose_series(tmp_path, "2b").slices[0].kernel == "H70s"
    with pytest.raises(ScanError, match="no series 9 among 3 found"):
        choose_series(tmp_path, "9")
    with pytest.raises(ScanError, match="series 1: 1 image, left out: scout"):
        choose_series(tmp_path, "1")


def test_two_kernels_in_one_series_come_apart(tmp_path):
    uid = write_series(tmp_path / "a", Z, ConvolutionKernel="H30s")
    write_series(tmp_path / "b", Z, np.zeros((24, 32, 10), np.int16), ConvolutionKernel="H70s", SeriesInstanceUID=uid)
    assert [(s.name, s.kept, len(s.slices)) for s in find_series(tmp_path)] == [
        ("2a", True, 10),
        ("2b", True, 10),
    ]


def test_two_orientations_in_one_series_come_apart(tmp_path):
    uid = write_series(tmp_path / "a", Z)
    write_series(tmp_path / "b", Z[:3], ImageOrientationPatient=orientation(25), SeriesInstanceUID=uid)
    kept, left = find_series(tmp_path)
    assert kept.kept
    assert (
        left.reason == "3 slices, wanted 4 or more; one of 2 geometries in its series (32 x 24 pixels of 0.5 x 0.5 mm)"
    )


def test_directions_that_differ_by_rounding_alone_are_one_orientation(tmp_path):
    """0.9995 lies in the middle between two values of three digits."""
    uid = pydicom.uid.generate_uid()
    for n, z in enumerate(Z):
        cosine = 0.9995 + (2e-7 if n < 2 else -2e-7)
        plane = [cosine, float(np.sqrt(1 - cosine**2)), 0, float(-np.sqrt(1 - cosine**2)), cosine, 0]
        write_series(tmp_path / str(n), [z], start=n + 1, ImageOrientationPatient=plane, SeriesInstanceUID=uid)
    (found,) = find_series(tmp_path)
    assert found.kept
    assert found.positions_mm.tolist() == Z.tolist()


def test_damaged_file_is_accounted_for(tmp_path):
    write_series(tmp_path, Z)
    last = sorted(tmp_path.glob("*_9.dcm"))[0]
    raw = last.read_bytes()
    last.write_bytes(raw[:400])
    found = find_series(tmp_path)
    assert [len(s.slices) for s in found if s.kept] == [9]
    assert any(s.reason for s in found if not s.kept)


def test_files_without_preamble_are_read(tmp_path):
    write_series(tmp_path, Z)
    for path in tmp_path.glob("*.dcm"):
        header = pydicom.dcmread(path)
        pydicom.dcmwrite(path, strip_meta(header), implicit_vr=False, little_endian=True)
    assert len(choose_series(tmp_path).slices) == 10


def strip_meta(header):
    bare = pydicom.Dataset()
    bare.update({element.tag: element for element in header})
    return bare


def test_folder_without_dicom_and_missing_folder_say_so(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ScanError, match="no DICOM images among 1 files"):
        find_series(tmp_path)
    with pytest.raises(ScanError, match="no such folder"):
        find_series(tmp_path / "absent")


@pytest.mark.parametrize("name", ["philips_phantom_5mm", "philips_phantom_tilt"])
def test_real_export_keeps_the_axial_series_alone(shared_data, name):
    found = find_series(shared_data / "dicom" / name)
    assert [(s.name, s.kept) for s in found] == [("100", False), ("201", True), ("401", False)]
    assert [s.reason.split(" (")[0] for s in found] == ["scout", "", "secondary capture"]


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("notavolume/001", "4 images at one position"),
        ("slicecount/001", "MR images, wanted CT; sagittal slices, wanted axial; 2 slices, wanted 4 or more"),
        ("sliceincrement/001", "slice missing: 1 between images 9 and 10 (a gap of 10.00 mm"),
        ("sliceincrement/002", "slice missing: 1 between images 3 and 5 (a gap of 1.50 mm"),
        ("sliceorientation/001", "MR images, wanted CT"),
    ],
)
def test_real_defects_are_named(shared_data, folder, reason):
    with pytest.raises(ScanError) as caught:
        choose_series(shared_data / "dicom" / "defects" / folder)
    assert reason in str(caught.value)


def test_real_tilt_without_header_tag_is_a_note(shared_data):
    grid = read_scan(shared_data / "dicom" / "defects" / "gantrytilting" / "001").grid
    assert grid.slice_spacing_mm == pytest.approx(4.8515, abs=1e-3)
    assert "header states no gantry tilt" in grid.notes[0]
    assert grid.notes[-1] == "4 slices cover 19 mm: not a whole head"


def test_end_slices_that_another_geometry_parts_from_the_series_are_told(tmp_path):
    uid = {"SeriesInstanceUID": "1.2.3", "SeriesNumber": 2}
    write_series(tmp_path, np.arange(27) * 5.0, **uid)
    write_series(tmp_path / "top", np.arange(27, 30) * 5.0, PixelSpacing=[0.45, 0.45], **uid)
    scan = read_scan(tmp_path)
    assert scan.grid.shape[2] == 27
    assert any(
        "beside it lies series 2b: 3 images, left out: 3 slices, wanted 4 or more" in text for text in scan.notes
    )
