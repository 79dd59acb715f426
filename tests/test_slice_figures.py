"""Slices in radiological display; ABC/2 where it was measured."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from ich.abc2 import abc2
from ich.canvas import subplots, use_style
from ich.slice_figures import draw_abc, draw_montage, draw_slice

mpl.use("Agg")


def test_a_slice_is_shown_front_up_and_right_on_the_left():
    image = np.array([[1, 2, 3], [4, 5, 6]])  # I from the patient's right to the left, J from front to back
    fig, ax = subplots()
    draw_slice(image, ax)
    assert ax.images[0].get_array().tolist() == [[1, 4], [2, 5], [3, 6]]
    plt.close(fig)


def test_outline_lies_on_the_pixel_edges():
    mask = np.zeros((20, 30), dtype=bool)
    mask[5:9, 10:16] = True
    fig, ax = subplots()
    draw_slice(np.zeros((20, 30)), ax, outlines={"reference": mask, "none": np.zeros_like(mask)})
    points = np.vstack([path.vertices for path in ax.collections[0].get_paths()])
    assert points.min(axis=0) == pytest.approx([4.5, 9.5])
    assert points.max(axis=0) == pytest.approx([8.5, 15.5])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["reference", "none"]
    plt.close(fig)


def test_pixels_keep_their_shape():
    fig, ax = subplots()
    draw_slice(np.zeros((20, 30)), ax, spacing_mm=(0.4, 0.8))
    assert ax.get_aspect() == 2
    plt.close(fig)


def test_montage_shows_the_lesion_and_its_neighbors():
    hu = np.full((40, 40, 12), -1000.0)
    hu[8:32, 6:34] = 35
    mask = np.zeros(hu.shape, dtype=bool)
    mask[15:20, 15:20, 5:8] = True
    use_style()
    fig = plt.figure(figsize=(6, 4))
    draw_montage(hu, {"reference": mask}, fig, spacing_mm=(0.5, 0.5), positions_mm=np.arange(12) * 5.0, simulated=True)
    labels = [text.get_text() for ax in fig.axes for text in ax.texts if ":" in text.get_text()]
    assert labels == ["4: 15 mm", "5: 20 mm", "6: 25 mm", "7: 30 mm", "8: 35 mm", "9: 40 mm", "10: 45 mm"]
    assert fig.get_suptitle() == "simulated"
    fig.canvas.draw()
    plt.close(fig)


def test_montage_of_an_empty_mask_shows_the_scan():
    hu = np.full((10, 10, 4), 30.0)
    fig = plt.figure(figsize=(6, 4))
    draw_montage(hu, {"network": np.zeros(hu.shape, dtype=bool)}, fig, spacing_mm=(1, 1))
    assert sum(bool(ax.images) for ax in fig.axes) == 4
    plt.close(fig)


@pytest.mark.parametrize("rule", ["chord", "width"])
def test_abc_is_drawn_where_it_was_measured(rule):
    mask = np.zeros((40, 60, 5), dtype=bool)
    mask[10:20, 20:50, 1:4] = True
    found = abc2(mask, (0.5, 0.5), np.arange(5) * 5.0, b_rule=rule)
    fig, ax = subplots(size_mm=(80, 90))
    draw_abc(found, mask, ax, title="case 1", simulated=True)
    drawn = [np.column_stack(line.get_data()) for line in ax.lines]
    assert any(np.array_equal(ends, found.a_ends_voxel) for ends in drawn)
    assert any(np.array_equal(ends, found.b_ends_voxel) for ends in drawn)
    texts = "\n".join(text.get_text() for text in ax.texts)
    assert f"A {found.a_mm:.1f} mm, B ({rule}) {found.b_mm:.1f} mm" in texts
    assert f"ABC/2 {found.abc2_ml:.1f} ml" in texts
    assert ax.get_title("left") == "case 1, simulated"
    fig.canvas.draw()
    plt.close(fig)


def test_abc_of_an_empty_mask_is_refused():
    empty = np.zeros((10, 10, 3), dtype=bool)
    with pytest.raises(ValueError, match="the mask is empty"):
        draw_abc(abc2(empty, (1, 1), np.arange(3.0)), empty, subplots()[1])
