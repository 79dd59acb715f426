"""Simulated cases are plausible, repeat themselves and do not depend on how many others there are."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import ndimage

from ich import phantom
from ich.anatomy import Field
from ich.scan import read_mask, read_scan
from ich.scanner import draw_acquisition

SIZE = 128
SEED = 2019
TYPES = {
    "parenchymal": [{1}],
    "ventricular": [{2}],
    "subarachnoid": [{3}],
    "mixed": [{1, 2}, {1, 3}, {1, 2, 3}],
}


@cache
def case(index, size=SIZE):
    return phantom.make_case(SEED, index, size)


def of_type(kind, n):
    """The first n cases of a type."""
    indices = (i for i in range(1000) if phantom.hemorrhage_type(SEED, i) == kind)
    return [case(next(indices)) for _ in range(n)]


def test_field_interpolates_linearly_between_voxels_and_stops_at_the_border():
    values = torch.arange(24.0).reshape(2, 3, 4, 1)
    field = Field(values, np.array([0.0, 0, 0]), np.array([1.0, 4, 6]))
    points = torch.tensor([[0.0, 0, 0], [1, 4, 6], [0.5, 2, 2], [0, 3, 5], [-9, -9, -9], [9, 9, 9]])
    # By hand: one step along X is worth 12, along Y (2 mm) 4, along Z (2 mm) 1.
    assert field.sample(points)[0].tolist() == pytest.approx([0, 23, 11, 8.5, 0, 23], abs=0.02)


def test_what_a_gpu_is_told_in_fewer_operations_are_the_same_numbers():
    random = torch.Generator().manual_seed(0)
    field = Field(torch.zeros(7, 5, 9, 1), np.array([-3.1, 0.7, 2]), np.array([4.3, 9, 31]))
    points = torch.randn((2, 300, 3), generator=random) * 20
    for one, other in zip(field._corners(points), field._launched(points), strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


@pytest.mark.parametrize("index", range(8))
def test_case_is_a_plausible_head_ct(index):
    made = case(index)
    assert made.hu.shape == made.labels.shape == made.second_reader.shape == made.grid.shape
    assert made.hu.dtype == np.int16
    assert 24 <= made.hu.shape[2] <= 34
    voxel_ml = made.grid.voxel_ml
    brain_ml = np.count_nonzero((made.hu > 15) & (made.hu < 90), axis=(0, 1)) @ voxel_ml
    assert 900 < brain_ml < 2600, "brain, muscles and skin of an adult head"
    bone_ml = np.count_nonzero(made.hu > 300, axis=(0, 1)) @ voxel_ml
    assert 300 < bone_ml < 1200
    assert (made.hu[:8, :8] < -900).all(), "air or padding in the corner"


def test_grey_matter_is_denser_than_white_and_csf_is_water():
    made = of_type("parenchymal", 1)[0]
    middle = ndimage.gaussian_filter(made.hu[:, :, 12:18].astype(float), (1.5, 1.5, 0))
    brain = middle[(middle > 20) & (middle < 50) & (made.labels[:, :, 12:18] == 0)]
    assert 28 < np.median(brain) < 39  # grey matter has 34-42, white matter 26-33 HU


@pytest.mark.parametrize("kind", TYPES)
def test_labels_are_visible_blood_of_the_type(kind):
    for made in of_type(kind, 2):
        present = set(np.unique(made.labels).tolist()) - {0}
        assert present in TYPES[kind]
        assert {label for label, ml in made.true_volume_ml.items() if ml > 0} == present
        for label in present:
            inside = made.labels == label
            # HU around a labeled voxel, of labeled voxels only: acute blood after blur, noise and partial volume
            local = ndimage.uniform_filter(np.where(inside, made.hu, 0).astype(float), (3, 3, 1))
            local = local[inside] / ndimage.uniform_filter(inside.astype(float), (3, 3, 1))[inside]
            assert 42 <= np.median(local) <= 80
            assert np.mean((local > 40) & (local < 95)) > 0.9


def test_outlines_of_hematomas_hold_their_true_volume():
    pairs = [(m.true_volume_ml[1], m.grid.volume_ml(m.labels == 1)) for m in of_type("parenchymal", 12)]
    true, outlined = np.array(pairs).T
    assert outlined == pytest.approx(true, rel=0.1, abs=0.3)
    assert np.median(outlined / true) == pytest.approx(1, abs=0.04)


def test_second_reader_agrees_closely_but_not_fully():
    for made in of_type("parenchymal", 6):
        both = np.count_nonzero((made.labels > 0) & (made.second_reader > 0))
        dice = 2 * both / (np.count_nonzero(made.labels) + np.count_nonzero(made.second_reader))
        assert 0.7 < dice < 1


def test_case_repeats_itself():
    again = phantom.make_case(SEED, 3, SIZE)
    assert np.array_equal(again.hu, case(3).hu)
    assert np.array_equal(again.labels, case(3).labels)
    assert np.array_equal(again.second_reader, case(3).second_reader)
    other = phantom.make_case(SEED + 1, 3, SIZE)
    assert other.hu.shape != again.hu.shape or not np.array_equal(other.hu, again.hu)


def test_size_changes_the_pixels_and_not_the_patient():
    small, large = case(1), case(1, 192)
    assert large.true_volume_ml == small.true_volume_ml
    assert large.grid.positions_mm == pytest.approx(small.grid.positions_mm)
    assert large.grid.volume_ml(large.labels > 0) == pytest.approx(small.grid.volume_ml(small.labels > 0), rel=0.1)


def test_rendering_leaves_threads_as_they_were():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        phantom.make_case(SEED, 0, 64)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_written_case_does_not_depend_on_the_size_of_the_cohort(tmp_path):
    table = phantom.write_cohort(tmp_path, 2, SEED, SIZE, jobs=1)
    assert table["case_id"].tolist() == ["phantom-0000", "phantom-0001"]
    assert table["true_volume_ml"].tolist() == pytest.approx([sum(case(i).true_volume_ml.values()) for i in (0, 1)])
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "cases.csv"), table, check_dtype=False)
    row = table.iloc[1]
    scan = read_scan(tmp_path / row["image"])
    assert np.array_equal(scan.hu, np.maximum(case(1).hu, -1024))  # the reader raises padding
    for column, array in (("reference_mask", case(1).labels), ("second_mask", case(1).second_reader)):
        labels, grid = read_mask(tmp_path / row[column])
        assert np.array_equal(labels, array)
        assert grid.positions_mm == pytest.approx(case(1).grid.positions_mm)
        assert grid.tilt_deg == pytest.approx(case(1).grid.tilt_deg)


def test_written_cases_are_kept(tmp_path):
    first = phantom.write_cohort(tmp_path, 1, SEED, 64, jobs=1)
    image = tmp_path / "images" / "phantom-0000.nii.gz"
    stamp = image.stat().st_mtime_ns
    pd.testing.assert_frame_equal(first, phantom.write_cohort(tmp_path, 1, SEED, 64, jobs=1))
    assert image.stat().st_mtime_ns == stamp
    phantom.write_cohort(tmp_path, 1, SEED - 1, 64, jobs=1)
    assert image.stat().st_mtime_ns != stamp


def test_cases_beyond_the_number_asked_for_do_not_stay(tmp_path):
    phantom.write_cohort(tmp_path, 2, SEED, 64, jobs=1)
    (tmp_path / "images" / "mine.nii.gz").touch()
    phantom.write_cohort(tmp_path, 1, SEED, 64, jobs=1)
    assert [path.name for path in sorted((tmp_path / "images").iterdir())] == ["mine.nii.gz", "phantom-0000.nii.gz"]
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["phantom-0000.nii.gz"]


def test_follow_up_is_the_same_patient_later():
    first, later = case(6), case(7)
    assert first.patient_id == later.patient_id
    assert first.hemorrhage_type == later.hemorrhage_type
    assert first.scan_date < later.scan_date
    assert first.true_volume_ml != later.true_volume_ml
    assert case(5).patient_id != first.patient_id


def test_types_come_in_their_shares():
    types = pd.Series([phantom.hemorrhage_type(SEED, i) for i in range(800)]).value_counts(normalize=True)
    for kind, share in phantom.TYPE_SHARES.items():
        assert types[kind] == pytest.approx(share, abs=0.05)


def test_half_of_the_gantries_are_tilted_and_spacing_is_mixed_at_times():
    scans = [draw_acquisition(np.random.default_rng(i), SIZE) for i in range(300)]
    tilts = np.array([scan.tilt_deg for scan in scans])
    assert 0.4 < np.mean(tilts != 0) < 0.65
    assert tilts.min() < -15
    assert tilts.max() > 15
    assert np.abs(tilts).max() <= 25
    assert 0.1 < np.mean([not scan.grid().uniform for scan in scans]) < 0.3
    assert {24 <= scan.grid().shape[2] <= 34 for scan in scans} == {True}


def tilted_scan():
    """A scan with a tilted gantry and uniform slices."""
    scans = (draw_acquisition(np.random.default_rng(i), SIZE) for i in range(99))
    return next(scan for scan in scans if abs(scan.tilt_deg) > 10 and scan.grid().uniform)


def test_tilted_slices_lie_closer_than_the_table_moves():
    scan = next(
        s for s in (draw_acquisition(np.random.default_rng(i), SIZE) for i in range(99)) if abs(s.tilt_deg) > 10
    )
    grid, angle = scan.grid(), np.radians(scan.tilt_deg)
    assert grid.positions_mm == pytest.approx((scan.table_mm - scan.table_mm[0]) * np.cos(angle))
    assert grid.affine[:3, 2] / np.linalg.norm(grid.affine[:3, 2]) == pytest.approx([0, 0, 1])
    # A gantry tilted forward puts the front of a slice closer to the head's top than its back.
    assert np.sign(grid.affine[2, 1]) == -np.sign(scan.tilt_deg)


def test_voxel_lies_where_the_affine_says():
    """The point a voxel shows, found through the affine, is the one that was rendered."""
    scan = next(
        s for s in (draw_acquisition(np.random.default_rng(i), SIZE) for i in range(99)) if abs(s.tilt_deg) > 10
    )
    grid = scan.grid()
    if not grid.uniform:
        pytest.skip("the mean step of mixed spacing is no exact position")
    i, j, k = 31, 90, 11
    rendered = scan.points(k, np.zeros(1), torch.tensor([float(i)]), torch.tensor([float(j)]))[0, 0, 0].numpy()
    world = (grid.affine @ [i, j, k, 1])[:3]
    assert rendered == pytest.approx(scan.rotation.T @ (world - scan.center_mm), abs=1e-3)
