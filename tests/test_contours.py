"""What contours of one structure enclose, against areas known from geometry."""

import numpy as np
import pytest

from ich.contours import filled, inside

SHAPE = (60, 50)


def box(left, top, right, bottom):
    """A rectangle whose pixels are left to right - 1 and top to bottom - 1."""
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], dtype=float) - 0.5


WHOLE, HALF, OTHER = box(5, 5, 25, 25), box(15, 5, 35, 25), box(40, 30, 50, 40)


@pytest.mark.parametrize(
    "again", [WHOLE, np.roll(WHOLE, 1, axis=0), WHOLE[::-1], WHOLE + 0.002], ids=["same", "turned", "reversed", "moved"]
)
def test_a_contour_stored_twice_counts_once(again):
    plane, met = filled([WHOLE, again], SHAPE)
    assert np.array_equal(plane, inside([WHOLE], SHAPE))
    assert met == {"repeated": 1}


def test_contours_that_overlap_are_taken_together():
    plane, met = filled([WHOLE, HALF, OTHER], SHAPE)
    assert plane.sum() == 30 * 20 + 100
    assert met == {"overlapping in part, taken together": 1}


def test_a_contour_inside_another_is_a_hole_and_one_inside_that_is_filled():
    hole, island = box(8, 8, 22, 22), box(12, 12, 18, 18)
    plane, met = filled([island, WHOLE, hole], SHAPE)
    assert plane.sum() == 20 * 20 - 14 * 14 + 6 * 6
    assert met == {"inside another one, taken for a hole": 1}


def test_a_contour_that_holds_no_pixel_center_is_nothing():
    plane, met = filled([WHOLE, box(30, 30, 30.3, 30.3) + 0.7], SHAPE)
    assert (plane.sum(), met) == (400, {})
