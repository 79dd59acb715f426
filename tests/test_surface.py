"""Area of the surface element of each pattern of eight corners, from geometry."""

import itertools
import math

import numpy as np
import pytest
from surface_distance import lookup_tables

from ich.surface import CORNERS, area_elements, area_table, voxel_elements


def pattern(*corners):
    return sum(1 << CORNERS.index(corner) for corner in corners)


def test_flat_and_single_corner_patterns_on_paper():
    table = area_table((1.0, 2.0, 3.0))
    assert table[0] == table[255] == 0
    assert table[pattern(*(corner for corner in CORNERS if corner[0] == 0))] == pytest.approx(2 * 3)
    assert table[pattern(*(corner for corner in CORNERS if corner[2] == 1))] == pytest.approx(1 * 2)
    # A corner is cut off by a triangle through three edge middles: legs 0.5, 1 and 1.5.
    assert table[pattern((0, 0, 0))] == pytest.approx(math.sqrt(0.5**2 * 1 + 0.5**2 * 1.5**2 + 1.5**2) / 2)
    # An edge along the third axis is cut off by a rectangle of its length.
    assert table[pattern((0, 0, 0), (0, 0, 1))] == pytest.approx(3 * math.hypot(0.5, 1))
    # Opposite corners are two triangles.
    assert table[pattern((0, 0, 0), (1, 1, 1))] == pytest.approx(2 * table[pattern((0, 0, 0))])


def test_patterns_of_a_sheared_cell_have_the_areas_between_its_edges():
    """The cell is spanned by its edges: across slices, leaning, and along both axes of a slice."""
    across, along_i, along_j = np.array([[4.0, 4 * 0.3, 4 * -0.2], [0, 0.5, 0], [0, 0, 0.7]])
    table = area_table((4.0, 0.5, 0.7), (0.3, -0.2))
    face = [pattern(*(corner for corner in CORNERS if corner[axis] == 0)) for axis in range(3)]
    for axis, (first, second) in enumerate([(along_i, along_j), (across, along_j), (across, along_i)]):
        assert table[face[axis]] == pytest.approx(np.linalg.norm(np.cross(first, second)))
    legs = (across - along_i) / 2, (across - along_j) / 2
    assert table[pattern((0, 0, 0))] == pytest.approx(np.linalg.norm(np.cross(*legs)) / 2)


def test_inside_and_outside_have_one_surface():
    table = area_table((0.45, 0.5, 5.0))
    np.testing.assert_allclose(table, table[::-1], rtol=1e-12)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.45, 0.45, 5.0), (0.4, 0.5, 2.5), (1.0, 3.0, 2.0)])
def test_every_pattern_equals_surface_distance(spacing):
    theirs = lookup_tables.create_table_neighbour_code_to_surface_area(spacing)
    bits = [int(lookup_tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL[corner]) for corner in CORNERS]
    order = [sum(bit for n, bit in enumerate(bits) if code >> n & 1) for code in range(256)]
    np.testing.assert_allclose(area_table(spacing), theirs[order], rtol=1e-12)


def test_box_has_the_area_of_its_faces_less_its_rounded_edges():
    padded = np.zeros((12, 22, 32), dtype=bool)
    padded[1:-1, 1:-1, 1:-1] = True
    elements = area_elements(padded, (0.5, 0.4), np.full(11, 5.0))
    height, rows, columns = 10, 20, 30
    a, b, c = 5.0, 0.5, 0.4
    # Faces between the outermost centers, edges and corners cut at half a voxel.
    faces = 2 * ((rows - 1) * b * (columns - 1) * c + (height - 1) * a * ((rows - 1) * b + (columns - 1) * c))
    sides = ((height - 1) * a, b, c), ((rows - 1) * b, a, c), ((columns - 1) * c, a, b)
    edges = sum(4 * length * math.hypot(p, q) / 2 for length, p, q in sides)
    corners = 8 * math.sqrt((a * b) ** 2 + (a * c) ** 2 + (b * c) ** 2) / 8
    assert elements.weights.sum() == pytest.approx(faces + edges + corners)


def test_unequal_layers_stretch_the_mantle_only():
    padded = np.zeros((4, 12, 12), dtype=bool)
    padded[1:3, 1:-1, 1:-1] = True
    even, uneven = (area_elements(padded, (1.0, 1.0), np.array([2.0, step, 2.0])).weights.sum() for step in (2, 9))
    assert uneven - even == pytest.approx(7 * (4 * 9 + 4 * math.sqrt(0.5)))


def test_outline_voxels_have_a_neighbor_outside():
    padded = np.zeros((7, 7, 7), dtype=bool)
    padded[1:-1, 1:-1, 1:-1] = True
    on = voxel_elements(padded).on
    assert on.sum() == 5**3 - 3**3
    inner = itertools.product((1, 2, 3), repeat=3)
    assert not any(on[place] for place in inner)
