"""Boxes and connected components against scipy, in every memory order."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from ich.components import bounding_box, drop_specks, holes, label_components

MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, max_side=8))


@given(MASKS, st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_components_equal_scipy(mask, density, seed):
    mask &= np.random.default_rng(seed).random(mask.shape) < density  # sparse masks have many parts
    labels, boxes = label_components(mask)
    expected, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    assert len(boxes) == count
    np.testing.assert_array_equal(labels > 0, mask)
    # One to one: as many pairs of numbers as components.
    assert len(np.unique(np.stack([labels[mask], expected[mask]]), axis=1).T) == count
    assert boxes == ndimage.find_objects(labels)


def test_voxels_that_share_a_corner_touch_and_a_gap_separates():
    mask = np.zeros((4, 4, 4), dtype=bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[3, 3, 3] = True
    labels, boxes = label_components(mask)
    assert labels[0, 0, 0] == labels[1, 1, 1] != labels[3, 3, 3]
    assert len(boxes) == 2


def test_no_voxel_is_no_component():
    labels, boxes = label_components(np.zeros((0, 4, 4), dtype=bool))
    assert (labels.shape, boxes) == ((0, 4, 4), [])
    assert label_components(np.zeros((2, 3, 4), dtype=bool))[1] == []


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
@given(mask=MASKS)
def test_box_is_the_smallest_in_every_memory_order(axes, mask):
    view = mask.transpose(axes)[::-1]
    found = np.argwhere(view)
    box = bounding_box(view)
    if not len(found):
        assert view[box].size == 0
        return
    assert [(part.start, part.stop) for part in box] == [(n.min(), n.max() + 1) for n in found.T]


def test_holes_are_what_filling_each_slice_adds():
    mask = np.random.default_rng(4).random((20, 24, 6)) < 0.55
    filled = [ndimage.binary_fill_holes(mask[:, :, k]).sum() - mask[:, :, k].sum() for k in range(6)]
    assert holes(mask).tolist() == filled
    assert sum(filled) > 0
    assert holes(np.ones((3, 4, 2), dtype=bool)).tolist() == [0, 0]


@pytest.mark.parametrize("pixels", [(20, 25, 27, 28), (28, 27, 25, 20)])
def test_a_part_at_the_bound_stays_whichever_way_its_slices_run(pixels):
    """100 voxels of 0.001 ml are 0.1 ml, which a sum of their slices may miss by the last bit."""
    labels = np.zeros((10, 4, 4), np.uint8)
    for k, count in enumerate(pixels):
        labels[:, :, k].flat[:count] = 1
    drop_specks(labels, np.full(4, 0.001), 0.1)
    assert np.count_nonzero(labels) == 100
