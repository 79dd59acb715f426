import gzip
import json

import nibabel as nib
import numpy as np
import pytest

from ich.grid import Grid, ScanError, check_same_grid
from ich.nifti import read_mask, read_nifti_scan, write_mask, write_scan

SHAPE = (40, 50, 9)


def save(path, data, affine, sform=1, qform=1, edit=None):
    """A NIfTI file with the given form codes; `edit` changes the header afterwards."""
    header = nib.Nifti1Header()
    header.set_data_dtype(data.dtype)
    header.set_data_shape(data.shape)
    header.set_qform(affine, code=qform, strip_shears=True)
    header.set_sform(affine, code=sform)
    image = nib.Nifti1Image(data, None, header)  # with an affine given, nibabel would set the codes anew
    if edit:
        edit(image.header)
    raw = image.to_bytes()
    path.write_bytes(gzip.compress(raw) if path.name.endswith(".gz") else raw)
    return path


def diagonal(*spacing):
    return np.diag([*spacing, 1.0])


def ellipsoid(affine, shape, radii_mm):
    """Voxels whose center lies in an ellipsoid of RAS radii about the middle of the grid."""
    voxels = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1) - (np.array(shape) - 1) / 2
    return np.sum((voxels @ affine[:3, :3].T / radii_mm) ** 2, axis=-1) <= 1


@pytest.mark.parametrize("tilt_deg", [0, 20])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1)])
def test_ellipsoid_has_its_volume_on_any_grid(tmp_path, tilt_deg, order, signs):
    """A sheared (tilted) stack of 2 mm table steps, stored in any order: 4/3 pi a b c."""
    tilt = np.radians(tilt_deg)
    affine = np.eye(4)
    affine[:3, 0] = (signs[0] * 0.7, 0, 0)
    affine[:3, 1] = np.array([0, np.cos(tilt), np.sin(tilt)]) * 0.7 * signs[1]
    affine[:3, 2] = (0, 0, signs[2] * 2.0)
    mask = ellipsoid(affine, (80, 110, 41), (20, 25, 30)).astype(np.uint8)
    affine[:, :3] = affine[:, order]
    path = save(tmp_path / "m.nii.gz", mask.transpose(order), affine, qform=0)
    labels, grid = read_mask(path)
    assert grid.volume_ml(labels == 1) == pytest.approx(4 / 3 * np.pi * 20 * 25 * 30 / 1000, rel=0.003)
    assert grid.slice_spacing_mm == pytest.approx(2 * np.cos(tilt), abs=1e-6)
    assert abs(grid.tilt_deg) == pytest.approx(tilt_deg, abs=1e-4)
    assert grid.header_slice_spacing_mm == pytest.approx(2)


@pytest.mark.parametrize("name", ["m.nii", "m.nii.gz"])
def test_written_mask_lies_over_the_source_voxel_by_voxel(tmp_path, name):
    """A file stored as K, J, I from head to foot gets back shape, affine and voxels exactly."""
    affine = np.array([[0, 0, 0.45, -3.1], [0, 0.45, 0, 7.7], [-4.8, 0, 0, 1.3], [0, 0, 0, 1]])
    rng = np.random.default_rng(0)
    stored = rng.integers(-1000, 100, (9, 50, 40), dtype=np.int16)
    source = save(tmp_path / "ct.nii.gz", stored, affine, sform=2)
    scan = read_nifti_scan(source)
    assert scan.hu.shape == (40, 50, 9)
    assert scan.hu[3, 4, 5] == stored[9 - 1 - 5, 50 - 1 - 4, 40 - 1 - 3]
    write_mask(tmp_path / name, scan.hu > 0, scan.grid)
    written = nib.load(tmp_path / name)
    assert np.array_equal(written.affine, nib.load(source).affine)
    assert np.array_equal(np.asanyarray(written.dataobj), stored > 0)
    assert written.get_data_dtype() == np.uint8
    labels, grid = read_mask(tmp_path / name)
    check_same_grid("001", scan.grid, grid, tolerance_mm=0)
    assert np.array_equal(labels, scan.hu > 0)


def test_uneven_positions_survive_the_round_trip(tmp_path):
    positions = np.array([0.1, 4.1, 8.1, 15.1, 22.1])
    grid = Grid((8, 9, 5), (0.5, 0.5), positions, diagonal(-0.5, -0.5, 5.5), 18.5, 4.0, ("told",))
    labels = np.zeros(grid.shape, np.uint8)
    labels[2:4, 3:5, 1:] = 2
    write_mask(tmp_path / "m.nii.gz", labels, grid)
    again, back = read_mask(tmp_path / "m.nii.gz")
    assert np.array_equal(again, labels)
    assert back.positions_mm.tolist() == positions.tolist()
    assert back.volume_ml(again > 0) == grid.volume_ml(labels > 0)
    assert (back.tilt_deg, back.header_slice_spacing_mm, back.notes) == (18.5, 4.0, ("told",))


@pytest.mark.parametrize("sign", [1, -1])
def test_uneven_positions_turn_with_the_slices(tmp_path, sign):
    """Slices written from head to foot come back from foot to head with their own weights."""
    positions = np.array([0.0, 4, 8, 15])
    grid = Grid((8, 9, 4), (0.5, 0.5), positions, diagonal(0.5, 0.5, sign * 5.0))
    labels = np.zeros(grid.shape, np.uint8)
    labels[0, 0, 3] = 1  # on the slice that weighs 7 mm
    write_mask(tmp_path / "m.nii", labels, grid)
    again, back = read_mask(tmp_path / "m.nii")
    assert back.volume_ml(again > 0) == pytest.approx(0.25 * 7 / 1000)
    write_mask(tmp_path / "n.nii", again, back)
    third, last = read_mask(tmp_path / "n.nii")
    assert np.array_equal(third, again)
    assert last.positions_mm.tolist() == back.positions_mm.tolist()
    assert np.array_equal(nib.load(tmp_path / "n.nii").affine, nib.load(tmp_path / "m.nii").affine)


def test_stored_positions_of_a_cropped_file_are_not_believed(tmp_path):
    grid = Grid((8, 9, 4), (0.5, 0.5), np.array([0.0, 4, 8, 15]), diagonal(-0.5, -0.5, 5.0))
    write_mask(tmp_path / "m.nii", np.zeros(grid.shape, np.uint8), grid)
    cropped = nib.load(tmp_path / "m.nii").slicer[:, :, 1:]
    nib.save(cropped, tmp_path / "c.nii")
    _, back = read_mask(tmp_path / "c.nii")
    assert back.positions_mm.tolist() == [5, 10, 15]
    assert "no longer match the affine" in back.notes[-1]


def test_comment_can_be_read_by_other_tools(tmp_path):
    grid = Grid((2, 2, 2), (1, 1), np.array([0.0, 5.0]), diagonal(-1, -1, 5))
    write_scan(tmp_path / "s.nii", np.zeros((2, 2, 2), np.int16), grid)
    (comment,) = nib.load(tmp_path / "s.nii").header.extensions
    assert comment.get_code() == 6
    stored = json.loads(bytes(comment.get_content()).rstrip(b"\0"))["ich"]
    assert stored["positions_mm"] == [0.0, 5.0]
    assert stored["header_slice_spacing_mm"] is None


def test_same_mask_gives_the_same_bytes_and_leaves_no_part_behind(tmp_path):
    grid = Grid((2, 2, 2), (1, 1), np.array([0.0, 5.0]), diagonal(-1, -1, 5))
    for name in ("a.nii.gz", "b.nii.gz"):
        write_mask(tmp_path / name, np.ones((2, 2, 2)), grid)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nii.gz", "b.nii.gz"]


def test_writing_checks_shape_labels_and_name(tmp_path):
    grid = Grid((2, 2, 2), (1, 1), np.array([0.0, 5.0]), diagonal(-1, -1, 5))
    with pytest.raises(ScanError, match=r"array shape \(3, 2, 2\) differs from grid \(2, 2, 2\)"):
        write_mask(tmp_path / "m.nii", np.zeros((3, 2, 2)), grid)
    with pytest.raises(ScanError, match="holds the values 7"):
        write_mask(tmp_path / "m.nii", np.full((2, 2, 2), 7), grid)
    with pytest.raises(ScanError, match=r"wanted a name that ends in \.nii or \.nii\.gz"):
        write_mask(tmp_path / "m.mha", np.zeros((2, 2, 2)), grid)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32, np.float64])
def test_masks_of_any_number_type_give_uint8(tmp_path, dtype):
    stored = (np.arange(np.prod(SHAPE)).reshape(SHAPE) % 4).astype(dtype)
    labels, _ = read_mask(save(tmp_path / "m.nii", stored, diagonal(-1, -1, 5)))
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, stored)


def test_scaled_mask_is_unscaled_first(tmp_path):
    def scale(header):
        header["scl_slope"], header["scl_inter"] = 1 / 255, 0

    stored = np.zeros(SHAPE, np.int16)
    stored[1] = 255
    labels, _ = read_mask(save(tmp_path / "m.nii", stored, diagonal(-1, -1, 5), edit=scale))
    assert np.unique(labels).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("value", "dtype", "said"),
    [
        (255, np.uint8, "holds the values 0, 255; wanted 0, 1 parenchymal.*needs its label"),
        (-1, np.int16, "holds the values -1, 0"),
        (0.5, np.float32, "holds the values 0, 0.5"),
        (np.nan, np.float32, "holds the values 0, nan"),
        (4, np.float64, "holds the values 0, 4"),
    ],
)
def test_other_mask_values_are_named(tmp_path, value, dtype, said):
    stored = np.zeros(SHAPE, dtype)
    stored[0, 0, 0] = value
    with pytest.raises(ScanError, match=said):
        read_mask(save(tmp_path / "m.nii", stored, diagonal(-1, -1, 5)))


@pytest.mark.parametrize(
    ("stored", "slope", "inter", "hu", "dtype"),
    [
        (np.int16(30), np.nan, np.nan, 30, np.int16),
        (np.uint16(1054), 1, -1024, 30, np.int16),
        (np.int16(60), 0.5, 0, 30, np.float32),
        (np.float32(30), 1, 0, 30, np.int16),
        (np.float32(30.25), 1, 0, 30.25, np.float32),
        (np.uint16(40000), 1, 0, 40000, np.float32),
    ],
)
def test_values_become_hu_as_small_as_is_exact(tmp_path, stored, slope, inter, hu, dtype):
    def scale(header):
        header["scl_slope"], header["scl_inter"] = slope, inter

    scan = read_nifti_scan(save(tmp_path / "s.nii", np.full(SHAPE, stored), diagonal(-1, -1, 5), edit=scale))
    if dtype is np.float32 and hu == 30:
        dtype = np.int16  # halves that are whole again are stored as whole
    assert scan.hu.dtype == dtype
    assert scan.hu[0, 0, 0] == hu


def test_scan_survives_writing(tmp_path):
    grid = Grid((4, 5, 3), (1, 1), np.array([0.0, 5, 10]), diagonal(-1, -1, 5))
    hu = np.arange(60, dtype=np.float32).reshape(4, 5, 3) - 1000.5
    write_scan(tmp_path / "s.nii.gz", hu, grid)
    assert np.array_equal(read_nifti_scan(tmp_path / "s.nii.gz").hu, hu)


def test_sform_is_used_and_a_different_qform_told(tmp_path):
    def other_qform(header):
        header.set_qform(diagonal(-1, -1, 7), code=1)

    path = save(tmp_path / "s.nii", np.zeros(SHAPE, np.int16), diagonal(-1, -1, 5), edit=other_qform)
    grid = read_nifti_scan(path).grid
    assert grid.slice_spacing_mm == pytest.approx(5)
    assert "sform and qform differ" in grid.notes[0]
    assert "pixdim states slices 7 mm apart, the affine 5 mm" in grid.notes[1]


def test_qform_is_used_where_there_is_no_sform(tmp_path):
    affine = diagonal(-0.5, -0.5, 4.0)
    grid = read_nifti_scan(save(tmp_path / "s.nii", np.zeros(SHAPE, np.int16), affine, sform=0)).grid
    assert grid.affine == pytest.approx(affine)
    assert grid.notes == ()


def test_without_both_forms_pixdim_gives_the_spacing_and_a_note(tmp_path):
    grid = read_nifti_scan(save(tmp_path / "s.nii", np.zeros(SHAPE, np.int16), diagonal(1, 1, 4.0), 0, 0)).grid
    assert grid.slice_spacing_mm == 4
    assert "neither sform nor qform" in grid.notes[0]


def test_one_frame_in_four_axes_is_a_volume_and_two_are_not(tmp_path):
    one = save(tmp_path / "one.nii", np.zeros((*SHAPE, 1), np.int16), diagonal(-1, -1, 5))
    assert read_nifti_scan(one).hu.shape == SHAPE
    two = save(tmp_path / "two.nii", np.zeros((*SHAPE, 2), np.int16), diagonal(-1, -1, 5))
    with pytest.raises(ScanError, match=r"shape \(40, 50, 9, 2\), wanted one volume"):
        read_nifti_scan(two)


def test_nan_is_counted(tmp_path):
    stored = np.zeros(SHAPE, np.float32)
    stored[0, 0, :3] = np.nan
    with pytest.raises(ScanError, match="3 of 18000 voxels are NaN or infinite"):
        read_nifti_scan(save(tmp_path / "s.nii", stored, diagonal(-1, -1, 5)))


@pytest.mark.parametrize(("spacing", "shown"), [((-1, -1, 0.001), "0.001"), ((-1, -1, 500), "500")])
def test_absurd_spacing_is_named(tmp_path, spacing, shown):
    path = save(tmp_path / "s.nii", np.zeros(SHAPE, np.int16), diagonal(*spacing))
    with pytest.raises(ScanError, match=rf"voxel spacing .*{shown} mm, wanted 0.05 to 30 mm"):
        read_nifti_scan(path)


def test_zero_spacing_is_not_taken_for_1_mm(tmp_path):
    def zero(header):
        header["pixdim"][3] = 0

    path = save(tmp_path / "s.nii", np.zeros(SHAPE, np.int16), diagonal(-1, -1, 5), sform=0, edit=zero)
    with pytest.raises(ScanError, match=r"spacing in pixdim is \[1.0, 1.0, 0.0\] mm"):
        read_nifti_scan(path)


def test_skewed_pixels_are_refused(tmp_path):
    affine = diagonal(-1.0, -1.0, 5.0)
    affine[1, 0] = 0.3
    with pytest.raises(ScanError, match="skewed pixels"):
        read_nifti_scan(save(tmp_path / "s.nii", np.zeros(SHAPE, np.int16), affine, qform=0))


def good(tmp_path):
    rng = np.random.default_rng(1)
    return save(tmp_path / "good.nii.gz", rng.integers(-9, 9, SHAPE, dtype=np.int16), diagonal(-1, -1, 5)).read_bytes()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda raw: raw[: len(raw) // 2], "truncated or damaged file"),
        (lambda raw: raw[:500] + bytes(50) + raw[550:], "truncated or damaged file"),
        (lambda raw: raw[:-8] + bytes(4) + raw[-4:], "truncated or damaged file"),
        (lambda raw: gzip.compress(gzip.decompress(raw)[:5000]), "truncated file: 4648 bytes of voxels"),
        (lambda raw: gzip.compress(gzip.decompress(raw)[:100]), "not a NIfTI file"),
        (lambda raw: b"hello", "not a NIfTI file"),
        (lambda raw: b"", "not a NIfTI file"),
        (lambda raw: bytes(400), "not a NIfTI file|not a single NIfTI file"),
    ],
    ids=["half", "hole", "checksum", "voxels missing", "header missing", "text", "empty", "zeros"],
)
def test_damaged_file_is_named(tmp_path, damage, said):
    path = tmp_path / "case_17.nii.gz"
    path.write_bytes(damage(good(tmp_path)))
    with pytest.raises(ScanError, match=rf"case_17\.nii\.gz: ({said})"):
        read_nifti_scan(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ScanError, match=r"absent\.nii: no such file"):
        read_mask(tmp_path / "absent.nii")


def test_real_masks_read_as_nibabel_reads_them(shared_data):
    for path in sorted((shared_data / "masks" / "hemseg").glob("*.nii.gz"))[::20]:
        labels, grid = read_mask(path)
        image = nib.load(path)
        assert np.array_equal(labels, np.asanyarray(image.dataobj))
        assert grid.shape == image.shape


def test_real_mask_round_trip_keeps_affine_and_volume(shared_data, tmp_path):
    for name in ("02bb3e7d9d", "564c63132f", "01c1a0169f"):  # tilted, without sform, straight
        path = shared_data / "masks" / "hemseg" / f"{name}.nii.gz"
        labels, grid = read_mask(path)
        write_mask(tmp_path / "m.nii.gz", labels, grid)
        again, back = read_mask(tmp_path / "m.nii.gz")
        assert np.array_equal(nib.load(tmp_path / "m.nii.gz").affine, nib.load(path).affine)
        assert back.volume_ml(again > 0) == grid.volume_ml(labels > 0)
        assert back.notes == grid.notes


def test_coronal_slices_and_a_mirrored_qform_are_told(tmp_path):
    pixels = np.full((20, 12, 20), -1000, np.int16)
    pixels[5:15, 3:9, 5:15] = 40
    coronal = np.array([[-1.0, 0, 0, 0], [0, 5, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(pixels, coronal), tmp_path / "coronal.nii")
    notes = read_nifti_scan(tmp_path / "coronal.nii").grid.notes
    assert any("slices are coronal: A, B and C" in note for note in notes)
    image = nib.Nifti1Image(pixels, np.diag([-1.0, 1, 5, 1]))
    image.header.set_qform(np.diag([1.0, 1, 5, 1]), code=1)
    nib.save(image, tmp_path / "mirrored.nii")
    assert any("left and right swapped" in note for note in read_nifti_scan(tmp_path / "mirrored.nii").grid.notes)
