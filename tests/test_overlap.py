"""Overlap against surface-distance, MONAI, scipy and shapes one can check on paper; empty masks; lesions."""

import math

import numpy as np
import pytest
import surface_distance
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai import metrics as monai_metrics
from nibabel.affines import apply_affine
from scipy import ndimage
from scipy.spatial.distance import cdist

from ich.grid import Grid
from ich.overlap import overlap, overlap_by_label

MASKS = hnp.arrays(bool, (6, 5, 4))
POSITIONS = np.arange(4) * 5.0


def blobs(seed, step):
    """Two overlapping irregular masks with a margin, a few ml each, and their grid."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.standard_normal((2, 48, 40, 10)), (0, 5, 5, 1.5))
    shared = noise[0] / noise[0].std()
    pair = [shared + 0.5 * part / part.std() > 0.7 for part in noise]
    for mask in pair:
        mask[[0, -1]] = mask[:, [0, -1]] = mask[:, :, [0, -1]] = False
    return *pair, (0.45, 0.55), np.arange(10) * step


@pytest.mark.filterwarnings("ignore:Please (use|import):DeprecationWarning")  # raised inside surface-distance
@pytest.mark.parametrize("step", [1.0, 2.5, 5.0])
@pytest.mark.parametrize("seed", range(8))
def test_area_metrics_equal_surface_distance(seed, step):
    reference, predicted, spacing, positions = blobs(seed, step)
    row = overlap(reference, predicted, spacing, positions)
    theirs = surface_distance.compute_surface_distances(reference, predicted, (*spacing, step))
    assert row["hd_mm"] == pytest.approx(surface_distance.compute_robust_hausdorff(theirs, 100))
    assert row["hd95_mm"] == pytest.approx(surface_distance.compute_robust_hausdorff(theirs, 95))
    for tolerance in (1, 2):
        nsd = surface_distance.compute_surface_dice_at_tolerance(theirs, tolerance)
        assert row[f"nsd_{tolerance}mm"] == pytest.approx(nsd)
    areas = [theirs["surfel_areas_gt"].sum(), theirs["surfel_areas_pred"].sum()]
    directed = surface_distance.compute_average_surface_distance(theirs)
    # Theirs are two directed means; ours is the mean over both surfaces together.
    assert row["assd_mm"] == pytest.approx(np.average(directed, weights=areas))
    assert row["dice"] == pytest.approx(surface_distance.compute_dice_coefficient(reference, predicted))


@pytest.mark.parametrize("step", [1.0, 2.5, 5.0])
@pytest.mark.parametrize("seed", range(8))
def test_voxel_metrics_equal_monai(seed, step):
    reference, predicted, spacing, positions = blobs(seed, step)
    row = overlap(reference, predicted, spacing, positions)
    pair = [torch.as_tensor(mask)[None, None].float() for mask in (predicted, reference)]
    options = {"include_background": True, "spacing": (*spacing, step)}
    hd = monai_metrics.compute_hausdorff_distance(*pair, **options)
    hd95 = monai_metrics.compute_hausdorff_distance(*pair, percentile=95, **options)
    assd = monai_metrics.compute_average_surface_distance(*pair, symmetric=True, **options)
    assert row["hd_voxel_mm"] == pytest.approx(float(hd), rel=1e-5)
    assert row["hd95_voxel_mm"] == pytest.approx(float(hd95), rel=1e-5)
    assert row["assd_voxel_mm"] == pytest.approx(float(assd), rel=1e-5)
    for tolerance in (1, 2):
        by_voxel = monai_metrics.compute_surface_dice(*pair, [float(tolerance)], **options)
        by_area = monai_metrics.compute_surface_dice(*pair, [float(tolerance)], use_subvoxels=True, **options)
        assert row[f"nsd_voxel_{tolerance}mm"] == pytest.approx(float(by_voxel), rel=1e-5)
        assert row[f"nsd_{tolerance}mm"] == pytest.approx(float(by_area), rel=1e-5)
    assert row["dice"] == pytest.approx(float(monai_metrics.compute_dice(*pair)), rel=1e-5)
    assert row["iou"] == pytest.approx(float(monai_metrics.compute_iou(*pair)), rel=1e-5)


@given(MASKS, MASKS, st.lists(st.sampled_from([1.0, 4.0, 5.5, 7.0]), min_size=3, max_size=3))
def test_voxel_distances_equal_all_pairs_on_mixed_spacing(reference, predicted, steps):
    reference[2, 2, 1] = predicted[3, 2, 2] = True
    positions = np.concatenate([[0.0], np.cumsum(steps)])
    row = overlap(reference, predicted, (0.5, 0.4), positions)
    outlines = [mask & ~ndimage.binary_erosion(mask) for mask in (reference, predicted)]
    points = [np.argwhere(on) * (0.5, 0.4, 0) + np.outer(positions[np.nonzero(on)[2]], (0, 0, 1)) for on in outlines]
    apart = cdist(*points)
    there, back = apart.min(axis=1), apart.min(axis=0)
    assert row["hd_voxel_mm"] == pytest.approx(max(there.max(), back.max()))
    assert row["hd95_voxel_mm"] == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)))
    assert row["assd_voxel_mm"] == pytest.approx(np.concatenate([there, back]).mean())


@pytest.mark.parametrize("degrees", [-22.0, 8.0])
def test_distances_of_a_tilted_scan_are_those_between_points_of_its_affine(degrees):
    """Slices 5 mm apart along the table, leaning as a tilted gantry makes them."""
    reference, predicted, spacing, _ = blobs(3, 5.0)
    turn = math.radians(degrees)
    affine = np.diag([-spacing[0], -spacing[1], 5.0, 1.0])
    affine[:3, 1] = -spacing[1] * np.array([0, math.cos(turn), math.sin(turn)])
    steps = np.arange(10) * 5.0 * math.cos(turn)
    shear = Grid(reference.shape, spacing, steps, affine).shear
    row = overlap(reference, predicted, spacing, steps, shear=shear)
    outlines = [mask & ~ndimage.binary_erosion(mask) for mask in (reference, predicted)]
    apart = cdist(*(apply_affine(affine, np.argwhere(on)) for on in outlines))
    there, back = apart.min(axis=1), apart.min(axis=0)
    assert row["hd_voxel_mm"] == pytest.approx(max(there.max(), back.max()))
    assert row["hd95_voxel_mm"] == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)))
    assert row["assd_voxel_mm"] == pytest.approx(np.concatenate([there, back]).mean())
    cells = [_cells(mask) for mask in (reference, predicted)]
    apart = cdist(*(apply_affine(affine, cell) for cell in cells))
    assert row["hd_mm"] == pytest.approx(max(apart.min(axis=1).max(), apart.min(axis=0).max()))
    assert row["hd_mm"] != pytest.approx(overlap(reference, predicted, spacing, steps)["hd_mm"])


def _cells(mask):
    """Centers of the cells of eight voxels that a surface goes through."""
    eight = np.lib.stride_tricks.sliding_window_view(np.pad(mask, 1), (2, 2, 2)).sum(axis=(3, 4, 5))
    return np.argwhere((eight > 0) & (eight < 8)) - 0.5


def test_an_upright_or_turned_scan_has_no_shear():
    turn = math.radians(20)
    turned = np.array([[1, 0, 0], [0, math.cos(turn), -math.sin(turn)], [0, math.sin(turn), math.cos(turn)]])
    affine = np.eye(4)
    affine[:3, :3] = turned @ np.diag([-0.5, -0.5, 5])
    assert Grid((4, 4, 4), (0.5, 0.5), np.arange(4) * 5.0, affine).shear == (0, 0)


def test_two_neighboring_voxels_on_paper():
    # Each voxel is surrounded by eight cells of equal area; four of them are shared, four lie 0.5 mm away.
    reference, predicted = np.zeros((2, 8, 8, 4), dtype=bool)
    reference[3, 4, 1] = predicted[4, 4, 1] = True
    row = overlap(reference, predicted, (0.5, 0.5), POSITIONS, tolerances_mm=(0.4, 0.5))
    assert row["dice"] == row["iou"] == row["sensitivity"] == row["precision"] == 0
    assert row["hd_mm"] == row["hd95_mm"] == row["hd_voxel_mm"] == row["assd_voxel_mm"] == 0.5
    assert row["assd_mm"] == pytest.approx(0.25)
    assert row["nsd_0.4mm"] == pytest.approx(0.5)
    assert row["nsd_0.5mm"] == 1  # just the tolerance is within it
    assert row["nsd_voxel_0.4mm"] == 0
    assert row["reference_ml"] == pytest.approx(0.5 * 0.5 * 5 / 1000)


def test_concentric_balls_are_as_far_apart_as_their_radii():
    i = (np.arange(90) - 44.3) * 0.5
    distance = np.sqrt(i[:, None, None] ** 2 + i[None, :, None] ** 2 + i[None, None] ** 2)
    row = overlap(distance <= 18, distance <= 15, (0.5, 0.5), np.arange(90) * 0.5)
    # Centers lie beside the sphere and the nearest one counts, so distances are up to a voxel short.
    for name in ("hd_mm", "hd95_mm", "assd_mm", "hd_voxel_mm", "hd95_voxel_mm", "assd_voxel_mm"):
        assert row[name] == pytest.approx(3, abs=0.5)
    assert row["dice"] == pytest.approx(2 * 15**3 / (18**3 + 15**3), abs=0.002)
    assert row["relative_volume_error"] == pytest.approx((15 / 18) ** 3 - 1, abs=0.002)
    assert (row["nsd_1mm"], row["sensitivity"] < 1, row["precision"]) == (0, True, 1)


def test_one_slice_shift_gives_nsd_0_577_by_voxel_and_0_887_by_area():
    # A box of 10 x 10 x 50 mm moved by one 5 mm slice: its mantle stays, its small caps move. By voxel count
    # the caps weigh as much as the mantle. MONAI gives both values, without and with use_subvoxels.
    reference, predicted = np.zeros((2, 24, 24, 13), dtype=bool)
    reference[2:22, 2:22, 1:11] = True
    predicted[2:22, 2:22, 2:12] = True
    row = overlap(reference, predicted, (0.5, 0.5), np.arange(13) * 5.0)
    assert round(row["nsd_voxel_1mm"], 3) == 0.577
    assert round(row["nsd_1mm"], 3) == 0.887


def test_dice_counts_ml_not_voxels_where_slices_differ():
    # Slices weigh 4, 5.5 and 7 mm; the prediction misses the heaviest one.
    reference = np.zeros((4, 4, 3), dtype=bool)
    reference[1:3, 1:3] = True
    predicted = reference.copy()
    predicted[:, :, 2] = False
    row = overlap(reference, predicted, (1.0, 1.0), [0.0, 4.0, 11.0])
    assert row["dice"] == pytest.approx(2 * 9.5 / (16.5 + 9.5))
    assert row["volume_error_ml"] == pytest.approx(-4 * 7 / 1000)
    assert row["hd_voxel_mm"] == 7


@given(MASKS)
def test_a_mask_agrees_with_itself(mask):
    mask[2, 2, 2] = True
    row = overlap(mask, mask, (0.5, 0.4), POSITIONS)
    assert row["dice"] == row["iou"] == row["nsd_1mm"] == row["sensitivity"] == row["precision"] == 1
    assert row["hd_mm"] == row["hd95_mm"] == row["assd_mm"] == row["volume_error_ml"] == 0
    assert row["n_missed"] == row["n_false"] == 0


@given(MASKS, MASKS)
def test_swapping_the_masks_swaps_what_is_directed(one, other):
    there, back = overlap(one, other, (0.5, 0.4), POSITIONS), overlap(other, one, (0.5, 0.4), POSITIONS)
    for name in ("dice", "iou", "hd_mm", "hd95_mm", "assd_mm", "nsd_1mm", "hd95_voxel_mm", "both_empty"):
        assert there[name] == pytest.approx(back[name], nan_ok=True)
    assert there["sensitivity"] == pytest.approx(back["precision"], nan_ok=True)
    assert there["volume_error_ml"] == pytest.approx(-back["volume_error_ml"])
    assert there["missed"] == back["false_alarm"]


@given(MASKS, MASKS, st.integers(0, 3), st.booleans())
def test_flips_and_rotations_change_nothing(one, other, turns, flip):
    def turned(mask):
        return np.rot90(mask, turns)[..., :: -1 if flip else 1]

    before = overlap(one, other, (0.5, 0.4), POSITIONS)
    spacing = (0.4, 0.5) if turns % 2 else (0.5, 0.4)
    after = overlap(turned(one), turned(other), spacing, POSITIONS)
    assert before == pytest.approx(after, nan_ok=True)


def test_the_last_slice_of_an_uneven_stack_reaches_half_its_own_step_beyond():
    """Slices at 0, 4, 8 and 15 mm: what is on the last ends at 18.5 mm, what ends before it at 11.5 mm."""
    positions = np.array([0.0, 4, 8, 15])
    whole = np.zeros((40, 40, 4), dtype=bool)
    whole[5:35, 5:35] = True
    short = whole.copy()
    short[:, :, 3] = False
    row = overlap(whole, short, (1.0, 1.0), positions)
    assert row["hd_mm"] == pytest.approx(7)
    assert row["hd_voxel_mm"] == pytest.approx(7)  # between slices
    front = whole.copy()
    front[:, :, 0] = False  # from -2 mm on, and from 2 mm on
    assert overlap(whole, front, (1.0, 1.0), positions)["hd_mm"] == pytest.approx(4)
    assert {"nsd_1mm", "nsd_2mm"} <= set(overlap_by_label(whole, short, (1.0, 1.0), positions)[0])


def test_two_empty_masks_agree_and_have_no_distances():
    empty = np.zeros((4, 4, 4), dtype=bool)
    row = overlap(empty, empty, (0.5, 0.5), POSITIONS)
    assert (row["dice"], row["iou"], row["both_empty"], row["missed"]) == (1, 1, True, False)
    undefined = (
        "hd_mm",
        "hd95_mm",
        "assd_mm",
        "nsd_1mm",
        "nsd_2mm",
        "hd95_voxel_mm",
        "sensitivity",
        "precision",
    )
    assert all(math.isnan(row[name]) for name in (*undefined, "relative_volume_error"))
    assert row["n_reference_lesions"] == row["n_false"] == 0


def test_missed_lesion_has_infinite_distance_and_no_overlap():
    reference, empty = np.zeros((2, 4, 4, 4), dtype=bool)
    reference[1:3, 1:3, 1:3] = True
    row = overlap(reference, empty, (0.5, 0.5), POSITIONS)
    assert (row["dice"], row["iou"], row["nsd_1mm"], row["nsd_2mm"], row["sensitivity"]) == (0, 0, 0, 0, 0)
    assert row["hd_mm"] == row["hd95_mm"] == row["assd_mm"] == row["hd95_voxel_mm"] == math.inf
    assert (row["missed"], row["false_alarm"], row["both_empty"]) == (True, False, False)
    assert math.isnan(row["precision"])
    assert row["relative_volume_error"] == -1
    assert (row["n_reference_lesions"], row["n_missed"], row["n_false"]) == (1, 1, 0)


def test_blood_seen_where_there_is_none_is_a_false_alarm():
    predicted, empty = np.zeros((2, 4, 4, 4), dtype=bool)
    predicted[1, 1, 1] = True
    row = overlap(empty, predicted, (0.5, 0.5), POSITIONS)
    assert (row["dice"], row["nsd_1mm"], row["precision"]) == (0, 0, 0)
    assert row["hd95_mm"] == row["relative_volume_error"] == math.inf
    assert (row["missed"], row["false_alarm"], row["n_false"]) == (False, True, 1)


def test_lesions_are_counted_by_volume():
    # 0.5 x 0.5 x 4 mm voxels weigh 1 microliter: lesions of 8 ml, 2 ml and 0.004 ml.
    reference, predicted = np.zeros((2, 120, 120, 5), dtype=bool)
    reference[10:60, 10:50, 0:4] = True
    reference[70:90, 70:95, 0:4] = True
    reference[100:102, 100:102, 2] = True
    predicted[59:80, 49:60, 1] = True  # touches the largest at one voxel
    predicted[100:103, 5:8, 2] = True  # far from all
    row = overlap(reference, predicted, (0.5, 0.5), np.arange(5) * 4.0)
    assert (row["n_reference_lesions"], row["n_detected"], row["n_missed"], row["n_false"]) == (3, 1, 2, 1)
    assert (row["n_reference_lesions_5_25ml"], row["n_detected_5_25ml"]) == (1, 1)
    assert (row["n_reference_lesions_1_5ml"], row["n_missed_1_5ml"]) == (1, 1)
    assert (row["n_missed_0_0.1ml"], row["n_false_0_0.1ml"], row["n_missed_0.1_1ml"]) == (1, 1, 0)
    assert row["n_reference_lesions_over_25ml"] == 0


def test_labels_and_blood_as_a_whole():
    reference, predicted = np.zeros((2, 8, 8, 4), dtype=np.uint8)
    reference[1:5, 1:5, 1:3] = 1
    reference[6, 6, 2] = 3
    predicted[1:5, 1:5, 1:3] = 1
    predicted[1:3, 1:5, 1:3] = 2  # blood, but called ventricular
    rows = {row["label"]: row for row in overlap_by_label(reference, predicted, (0.5, 0.5), POSITIONS)}
    assert list(rows) == ["blood", "parenchymal", "ventricular", "subarachnoid"]
    assert rows["blood"]["dice"] == pytest.approx(2 * 32 / (33 + 32))
    assert rows["parenchymal"]["dice"] == pytest.approx(2 * 16 / (32 + 16))
    assert rows["ventricular"]["false_alarm"]
    assert rows["subarachnoid"]["missed"]


def test_one_label_is_the_blood():
    mask = np.zeros((4, 4, 4), dtype=np.uint8)
    mask[1, 1, 1] = 2
    rows = overlap_by_label(mask, np.zeros_like(mask), (0.5, 0.5), POSITIONS)
    assert [row["label"] for row in rows] == ["blood", "ventricular"]
    assert rows[1]["missed"]
    assert overlap_by_label(mask * 0, mask * 0, (0.5, 0.5), POSITIONS)[0]["both_empty"]


def test_masks_at_the_edge_of_the_field_of_view_end_there():
    mask = np.ones((4, 4, 4), dtype=bool)
    inside = np.pad(mask, 1)
    smaller = np.zeros_like(mask)
    smaller[1:3, 1:3, 1:3] = True
    at_edge = overlap(mask, smaller, (0.5, 0.5), POSITIONS)
    free = overlap(inside, np.pad(smaller, 1), (0.5, 0.5), np.arange(6) * 5.0)
    assert at_edge == free


@pytest.mark.parametrize(
    ("reference", "predicted", "positions", "message"),
    [
        (
            np.zeros((4, 4, 4), bool),
            np.zeros((4, 4, 5), bool),
            POSITIONS,
            r"\(4, 4, 5\) differs from reference",
        ),
        (np.zeros((4, 4, 4), bool), np.zeros((4, 4, 4)), POSITIONS, "predicted: got .* float64"),
        (np.zeros((4, 4, 4), bool), np.zeros((4, 4, 4), bool), POSITIONS[:3], "3 positions for 4 slices"),
        (np.zeros((4, 4, 4), bool), np.zeros((4, 4, 4), bool), POSITIONS[::-1], "ascending"),
    ],
)
def test_wrong_arguments_are_named(reference, predicted, positions, message):
    with pytest.raises(ValueError, match=message):
        overlap(reference, predicted, (0.5, 0.5), positions)


def test_unknown_label_is_named():
    labels = np.full((4, 4, 4), 7, dtype=np.uint8)
    with pytest.raises(ValueError, match=r"predicted: found labels \[7\]"):
        overlap_by_label(labels * 0, labels, (0.5, 0.5), POSITIONS)
