"""Hull and diameters of a region in one slice against scipy and all pairs of boundary points."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from ich.hull import convex_hull, diameters, edge_midpoints, solidity

REGIONS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))


def boundary(region):
    """Every edge midpoint between a pixel of the region and one outside, in half pixels."""
    padded = np.pad(region, 1)
    steps = ((1, 0), (-1, 0), (0, 1), (0, -1))
    inside = [(i, j, di, dj) for i, j in np.argwhere(padded) for di, dj in steps if not padded[i + di, j + dj]]
    return np.array([(2 * (i - 1) + di, 2 * (j - 1) + dj) for i, j, di, dj in inside])


@given(REGIONS)
def test_hull_holds_every_boundary_point(region):
    region[0, 0] = True
    points = boundary(region)
    hull = convex_hull(edge_midpoints(region))
    assert {tuple(p) for p in hull} <= {tuple(p) for p in points}
    expected = ConvexHull(points)
    assert ConvexHull(hull).volume == pytest.approx(expected.volume)
    # In order, without repetition: the polygon's own area is the hull's.
    i, j = hull.T
    assert abs(i @ np.roll(j, -1) - j @ np.roll(i, -1)) / 2 == pytest.approx(expected.volume)


@given(REGIONS)
def test_a_is_the_longest_of_all_pairs(region):
    region[0, 0] = True
    spacing = (0.4, 0.5)
    measured = diameters(region, spacing)
    assert measured.a_mm == pytest.approx(pdist(boundary(region) / 2 * spacing).max())
    for ends, length in (
        (measured.a_ends, measured.a_mm),
        (measured.chord_ends, measured.b_chord_mm),
        (measured.width_ends, measured.b_width_mm),
    ):
        assert np.linalg.norm(np.diff(ends * spacing, axis=0)) == pytest.approx(length)


def test_three_pixels_on_paper():
    # An L of unit pixels: from (0, 1.5) to (1, -0.5), or the mirror image of this pair.
    measured = diameters(np.array([[True, True], [True, False]]), (1.0, 1.0))
    assert measured.a_mm == np.hypot(1, 2)
    assert sorted(measured.a_ends.tolist()) in ([[0, 1.5], [1, -0.5]], [[-0.5, 1], [1.5, 0]])


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("ball", 1.0),
        ("half annulus", 1 - 0.8**2),  # of the half disc around it
        ("two discs", 2 * np.pi / (np.pi + 8)),  # centers four radii apart
    ],
)
def test_solidity_of_known_shapes(shape, expected):
    i, j = np.ogrid[-200:200, -200:200]
    disc = i**2 + j**2 < 100**2
    slice_ = {
        "ball": disc,
        "half annulus": disc & (i**2 + j**2 >= 80**2) & (i >= 0),
        "two discs": ((i - 100) ** 2 + j**2 < 50**2) | ((i + 100) ** 2 + j**2 < 50**2),
    }[shape]
    mask = np.stack([slice_, np.zeros_like(slice_), slice_], axis=2)
    assert solidity(mask, np.array([4.0, 4.0, 7.0])) == pytest.approx(expected, rel=0.015)


def test_solidity_of_a_box_is_one_and_of_nothing_is_not_defined():
    assert solidity(np.ones((5, 9, 2), dtype=bool), np.ones(2)) == 1
    assert np.isnan(solidity(np.zeros((5, 9, 2), dtype=bool), np.ones(2)))
