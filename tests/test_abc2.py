"""ABC/2 against the geometry of continuous shapes, and the rule's ties, weights and empty cases.

Expected lengths and volumes are those of the continuous shape, by hand in each test. Worst errors on the five
grids: A 1.0 %, B 1.0 % and 2.4 % for the chord of a box (pixels cut its corners), C exact where slices
tile the shape and less than one slice otherwise.
"""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial import ConvexHull

from ich.abc2 import abc2, abc2_variants
from ich.scan import ScanError

# In-plane spacing (I, J) and slice spacing, mm.
GRIDS = [((0.4, 0.4), 1.0), ((0.5, 0.5), 2.5), ((0.45, 0.45), 5.0), ((0.4, 0.5), 5.0), ((0.488, 0.488), 2.5)]
EVERY_GRID = pytest.mark.parametrize(("spacing", "step"), GRIDS)


def draw(inside, half_mm, bottom, top, spacing, step):
    """Mask of the voxels whose centers are inside; slices lie in the middle of layers from `bottom` to `top`.

    The shape's center lies off the pixel centers, so that no pixel is just on its outline.
    """
    i, j = (np.arange(-math.ceil(half_mm / s) - 2, math.ceil(half_mm / s) + 3) * s for s in spacing)
    i, j = i + 0.3 * spacing[0], j + 0.2 * spacing[1]
    z = np.arange(bottom + step / 2, top, step)
    return inside(*np.meshgrid(i, j, z, indexing="ij", sparse=True)), spacing, z


def close(measured, a, b, c):
    """A, B and C within 2.5 % of the continuous shape."""
    assert measured.a_mm == pytest.approx(a, rel=0.025)
    assert measured.b_mm == pytest.approx(b, rel=0.025)
    assert measured.c_mm == pytest.approx(c, rel=0.025)


def ellipsoid(a, b, c):
    return lambda x, y, z: (x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2 <= 1


@EVERY_GRID
@pytest.mark.parametrize("semi_axes", [(30, 20, 25), (20, 20, 20), (15, 12, 12.5)])
def test_ellipsoid_and_ball_give_3_over_pi(spacing, step, semi_axes):
    a, b, c = semi_axes
    measured = abc2(*draw(ellipsoid(a, b, c), a, -c, c, spacing, step))
    close(measured, 2 * a, 2 * b, 2 * c)
    true_ml = 4 / 3 * math.pi * a * b * c / 1000
    assert measured.abc2_ml / true_ml == pytest.approx(3 / math.pi, rel=0.025)
    assert measured.volume_ml == pytest.approx(true_ml, rel=0.025)


def test_slices_beside_the_equator_show_their_own_section():
    # c = 10 mm on four 5 mm slices: the largest section lies 2.5 mm off the equator, 3.2 % smaller.
    measured = abc2(*draw(ellipsoid(15, 12.5, 10), 15, -10, 10, (0.45, 0.45), 5.0))
    section = math.sqrt(1 - (2.5 / 10) ** 2)
    close(measured, 30 * section, 25 * section, 20)


@pytest.mark.parametrize("offset", [0.5, 1.3, 2.2, 3.1, 4.0, 4.8])
def test_slices_at_any_offset_miss_c_by_less_than_one_slice(offset):
    measured = abc2(*draw(ellipsoid(30, 20, 24), 30, -30 + offset, 30 + offset, (0.45, 0.45), 5.0))
    assert abs(measured.c_mm - 48) < 5
    assert measured.volume_ml == pytest.approx(4 / 3 * math.pi * 30 * 20 * 24 / 1000, rel=0.02)


@EVERY_GRID
def test_half_ellipsoid_gives_3_over_pi(spacing, step):
    measured = abc2(*draw(ellipsoid(30, 20, 25), 30, 0, 25, spacing, step))
    close(measured, 60, 40, 25)
    assert measured.abc2_ml / (2 / 3 * math.pi * 30 * 20 * 25 / 1000) == pytest.approx(3 / math.pi, rel=0.025)


@EVERY_GRID
def test_elliptic_cylinder_gives_2_over_pi(spacing, step):
    def inside(x, y, z):
        return ((x / 30) ** 2 + (y / 20) ** 2 <= 1) & (z > 0)

    measured = abc2(*draw(inside, 30, 0, 30, spacing, step))
    close(measured, 60, 40, 30)
    assert measured.abc2_ml / (math.pi * 30 * 20 * 30 / 1000) == pytest.approx(2 / math.pi, rel=0.02)
    # S is the ellipse, so 2/3 S H is two thirds of the cylinder.
    assert measured.two_thirds_sh_ml == pytest.approx(2 / 3 * math.pi * 30 * 20 * 30 / 1000, rel=0.01)


@EVERY_GRID
def test_cone_gives_6_over_pi(spacing, step):
    # The base lies on the middle of the first slice: between two slices no slice would show it.
    def inside(x, y, z):
        return np.hypot(x, y) < 25 * (1 - (z - step / 2) / 60)

    measured = abc2(*draw(inside, 25, 0, 60, spacing, step))
    close(measured, 50, 50, 60)
    assert measured.abc2_ml / (math.pi * 25**2 * 60 / 3000) == pytest.approx(6 / math.pi, rel=0.025)


@EVERY_GRID
@pytest.mark.parametrize(("a", "b", "ratio"), [(30, 30, 1.0), (40, 20, 0.625)])
def test_box_by_chord_and_by_width(spacing, step, a, b, ratio):
    def inside(x, y, z):
        return (abs(x) <= a / 2) & (abs(y) <= b / 2) & (z > 0)

    diagonal = math.hypot(a, b)
    chord = abc2(*draw(inside, a, 0, 30, spacing, step))
    close(chord, diagonal, b * diagonal / a, 30)
    assert chord.abc2_ml / (a * b * 30 / 1000) == pytest.approx(ratio, rel=0.04)
    width = abc2(*draw(inside, a, 0, 30, spacing, step), b_rule="width")
    close(width, diagonal, 2 * a * b / diagonal, 30)
    assert width.abc2_ml / (a * b * 30 / 1000) == pytest.approx(1, rel=0.04)


def test_box_of_40_by_20_has_chord_22_4_and_width_35_8():
    # METHODS: a 40 x 20 mm rectangle; fine pixels leave the rule alone.
    mask = np.ones((800, 400, 1), dtype=bool)
    measured = abc2(mask, (0.05, 0.05), [0.0], thickness_mm=5.0)
    assert measured.b_chord_mm == pytest.approx(22.36, abs=0.02)
    assert measured.b_width_mm == pytest.approx(35.78, abs=0.06)
    # Of a box A x width is twice its area, so ABC/2 by width is its volume: 4 ml; by chord 2.5 ml, and ABC/3 1.667 ml.
    assert measured.abc2_width_ml == pytest.approx(4, rel=0.003)
    assert measured.abc2_ml == pytest.approx(2.5, rel=0.003)
    assert measured.abc3_ml == pytest.approx(5 / 3, rel=0.003)


@EVERY_GRID
def test_half_annulus_gives_1_768(spacing, step):
    def inside(x, y, z):
        return (np.hypot(x, y) <= 40) & (np.hypot(x, y) >= 32) & (y >= 0) & (z > 0)

    measured = abc2(*draw(inside, 40, 0, 30, spacing, step))
    close(measured, 80, 40, 30)
    assert measured.abc2_ml / (math.pi / 2 * (40**2 - 32**2) * 30 / 1000) == pytest.approx(1.768, rel=0.025)


@EVERY_GRID
def test_two_balls_four_radii_apart_give_1_432(spacing, step):
    def inside(x, y, z):
        return (abs(x) - 25) ** 2 + y**2 + z**2 <= 12.5**2

    variants = abc2_variants(*draw(inside, 40, -12.5, 12.5, spacing, step))
    close(variants.whole, 75, 25, 25)
    true_ml = 2 * 4 / 3 * math.pi * 12.5**3 / 1000
    assert variants.whole.abc2_ml / true_ml == pytest.approx(1.432, rel=0.035)
    assert variants.n_components == 2
    # Ball by ball the formula knows nothing of the gap.
    assert variants.row()["abc2_components_ml"] / true_ml == pytest.approx(3 / math.pi, rel=0.035)


def test_kothari_on_a_finely_sliced_ellipsoid_gives_0_652():
    measured = abc2(*draw(ellipsoid(30, 20, 25), 30, -25, 25, (0.4, 0.4), 0.1))
    ratio = measured.abc2_kothari_ml / (4 / 3 * math.pi * 30 * 20 * 25 / 1000)
    assert ratio == pytest.approx((1 + math.sqrt(3)) / 4 * 3 / math.pi, rel=0.01)


@pytest.mark.parametrize("slices", range(3, 13))
def test_kothari_with_3_to_12_slices_stays_between_0_59_and_0_77(slices):
    measured = abc2(*draw(ellipsoid(30, 20, 25), 30, -25, 25, (0.4, 0.4), 50 / slices))
    assert measured.slices.size == slices
    ratio = measured.abc2_kothari_ml / (4 / 3 * math.pi * 30 * 20 * 25 / 1000)
    assert 0.59 * 0.985 < ratio < 0.774 * 1.015  # pixels cost up to 1.5 % in A x B


def slab(*areas):
    """One slice per entry: a rectangle of `area` pixels, 4 rows deep."""
    mask = np.zeros((8, 64, len(areas)), dtype=bool)
    for k, area in enumerate(areas):
        mask[2:6, 2 : 2 + area // 4, k] = True
    return mask


def test_kothari_counts_just_75_and_just_25_percent_as_half():
    # 100, 80, 75, 25 and 20 % of the index slice.
    measured = abc2(slab(80, 64, 60, 20, 16), (0.5, 0.5), np.arange(5) * 5.0)
    assert measured.kothari_factors.tolist() == [1, 1, 0.5, 0.5, 0]
    assert measured.c_kothari_mm == 15
    assert measured.c_mm == 25


def test_one_pixel_is_measured_between_its_edges():
    mask = np.zeros((5, 5, 3), dtype=bool)
    mask[2, 3, 1] = True
    measured = abc2(mask, (0.5, 0.4), [0.0, 5.0, 10.0])
    assert (measured.a_mm, measured.b_mm, measured.c_mm) == (0.5, 0.4, 5.0)
    assert sorted(measured.a_ends_voxel.tolist()) == [[1.5, 3], [2.5, 3]]
    assert sorted(measured.b_ends_voxel.tolist()) == [[2, 2.5], [2, 3.5]]
    assert measured.abc2_ml == pytest.approx(0.5 * 0.4 * 5 / 2000)
    assert measured.abc3_ml == pytest.approx(0.5 * 0.4 * 5 / 3000)
    assert measured.abc2_width_ml == pytest.approx(0.5 * 0.4 * 5 / 2000)
    assert measured.two_thirds_sh_ml == pytest.approx(2 / 3 * (0.5 * 0.4) * 5 / 1000)
    assert measured.index_slice == 1


def test_tie_of_areas_takes_the_middle_slice():
    assert abc2(slab(40, 80, 80, 80, 16), (0.5, 0.5), np.arange(5) * 5.0).index_slice == 2
    assert abc2(slab(80, 40, 80, 16, 80), (0.5, 0.5), np.arange(5) * 5.0).index_slice == 2


def test_tie_of_two_middle_slices_takes_the_longer_one_from_either_end():
    mask = np.zeros((20, 20, 4), dtype=bool)
    mask[2:10, 2:6, 1] = True  # 8 x 4
    mask[2:18, 2:4, 2] = True  # 16 x 2, as many pixels
    positions = np.arange(4) * 5.0
    upright, flipped = abc2(mask, (0.5, 0.5), positions), abc2(mask[..., ::-1], (0.5, 0.5), positions)
    assert (upright.index_slice, flipped.index_slice) == (2, 1)
    assert upright.abc2_ml == flipped.abc2_ml


def longest_chord(points, start, end):
    """Longest chord of a convex hull perpendicular to start-end, by cutting it with 4,000 lines."""
    along = (end - start) / np.linalg.norm(end - start)
    normal = np.array([-along[1], along[0]])
    faces = ConvexHull(points).equations
    through = start + np.linspace(0, 1, 4001)[1:-1, None] * (end - start)
    slope, gap = faces[:, :2] @ normal, through @ faces[:, :2].T + faces[:, 2]
    with np.errstate(divide="ignore"):
        reach = -gap / slope
    return (np.where(slope > 0, reach, np.inf).min(axis=1) - np.where(slope < 0, reach, -np.inf).max(axis=1)).max()


def test_tie_in_a_takes_the_pair_with_the_larger_b():
    # From the pixel at 0, 0 those at 12, 5 and 5, 12 are equally far: A = hypot(13, 5). The pixel at 9, 0
    # lies to the side of one diameter only, so the two chords differ.
    mask = np.zeros((13, 13, 2), dtype=bool)
    mask[[0, 12, 5, 9], [0, 5, 12, 0]] = True
    measured = abc2(mask, (1.0, 1.0), [0.0, 5.0])
    assert measured.a_mm == math.hypot(13, 5)
    one = longest_chord(measured.hull_voxel, np.array([-0.5, 0.0]), np.array([12.5, 5.0]))
    other = longest_chord(measured.hull_voxel, np.array([0.0, -0.5]), np.array([5.0, 12.5]))
    assert abs(one - other) > 1
    assert measured.b_mm == pytest.approx(max(one, other), abs=0.01)


@given(hnp.arrays(bool, (11, 9, 2)))
def test_b_is_the_longest_of_all_chords(mask):
    mask[5, 4, 0] = True
    measured = abc2(mask, (1.0, 1.0), [0.0, 5.0])
    assert measured.b_mm == pytest.approx(longest_chord(measured.hull_voxel, *measured.a_ends_voxel), abs=0.05)


def test_mixed_spacing_weighs_half_the_distance_to_both_neighbors():
    # Slices at 0, 4, 8, 15, 22: weights 4, 4, 5.5, 7, 7.
    mask = slab(40, 40, 40, 40, 40)
    measured = abc2(mask, (0.5, 0.5), [0.0, 4.0, 8.0, 15.0, 22.0])
    assert measured.weights_mm.tolist() == [4, 4, 5.5, 7, 7]
    assert measured.c_mm == 27.5
    assert measured.volume_ml == pytest.approx(40 * 0.25 * 27.5 / 1000)


def test_gap_in_the_stack_is_shared_by_the_slices_beside_it():
    measured = abc2(slab(40, 40, 40, 40), (0.5, 0.5), [0.0, 5.0, 15.0, 20.0])
    assert measured.weights_mm.tolist() == [5, 7.5, 7.5, 5]


def test_slices_without_lesion_between_two_parts_do_not_count():
    measured = abc2(slab(40, 0, 0, 40, 0), (0.5, 0.5), np.arange(5) * 5.0)
    assert measured.c_mm == 10
    assert measured.slices.tolist() == [0, 3]


def test_overlapping_reconstruction_weighs_its_increment_not_its_thickness():
    # 5 mm slices every 2.5 mm: a cylinder of 30 mm height shows on 12 slices of 2.5 mm each.
    mask, spacing, z = draw(lambda x, y, z: (np.hypot(x, y) <= 20) & (z > 0), 20, 0, 30, (0.5, 0.5), 2.5)
    measured = abc2(mask, spacing, z, thickness_mm=5.0)
    assert measured.c_mm == 30
    assert measured.volume_ml == pytest.approx(math.pi * 400 * 30 / 1000, rel=0.01)


def test_hole_and_notch_change_the_volume_only():
    mask, spacing, z = draw(ellipsoid(30, 20, 25), 30, -25, 25, (0.45, 0.45), 5.0)
    hollow = mask & ~draw(ellipsoid(20, 10, 15), 30, -25, 25, (0.45, 0.45), 5.0)[0]
    whole, shell = abc2(mask, spacing, z), abc2(hollow, spacing, z)
    # The index slice moves away from the hole; A B stay those of that slice's outline.
    assert shell.volume_ml < whole.volume_ml
    assert shell.c_mm == whole.c_mm
    plane = hollow.copy()
    plane[:, :, : mask.shape[2] // 2] = mask[:, :, : mask.shape[2] // 2]
    assert abc2(plane, spacing, z).a_mm == pytest.approx(whole.a_mm, rel=0.01)


def test_lesion_at_the_edge_of_the_field_of_view_ends_at_the_edge():
    mask = np.zeros((10, 12, 2), dtype=bool)
    mask[0:10, 0:12] = True
    measured = abc2(mask, (1.0, 1.0), [0.0, 5.0])
    inside = np.zeros((14, 16, 2), dtype=bool)
    inside[2:12, 2:14] = True
    assert measured.a_mm == abc2(inside, (1.0, 1.0), [0.0, 5.0]).a_mm
    assert measured.a_ends_voxel.min() == -0.5


def test_empty_mask_gives_zero_everywhere_and_no_slice():
    variants = abc2_variants(np.zeros((8, 8, 4), dtype=bool), (0.5, 0.5), np.arange(4) * 5.0)
    row = variants.row()
    assert row.pop("index_slice") is None
    assert set(row.values()) == {0}
    assert np.isnan(variants.whole.a_ends_voxel).all()


def test_components_below_a_tenth_of_a_ml_are_filtered():
    mask, spacing, z = draw(ellipsoid(30, 20, 25), 60, -25, 25, (0.5, 0.5), 5.0)
    alone = abc2(mask, spacing, z)
    mask[2:4, 2:4, 5] = True  # 0.005 ml, 30 mm away
    variants = abc2_variants(mask, spacing, z)
    assert variants.n_components == 2
    assert variants.whole.a_mm > 1.2 * alone.a_mm
    assert variants.filtered.row() == alone.row()
    names = [row["variant"] for row in variants.rows()]
    assert names == ["whole mask", "component sum", "without components < 0.1 ml"]
    assert [row["n_components"] for row in variants.rows()] == [2, 2, 1]
    assert variants.largest_component_ml == pytest.approx(alone.volume_ml)


def test_components_stand_by_size_and_a_tenth_of_a_ml_is_no_speck():
    # Voxels of 1 mm3: parts of 99, 400 and 100 voxels in the order in which they are found.
    mask = np.zeros((40, 12, 6), dtype=bool)
    mask[0:10, 0:10, 0] = True
    mask[0, 0, 0] = False
    mask[14:24, 0:10, 1:5] = True
    mask[28:38, 0:10, 5] = True
    variants = abc2_variants(mask, (1.0, 1.0), np.arange(6.0))
    assert [part.volume_ml for part in variants.components] == pytest.approx([0.4, 0.1, 0.099])
    assert [row["n_components"] for row in variants.rows()] == [3, 3, 2]
    assert variants.filtered.volume_ml == pytest.approx(0.5)


def test_mask_of_specks_alone_filters_to_nothing():
    mask = np.zeros((20, 20, 3), dtype=bool)
    mask[2, 2, 1] = mask[10, 10, 1] = True
    variants = abc2_variants(mask, (0.5, 0.5), np.arange(3) * 5.0)
    assert variants.filtered.abc2_ml == 0.0
    assert variants.filtered.index_slice is None
    assert variants.row()["abc2_components_ml"] == pytest.approx(2 * 0.5 * 0.5 * 5 / 2000)


def test_b_ends_lie_on_the_hull_perpendicular_to_a():
    for rule in ("chord", "width"):
        measured = abc2(*draw(ellipsoid(30, 20, 25), 30, -25, 25, (0.4, 0.5), 5.0), b_rule=rule)
        a, b = (np.diff(ends, axis=0)[0] * (0.4, 0.5) for ends in (measured.a_ends_voxel, measured.b_ends_voxel))
        assert np.linalg.norm(a) == pytest.approx(measured.a_mm)
        assert np.linalg.norm(b) == pytest.approx(measured.b_mm)
        assert a @ b == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("degrees", range(0, 91, 9))
def test_rotation_in_plane_moves_a_and_b_by_less_than_a_pixel(degrees):
    angle = math.radians(degrees)

    def inside(x, y, z):
        u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
        return ((u / 30) ** 2 + (v / 20) ** 2 <= 1) & (z > 0)

    measured = abc2(*draw(inside, 30, 0, 10, (0.45, 0.45), 5.0))
    assert abs(measured.a_mm - 60) < 0.45
    assert abs(measured.b_mm - 40) < 0.45


@pytest.mark.parametrize("shift", [0.1, 0.2, 0.3, 0.4])
def test_translation_by_part_of_a_pixel_moves_a_and_b_by_less_than_a_pixel(shift):
    def inside(x, y, z):
        return (((x - shift) / 30) ** 2 + ((y - shift / 2) / 20) ** 2 <= 1) & (z > 0)

    measured = abc2(*draw(inside, 31, 0, 10, (0.45, 0.45), 5.0))
    assert abs(measured.a_mm - 60) < 0.45
    assert abs(measured.b_mm - 40) < 0.45


MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=9))


@given(MASKS, st.integers(0, 3), st.booleans(), st.booleans(), st.floats(0.3, 0.6), st.floats(0.3, 0.6))
def test_flips_and_rotations_change_no_bit(mask, turns, flip, flip_slices, spacing_i, spacing_j):
    positions = np.arange(mask.shape[2]) * 5.0
    moved = np.rot90(mask, turns)
    moved = moved[::-1] if flip else moved
    moved = moved[..., ::-1] if flip_slices else moved
    spacing = (spacing_i, spacing_j)
    before = abc2_variants(mask, spacing, positions).row()
    after = abc2_variants(moved, spacing[::-1] if turns % 2 else spacing, positions).row()
    assert before.pop("index_slice") is not None or not mask.any()
    after.pop("index_slice")
    assert before == after


@given(MASKS, st.integers(0, 4), st.integers(0, 4))
def test_translation_by_whole_pixels_changes_no_bit(mask, rows, columns):
    moved = np.pad(mask, ((rows, 1), (columns, 2), (0, 0)))
    positions = np.arange(mask.shape[2]) * 2.5
    before, after = (abc2_variants(m, (0.45, 0.5), positions) for m in (mask, moved))
    assert before.row() == after.row()
    np.testing.assert_array_equal(
        after.whole.a_ends_voxel - before.whole.a_ends_voxel, [[rows, columns]] * 2 if mask.any() else np.nan
    )


@given(MASKS)
def test_doubled_spacing_doubles_lengths(mask):
    positions = np.arange(mask.shape[2]) * 2.5
    once, twice = (abc2(mask, (0.45 * n, 0.5 * n), positions * n) for n in (1, 2))
    assert (twice.a_mm, twice.b_mm, twice.c_mm) == (2 * once.a_mm, 2 * once.b_mm, 2 * once.c_mm)
    assert twice.abc2_ml == 8 * once.abc2_ml


@given(MASKS)
def test_chord_is_no_longer_than_width_and_width_than_a(mask):
    measured = abc2(mask, (0.45, 0.5), np.arange(mask.shape[2]) * 2.5)
    assert measured.b_chord_mm <= measured.b_width_mm * (1 + 1e-9)
    assert measured.b_width_mm <= measured.a_mm * (1 + 1e-9)
    assert measured.volume_ml == pytest.approx(np.count_nonzero(mask) * 0.45 * 0.5 * 2.5 / 1000)


@given(MASKS)
def test_component_volumes_add_up(mask):
    variants = abc2_variants(mask, (0.45, 0.5), np.arange(mask.shape[2]) * 2.5)
    assert sum(part.volume_ml for part in variants.components) == pytest.approx(variants.whole.volume_ml)


def test_labels_count_as_lesion():
    mask = slab(40, 80, 40)
    labels = mask * np.array([1, 2, 3], dtype=np.uint8)
    positions = np.arange(3) * 5.0
    assert abc2(labels, (0.5, 0.5), positions).row() == abc2(mask, (0.5, 0.5), positions).row()


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        ([0.0, 5.0, 5.0], "smallest step is 0 mm"),
        ([10.0, 5.0, 0.0], "ascending"),
        ([0.0, np.nan, 10.0], "positions_mm"),
        ([0.0, 5.0], "2 positions for 3 slices"),
    ],
)
def test_positions_that_weigh_nothing_are_refused(positions, message):
    with pytest.raises(ValueError, match=message):
        abc2(slab(40, 40, 40), (0.5, 0.5), positions)


def test_single_slice_needs_a_thickness():
    with pytest.raises(ScanError, match="thickness_mm"):
        abc2(slab(40), (0.5, 0.5), [0.0])
    assert abc2(slab(40), (0.5, 0.5), [0.0], thickness_mm=5.0).c_mm == 5.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((4, 4), dtype=bool), (0.5, 0.5), [0.0, 1.0]), r"mask: got shape \(4, 4\)"),
        ((np.full((4, 4, 2), np.nan), (0.5, 0.5), [0.0, 1.0]), "float64"),
        ((np.zeros((4, 4, 2), dtype=bool), (0.5, 0.5, 5.0), [0.0, 1.0]), "two positive in-plane"),
        ((np.zeros((4, 4, 2), dtype=bool), (0.5, 0.0), [0.0, 1.0]), "two positive in-plane"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        abc2(*arguments)


def test_unknown_rule_is_named():
    with pytest.raises(ValueError, match="'diameter'"):
        abc2(slab(40, 40), (0.5, 0.5), [0.0, 5.0], b_rule="diameter")
