import numpy as np
import pytest
from matplotlib.figure import Figure

from ich.figures import draw_surface
from ich.grid import Grid
from ich.rendering import STEP_MM, isotropic, shaded
from ich.tables import LABELS


@pytest.fixture
def ball():
    """A ball of 20 mm radius on 1 mm pixels and slices 4 mm, then 7 mm apart; its left half ventricular."""
    positions = np.concatenate([np.arange(0, 29, 4.0), 28 + np.arange(7, 36, 7.0)])
    i, j = np.ogrid[:60, :64]
    labels = np.zeros((60, 64, len(positions)), np.uint8)
    for k, z in enumerate(positions):
        labels[:, :, k] = (i - 30) ** 2 + (j - 32) ** 2 + (z - 28) ** 2 < 20**2
    labels[30:][labels[30:] > 0] = 2
    return labels, Grid(labels.shape, (1.0, 1.0), positions, np.eye(4))


def test_the_shape_keeps_its_size_in_every_direction(ball):
    cubes = isotropic(*ball, step_mm=1.0)
    size = [np.ptp(np.flatnonzero((cubes > 0).any(axis=other))) + 1 for other in ((1, 2), (0, 2), (0, 1))]
    # Slices at 12 to 42 mm show it; it ends half way to the next ones, at 10 and 45.5 mm.
    assert size == pytest.approx([40, 40, 35.5], abs=2)
    assert np.count_nonzero(cubes) == pytest.approx(4 / 3 * np.pi * 20**3, rel=0.06)


def test_colors_and_light(ball):
    cubes = isotropic(*ball, step_mm=1.0)
    picture = shaded(cubes, 1, False, {1: "red", 2: "blue"})
    assert (picture[0, 0] == 1).all()  # nothing there: white
    middle = [n // 2 for n in picture.shape[:2]]
    assert np.argmax(picture[middle[0] - 8, middle[1]]) == 0
    assert np.argmax(picture[middle[0] + 8, middle[1]]) == 2  # towards the left of the patient
    covered = np.flatnonzero((cubes > 0).any(axis=(1, 2)))
    assert picture[covered[1], middle[1]].max() < picture[middle[0] - 8, middle[1]].max()  # darker where it turns away
    left = shaded(cubes, 0, True, {1: "red", 2: "blue"})
    assert np.argmax(left[left.shape[0] // 2, left.shape[1] // 2]) == 2  # from the left only the left half is seen


def test_a_lesion_of_one_slice_is_drawn():
    labels = np.zeros((20, 20, 1), np.uint8)
    labels[5:12, 5:12] = 1
    axes = Figure().subplots(1, 3)
    draw_surface(labels, Grid(labels.shape, (1.0, 1.0), np.zeros(1), np.eye(4)), list(axes), LABELS)
    assert (axes[0].images[0].get_array() < 1).any()


def test_three_views_are_drawn(ball):
    labels, grid = ball
    axes = Figure().subplots(1, 3)
    draw_surface(labels, grid, list(axes), LABELS)
    titles = [ax.get_title(loc="left") or ax.get_title() for ax in axes]
    assert titles == ["from the front", "from the left", "from above"]
    assert len({round(float(np.ptp(ax.get_xlim())), 6) for ax in axes}) == 1  # one scale
    bar = axes[0].lines[0].get_xdata()
    assert np.ptp(bar) * STEP_MM == pytest.approx(20)
    assert [text.get_text() for text in axes[-1].get_legend().get_texts()] == ["parenchymal", "ventricular"]


def test_the_bar_of_a_small_hematoma_is_all_in_the_picture():
    labels = np.zeros((20, 20, 4), np.uint8)
    labels[9:12, 9:12, 1:3] = 1
    axes = Figure().subplots(1, 3)
    draw_surface(labels, Grid(labels.shape, (1.0, 1.0), np.arange(4) * 5.0, np.eye(4)), list(axes), LABELS)
    for ax in axes:
        assert ax.get_xlim()[0] < min(ax.lines[0].get_xdata())
        assert ax.get_xlim()[1] > max(ax.lines[0].get_xdata())
