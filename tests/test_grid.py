import numpy as np
import pytest

from ich.grid import (
    Grid,
    ScanError,
    as_acquired,
    check_same_grid,
    describe_steps,
    orient,
    slice_weights_mm,
    tilt_between,
)


def grid(positions, spacing=(0.5, 0.5), shape=(10, 12), affine=None, **rest):
    positions = np.asarray(positions, float)
    affine = np.diag([-spacing[0], -spacing[1], 5.0, 1.0]) if affine is None else affine
    return Grid((*shape, len(positions)), spacing, positions, affine, **rest)


def test_uniform_slices_weigh_their_spacing():
    assert slice_weights_mm([10, 15, 20, 25]).tolist() == [5, 5, 5, 5]


def test_mixed_slices_weigh_half_the_way_to_both_neighbors():
    assert slice_weights_mm([0, 4, 8, 15, 22]).tolist() == [4, 4, 5.5, 7, 7]


def test_one_slice_weighs_its_thickness_or_nothing_at_all():
    assert slice_weights_mm([3.0], thickness_mm=5).tolist() == [5]
    for unknown in (None, 0, float("nan")):
        with pytest.raises(ScanError, match="thickness_mm is needed"):
            slice_weights_mm([3.0], unknown)


def test_one_slice_of_unknown_thickness_has_no_volume():
    with pytest.raises(ScanError, match="thickness_mm is needed"):
        _ = grid([0.0]).slice_weights_mm


@pytest.mark.parametrize("positions", [[0, 5, 5], [0, 5, 3], [5, 0]])
def test_positions_that_do_not_ascend_are_refused(positions):
    with pytest.raises(ScanError, match="strictly ascending"):
        slice_weights_mm(positions)


def test_volume_is_the_sum_of_weighted_voxels():
    """Two voxels of 0.5 x 0.5 mm: one on a 4 mm slice, one on a 7 mm slice, so 0.25 * 11 mm3."""
    g = grid([0, 4, 8, 15, 22])
    mask = np.zeros(g.shape, bool)
    mask[1, 2, 0] = mask[3, 4, 4] = True
    assert g.volume_ml(mask) == pytest.approx(0.25 * 11 / 1000)
    assert g.volume_ml(np.zeros(g.shape, bool)) == 0.0


def test_mask_of_another_shape_has_no_volume():
    with pytest.raises(ScanError, match=r"\(2, 2, 2\) differs from grid \(10, 12, 3\)"):
        grid([0, 5, 10]).volume_ml(np.zeros((2, 2, 2), bool))


def test_spacing_is_the_median_and_uniformity_allows_rounding():
    assert grid([0, 4, 8, 15]).slice_spacing_mm == 4
    assert not grid([0, 4, 8, 15]).uniform
    assert grid([0, 4.22, 8.43, 12.65]).uniform
    assert grid([0, 5]).uniform
    assert grid([0], header_slice_spacing_mm=5).uniform
    assert grid([0], header_slice_spacing_mm=5).slice_spacing_mm == 5


@pytest.mark.parametrize(
    ("columns", "axes", "flips"),
    [
        (np.diag([-0.5, -0.5, 5.0]), (0, 1, 2), (False, False, False)),
        (np.diag([0.5, 0.5, 5.0]), (0, 1, 2), (True, True, False)),
        (np.diag([0.5, 0.5, -5.0]), (0, 1, 2), (True, True, True)),
        (np.array([[0, 0, 0.5], [0, 0.5, 0], [5.0, 0, 0]]), (2, 1, 0), (True, True, False)),
        (np.array([[0, -0.5, 0], [-0.5, 0, 0], [0, 0, 5.0]]), (1, 0, 2), (False, False, False)),
        (np.array([[0, -0.5, 0], [0, 0, 5.0], [0.5, 0, 0]]), (1, 0, 2), (False, False, True)),
    ],
    ids=["as is", "RAS", "head first", "stored as K J I", "swapped", "coronal"],
)
def test_any_storage_order_turns_to_left_back_head(columns, axes, flips):
    affine = np.eye(4)
    affine[:3, :3] = columns
    affine[:3, 3] = (3, 4, 5)
    found_axes, found_flips, turned = orient(affine, (20, 30, 40))
    assert (found_axes, found_flips) == (axes, flips)
    # The turned affine sends the first (i, j, k) voxel where the file's affine sends the same voxel.
    shape = (20, 30, 40)
    stored = np.array([0, 0, 0, 1])
    for axis, flip in zip(found_axes, found_flips, strict=True):
        stored[axis] = shape[axis] - 1 if flip else 0
    assert (affine @ stored)[:3] == pytest.approx(turned[:3, 3])


def test_slice_axis_of_a_cube_is_the_one_along_the_patient():
    axes, _, _ = orient(np.array([[0, 0, 1.0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]), (5, 5, 5))
    assert axes == (2, 0, 1)


def test_slice_axis_that_is_given_counts():
    assert orient(np.diag([-0.5, -0.5, 5.0, 1.0]), (20, 30, 40), slice_axis=0)[0][2] == 0
    assert orient(np.diag([-0.5, -0.5, 5.0, 1.0]), (20, 30, 40), slice_axis=1)[0][2] == 1


def test_tilt_is_positive_where_the_front_turns_to_the_head():
    normal = np.array([0.0, -np.sin(np.radians(18.5)), np.cos(np.radians(18.5))])
    assert tilt_between(normal, np.array([0.0, 0.0, 1.0])) == pytest.approx(18.5)
    assert tilt_between(normal, normal) == 0.0


def test_steps_are_told_in_runs():
    assert describe_steps(np.array([4, 4, 4.01, 1.08, 7, 7])) == "4.00 mm (3), 1.08 mm (1), 7.00 mm (2)"


def test_same_grid_passes_and_a_difference_names_case_and_both_sides():
    one = grid([0, 5, 10])
    check_same_grid("017", one, grid([0, 5, 10]))
    with pytest.raises(ScanError, match=r"case 017: shape \(10, 12, 3\).*\(10, 12, 2\)"):
        check_same_grid("017", one, grid([0, 5]))
    moved = one.affine.copy()
    moved[1, 3] += 2.5
    with pytest.raises(ScanError, match=r"case 017: affines differ by up to 2\.50 mm.*scan .*mask "):
        check_same_grid("017", one, grid([0, 5, 10], affine=moved))


@pytest.mark.parametrize(("axis", "last"), [(0, 9), (1, 11), (2, 2)])
def test_grids_are_compared_in_their_far_corners(axis, last):
    """Voxels of (10, 12, 3) that are 0.1 mm larger on one side: 0.1 mm for each from the first to the last."""
    one = grid([0, 5, 10])
    larger = one.affine.copy()
    larger[axis, axis] += 0.1
    other = larger.copy()
    other[axis, 3] -= 0.1 * last  # the last voxels lie together, the first apart
    for affine in (larger, other):
        with pytest.raises(ScanError, match=rf"differ by up to {last / 10:.2f} mm"):
            check_same_grid("017", one, grid([0, 5, 10], affine=affine))
    check_same_grid("017", one, grid([0, 5, 10], affine=larger), tolerance_mm=last / 10 + 0.01)


@pytest.mark.parametrize(("step", "own"), [(5.0, True), (5.002, True), (5.1, False)])
def test_a_mask_takes_the_slices_of_its_scan_unless_only_rounding_parts_them(step, own):
    """Thirty slices 5 mm apart; files round a distance, and 0.002 mm is 0.06 mm at the last slice."""
    scan = Grid((4, 4, 30), (1.0, 1.0), np.arange(30) * 5.0, np.diag([1.0, 1.0, 5.0, 1.0]))
    mask = Grid((4, 4, 30), (1.0, 1.0), 7 + np.arange(30) * step, np.diag([1.0, 1.0, step, 1.0]))
    taken = as_acquired(mask, scan)
    assert (taken is mask) is own
    assert taken.positions_mm[1] - taken.positions_mm[0] == pytest.approx(step if own else 5)
