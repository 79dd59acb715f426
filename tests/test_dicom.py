import nibabel as nib
import numpy as np
import pydicom
import pytest
from made_dicom import orientation, write_series
from pydicom.pixels import get_decoder
from scipy.ndimage import label

from ich.dicom import read_dicom_scan
from ich.grid import ScanError, check_same_grid
from ich.nifti import read_mask, read_nifti_scan, write_mask, write_scan

Z = np.arange(30) * 5.0


def test_series_becomes_columns_rows_slices_from_foot_to_head(tmp_path):
    hu = np.random.default_rng(0).integers(-1000, 100, (24, 32, 30), dtype=np.int16)
    write_series(tmp_path, Z[::-1], hu)
    scan = read_dicom_scan(tmp_path)
    assert scan.hu.dtype == np.int16
    assert scan.grid.shape == (32, 24, 30)
    assert np.array_equal(scan.hu, hu[:, :, ::-1].transpose(1, 0, 2))
    assert scan.grid.positions_mm.tolist() == Z.tolist()
    # (-8, -6, 0) in DICOM's left-back-head system is (8, 6, 0) in NIfTI's right-front-head system.
    assert (scan.grid.affine @ [0, 0, 0, 1])[:3].tolist() == [8, 6, 0]
    assert (scan.grid.affine @ [2, 2, 1, 1])[:3].tolist() == [7, 5, 5]
    assert scan.grid.notes == ()
    assert scan.notes == ()


def test_prone_patient_turns_to_the_same_axes(tmp_path):
    hu = np.random.default_rng(0).integers(-1000, 100, (24, 32, 30), dtype=np.int16)
    write_series(tmp_path, Z, hu, ImageOrientationPatient=[-1, 0, 0, 0, -1, 0])
    assert np.array_equal(read_dicom_scan(tmp_path).hu, hu.transpose(1, 0, 2)[::-1, ::-1])


def test_table_steps_under_tilt_shrink_by_the_cosine(tmp_path):
    write_series(tmp_path, Z, ImageOrientationPatient=orientation(20), GantryDetectorTilt=20, SpacingBetweenSlices=5)
    grid = read_dicom_scan(tmp_path).grid
    assert grid.slice_spacing_mm == pytest.approx(5 * np.cos(np.radians(20)), abs=1e-5)
    assert grid.tilt_deg == pytest.approx(20, abs=1e-4)
    assert grid.header_slice_spacing_mm == 5
    assert "5.00 mm apart along the table are 4.70 mm apart along the slice normal" in grid.notes[0]
    assert "the header states slices 5.00 mm apart, the positions 4.70 mm" in grid.notes[1]


@pytest.mark.parametrize(
    ("stated", "true", "tilt_deg", "said"),
    [
        (-18.5, 18.5, -18.5, None),
        (
            0,
            18.5,
            18.5,
            "header states a gantry tilt of 0.0 degrees, slice positions and orientation give 18.5",
        ),
        (
            18.5,
            0,
            0.0,
            "header states a gantry tilt of 18.5 degrees, slice positions and orientation give 0.0",
        ),
        (None, 15.5, 15.5, "header states no gantry tilt"),
    ],
)
def test_header_and_geometry_may_differ_about_the_tilt(tmp_path, stated, true, tilt_deg, said):
    extra = {} if stated is None else {"GantryDetectorTilt": stated}
    write_series(tmp_path, Z, ImageOrientationPatient=orientation(true), **extra)
    grid = read_dicom_scan(tmp_path).grid
    assert grid.tilt_deg == pytest.approx(tilt_deg, abs=1e-4)
    assert bool(said) == ("header states" in grid.notes[0] if grid.notes else False)
    assert said is None or said in grid.notes[0]


def test_oblique_stack_has_no_tilt(tmp_path):
    """Slices turned by 20 degrees and stacked along their own normal: a reformatted volume."""
    files = write_folder_along_normal(tmp_path, 20.0, 5.0)
    assert files == 30
    grid = read_dicom_scan(tmp_path).grid
    assert grid.tilt_deg == 0.0
    assert grid.slice_spacing_mm == pytest.approx(5.0, abs=1e-4)


def write_folder_along_normal(folder, angle_deg, step_mm):
    angle = np.radians(angle_deg)
    write_series(folder, Z, ImageOrientationPatient=orientation(angle_deg))
    for path in folder.glob("*.dcm"):
        header = pydicom.dcmread(path)
        n = header.InstanceNumber - 1
        header.ImagePositionPatient = [
            0,
            round(n * step_mm * np.sin(angle), 6),
            round(n * step_mm * np.cos(angle), 6),
        ]
        header.save_as(path)
    return len(list(folder.glob("*.dcm")))


def test_four_then_seven_mm_is_kept(tmp_path):
    write_series(tmp_path, [*np.arange(14) * 4.0, *(52 + np.arange(1, 14) * 7.0)])
    grid = read_dicom_scan(tmp_path).grid
    assert not grid.uniform
    assert "unequal slice distances along the slice normal: 4.00 mm (13), 7.00 mm (13)" in grid.notes
    assert grid.slice_weights_mm.sum() == pytest.approx(13 * 4 + 13 * 7 + 2 + 3.5)


@pytest.mark.parametrize(
    ("fields", "stored", "hu", "dtype"),
    [
        ({"RescaleIntercept": -1024, "PixelRepresentation": 0}, 1054, 30, np.int16),
        ({"RescaleSlope": "0.5", "RescaleIntercept": -20}, 100, 30, np.float32),
        ({"RescaleIntercept": "0.5"}, 30, 30.5, np.float32),
    ],
)
def test_stored_values_become_hu(tmp_path, fields, stored, hu, dtype):
    write_series(tmp_path, Z, np.full((24, 32, 30), stored, np.int16), **fields)
    scan = read_dicom_scan(tmp_path)
    assert scan.hu.dtype == dtype
    assert np.all(scan.hu == hu)


def test_header_without_rescale_is_told(tmp_path):
    write_series(tmp_path, Z, RescaleSlope=None, RescaleIntercept=None)
    assert "no rescale slope" in read_dicom_scan(tmp_path).notes[0]


def test_rescale_tags_of_some_images_only_are_refused(tmp_path):
    write_series(tmp_path, Z)
    for path in sorted(tmp_path.iterdir(), key=lambda path: pydicom.dcmread(path).InstanceNumber)[3:5]:
        header = pydicom.dcmread(path)
        del header.RescaleSlope, header.RescaleIntercept
        header.save_as(path)
    with pytest.raises(ScanError, match=r"2 of 30 images .* have no rescale slope and intercept \(images 4, 5\)"):
        read_dicom_scan(tmp_path)


def test_padding_becomes_air_but_never_tissue(tmp_path):
    hu = np.full((24, 32, 30), -1000, np.int16)
    hu[4:20, 4:28] = 0
    hu[0] = -1500
    write_series(tmp_path / "a", Z, hu, PixelPaddingValue=-1500)
    scan = read_dicom_scan(tmp_path / "a")
    assert scan.hu.min() == -1024
    assert scan.notes == ("voxels of the padding value -1500 count as air",)
    write_series(tmp_path / "b", Z, np.maximum(hu, -1000), PixelPaddingValue=0)
    assert np.count_nonzero(read_dicom_scan(tmp_path / "b").hu == 0) == 16 * 24 * 30


def test_monochrome1_is_turned_back_only_where_values_are_inverted(tmp_path):
    hu = np.full((24, 32, 30), -1000, np.int16)
    hu[4:20, 4:28] = 40
    stored = (hu + 1024).astype(np.uint16)
    common = {
        "PhotometricInterpretation": "MONOCHROME1",
        "BitsStored": 12,
        "HighBit": 11,
        "RescaleIntercept": -1024,
    }
    write_series(tmp_path / "a", Z, stored, **common)
    write_series(tmp_path / "b", Z, (4095 - stored).astype(np.uint16), **common)
    for name, said in (("a", "kept"), ("b", "turned back")):
        scan = read_dicom_scan(tmp_path / name)
        assert np.array_equal(scan.hu, hu.transpose(1, 0, 2))
        assert said in scan.notes[0]


def test_the_middle_slice_tells_whether_a_series_is_inverted(tmp_path):
    """On the vertex the middle of the picture is air, as its border is."""
    hu = np.full((24, 32, 30), -1000, np.int16)
    hu[4:20, 4:28, :22] = 40
    hu[11:13, 15:17, 22:] = 40
    stored = (4095 - (hu + 1024)).astype(np.uint16)
    common = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11, "RescaleIntercept": -1024}
    write_series(tmp_path, Z, stored, **common)
    scan = read_dicom_scan(tmp_path)
    assert np.array_equal(scan.hu, hu.transpose(1, 0, 2))
    assert scan.notes[0].endswith("turned back")


@pytest.mark.parametrize(("unit", "usable"), [("HU", True), ("US", True), ("MGML", False), ("Z_EFF", False)])
def test_values_of_another_unit_are_no_hu(tmp_path, unit, usable):
    write_series(tmp_path, Z, RescaleType=unit)
    if usable:
        assert read_dicom_scan(tmp_path).kind == "hu"
    else:
        with pytest.raises(ScanError, match=rf"values are {unit} \(rescale type\), wanted HU"):
            read_dicom_scan(tmp_path)


def test_truncated_pixels_name_the_image_and_nothing_else(tmp_path):
    write_series(tmp_path, Z)
    path = sorted(tmp_path.glob("*_7.dcm"))[0]
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(ScanError, match="image 8 of series 2 cannot be decoded") as caught:
        read_dicom_scan(tmp_path)
    assert "SECRET" not in str(caught.value).upper()


def test_nothing_of_the_patient_comes_through(tmp_path):
    write_series(tmp_path, Z, ImageOrientationPatient=orientation(20))
    scan = read_dicom_scan(tmp_path)
    assert "SECRET" not in repr(scan).upper()


@pytest.mark.parametrize(
    "syntax",
    [
        pydicom.uid.RLELossless,
        pydicom.uid.JPEG2000Lossless,
        pydicom.uid.JPEGLSLossless,
        pydicom.uid.JPEGLosslessSV1,
    ],
    ids=lambda uid: uid.name,
)
def test_compressed_pixels_are_the_same(tmp_path, syntax):
    """Files are compressed by pydicom or GDCM; the reader must find a decoder of its own."""
    assert get_decoder(syntax).is_available
    hu = np.random.default_rng(0).integers(0, 2000, (24, 32, 5), dtype=np.uint16)
    write_series(tmp_path / "raw", Z[:5], hu, RescaleIntercept=-1024)
    (tmp_path / "packed").mkdir()
    for path in (tmp_path / "raw").glob("*.dcm"):
        compress(path, tmp_path / "packed" / path.name, syntax)
    packed = read_dicom_scan(tmp_path / "packed")
    assert np.array_equal(packed.hu, read_dicom_scan(tmp_path / "raw").hu)


def compress(source, target, syntax):
    if syntax == pydicom.uid.RLELossless:
        header = pydicom.dcmread(source)
        header.compress(syntax, generate_instance_uid=False)
        header.save_as(target)
        return
    gdcm = pytest.importorskip("gdcm", reason="GDCM makes the compressed files")
    kinds = {
        pydicom.uid.JPEG2000Lossless: gdcm.TransferSyntax.JPEG2000Lossless,
        pydicom.uid.JPEGLSLossless: gdcm.TransferSyntax.JPEGLSLossless,
        pydicom.uid.JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    }
    reader = gdcm.ImageReader()
    reader.SetFileName(str(source))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(kinds[syntax]))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(target))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


def test_multi_frame_file_equals_the_single_images(tmp_path):
    hu = np.random.default_rng(0).integers(-1000, 100, (24, 32, 6), dtype=np.int16)
    write_series(tmp_path / "single", Z[:6], hu)
    (tmp_path / "multi").mkdir()
    multi_frame(tmp_path / "single").save_as(tmp_path / "multi" / "one.dcm", enforce_file_format=True)
    single, multi = (read_dicom_scan(tmp_path / name) for name in ("single", "multi"))
    assert np.array_equal(single.hu, multi.hu)
    check_same_grid("1", single.grid, multi.grid, tolerance_mm=0)
    assert multi.grid.header_slice_spacing_mm == 5


def multi_frame(folder):
    images = sorted((pydicom.dcmread(p) for p in folder.glob("*.dcm")), key=lambda d: -d.InstanceNumber)
    whole = images[0]
    frames = []
    for one in images:
        frame, position = pydicom.Dataset(), pydicom.Dataset()
        position.ImagePositionPatient = one.ImagePositionPatient
        frame.PlanePositionSequence = [position]
        frames.append(frame)
    shared, plane, measures, values = (pydicom.Dataset() for _ in range(4))
    plane.ImageOrientationPatient = whole.ImageOrientationPatient
    measures.PixelSpacing, measures.SliceThickness = whole.PixelSpacing, 5
    values.RescaleSlope, values.RescaleIntercept = 1, 0
    shared.PlaneOrientationSequence = [plane]
    shared.PixelMeasuresSequence = [measures]
    shared.PixelValueTransformationSequence = [values]
    whole.PerFrameFunctionalGroupsSequence = frames
    whole.SharedFunctionalGroupsSequence = [shared]
    whole.NumberOfFrames = len(images)
    whole.PixelData = b"".join(one.PixelData for one in images)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope"):
        delattr(whole, name)
    whole.SOPClassUID = whole.file_meta.MediaStorageSOPClassUID = pydicom.uid.EnhancedCTImageStorage
    return whole


def test_file_of_a_converter_lies_on_the_series_again(tmp_path):
    """A converter that measures from slice origin to slice origin writes a turned, orthogonal affine."""
    step = 5.3925
    write_series(tmp_path / "ct", np.arange(30) * step, ImageOrientationPatient=orientation(22))
    scan = read_dicom_scan(tmp_path / "ct")
    naive = scan.grid.affine.copy()
    normal = np.cross(naive[:3, 0], naive[:3, 1])
    naive[:3, 2] = normal / np.linalg.norm(normal) * step
    nib.save(nib.Nifti1Image(np.asarray(scan.hu), naive), tmp_path / "naive.nii.gz")
    converted = read_nifti_scan(tmp_path / "naive.nii.gz")
    check_same_grid("naive", scan.grid, converted.grid)
    assert converted.grid.slice_spacing_mm == pytest.approx(scan.grid.slice_spacing_mm, abs=1e-4)
    assert converted.grid.tilt_deg == pytest.approx(22, abs=1e-3)


def test_real_head_has_its_tilt_and_both_spacings(shared_data, tmp_path):
    scan = read_dicom_scan(shared_data / "dicom" / "ge_head")
    grid = scan.grid
    assert grid.shape == (512, 512, 28)
    assert grid.tilt_deg == pytest.approx(18.5, abs=1e-3)
    steps = np.round(grid.steps_mm, 2)
    assert {step: int(np.sum(np.isclose(steps, step, atol=0.02))) for step in (4, 1.08, 7)} == {
        4: 13,
        1.08: 1,
        7: 13,
    }
    assert scan.hu.min() == -1024
    assert scan.kind == "hu"
    mask = (scan.hu > 40) & (scan.hu < 90)
    write_mask(tmp_path / "m.nii.gz", mask, grid)
    labels, back = read_mask(tmp_path / "m.nii.gz")
    assert back.volume_ml(labels > 0) == grid.volume_ml(mask)
    check_same_grid("ge_head", grid, back)
    write_scan(tmp_path / "s.nii.gz", scan.hu, grid)
    assert np.array_equal(read_nifti_scan(tmp_path / "s.nii.gz").hu, scan.hu)


def block_ml(scan, z_from_mm=758.0):
    """Volume above a table position of the block of about 20 x 20 mm section, of plastic (95 HU) in air."""
    plastic = (scan.hu > -450) & (scan.hu < 250)  # half way from air
    grid = scan.grid
    i, j, k = np.nonzero(plastic)
    z = grid.affine[2, :3] @ [i, j, k] + grid.affine[2, 3]
    # A slice that the cut passes through counts in part.
    part = np.clip(0.5 + (z - z_from_mm) / grid.slice_weights_mm[k], 0, 1)
    weights = np.zeros(plastic.shape)
    weights[i, j, k] = part
    components, _ = label(weights > 0)
    middle = np.linalg.solve(grid.affine, [-13.5, -87.0, 775.0, 1.0])[:3].round().astype(int)
    block = components == components[tuple(middle)]
    return float((weights * block * grid.voxel_ml).sum())


def test_real_block_has_one_volume_from_both_series(shared_data):
    """The same object at 5 mm without and at 2.5 mm with tilt; without the cosine they differ by 8 %."""
    straight = block_ml(read_dicom_scan(shared_data / "dicom" / "philips_phantom_5mm"))
    tilted = block_ml(read_dicom_scan(shared_data / "dicom" / "philips_phantom_tilt"))
    assert tilted == pytest.approx(straight, rel=0.04)


def test_real_phantom_lies_at_the_same_place_in_both_series(shared_data):
    """Center of the block at table position 775 mm, in patient coordinates: tilt and affine agree."""
    centers = []
    for name in ("philips_phantom_5mm", "philips_phantom_tilt"):
        scan = read_dicom_scan(shared_data / "dicom" / name)
        i, j, k = np.nonzero((scan.hu > -450) & (scan.hu < 250))
        place = scan.grid.affine[:3, :3] @ [i, j, k] + scan.grid.affine[:3, 3:]
        near = (abs(place[0] + 13.5) < 13) & (abs(place[1] + 87) < 14) & (abs(place[2] - 775) < 6)
        centers.append(place[:2, near].mean(axis=1))
    assert np.linalg.norm(centers[0] - centers[1]) < 1
