"""What a network sees of thin slices, against averages and neighbors counted by hand."""

import numpy as np
import pytest
import torch

from ich.grid import Grid
from ich.model import Settings, neighbor_index
from ich.slab import in_slabs
from ich.training_slices import Seen, as_seen, side_by_side

SETTINGS = Settings(slab_mm=3.0, size=16, pixel_mm=4.0)


def stack(positions):
    """Slices whose every pixel is their number, and their grid."""
    hu = torch.arange(float(len(positions))).view(-1, 1, 1).expand(-1, 2, 2)
    return hu, Grid((2, 2, len(positions)), (1.0, 1.0), np.asarray(positions, float), np.eye(4))


@pytest.mark.parametrize("positions", [np.arange(6) * 5.0, np.arange(6) * 3.0, [0, 4, 8, 15, 22]])
def test_thick_slices_are_seen_as_they_are(positions):
    hu, grid = stack(positions)
    seen, neighbors = in_slabs(hu, grid, SETTINGS)
    assert seen is hu
    assert torch.equal(neighbors, neighbor_index(len(positions), 1))


def test_thin_slices_are_averaged_and_look_a_slab_away():
    hu, grid = stack(np.arange(20))  # 1 mm: a slab is a slice and one on either side
    seen, neighbors = in_slabs(hu, grid, SETTINGS)
    assert seen[5:15, 0, 0].numpy() == pytest.approx(np.arange(5.0, 15))
    assert seen[0, 0, 0] == pytest.approx(0.5)  # of what there is: slices 0 and 1
    assert neighbors[10].tolist() == [7, 10, 13]
    assert neighbors[1].tolist() == [0, 1, 4]
    assert neighbors[19].tolist() == [16, 19, 19]


def test_a_slice_that_is_cut_by_the_slab_counts_in_part():
    hu, grid = stack(np.arange(10) * 2.0)
    hu = (hu == 4).float()
    seen, neighbors = in_slabs(hu, grid, SETTINGS)
    assert seen[3:6, 0, 0].numpy() == pytest.approx([0.5 / 3, 2 / 3, 0.5 / 3])
    assert neighbors[5].tolist() == [4, 5, 6]  # 2 and 4 mm are as far from 3: the nearer slice


def test_noise_falls_as_with_a_thick_slice():
    random = torch.Generator().manual_seed(1)
    _, grid = stack(np.arange(60) * 0.5)
    noise = torch.randn((60, 64, 64), generator=random)
    seen, _ = in_slabs(noise, grid, SETTINGS)
    # Five slices whole and half of two others.
    assert float(seen[10:50].std()) == pytest.approx(np.sqrt((5 + 2 * 0.25) / 36), rel=0.02)


def test_training_sees_what_prediction_sees():
    positions = np.arange(12) * 1.0
    grid = Grid((16, 16, 12), (4.0, 4.0), positions, np.eye(4))
    hu = np.broadcast_to(np.arange(12) * 10, (16, 16, 12)).astype(np.int16)
    seen = as_seen(hu, np.zeros(hu.shape, np.uint8), grid, SETTINGS)
    slices = side_by_side({"a": seen, "b": seen.of_the_head(SETTINGS)}, SETTINGS, torch.device("cpu"))
    assert slices.neighbors[5].tolist() == [2, 5, 8]
    assert slices.hu_of(torch.tensor([5]))[0, :, 8, 8].tolist() == [20, 50, 80]
    assert int(slices.neighbors[slices.case == 1].min()) == 12  # never those of another case


def test_the_head_of_a_thin_scan_keeps_its_neighbors():
    seen = Seen(
        np.array([-1000, 40, 40, 40, 40, -1000], np.int16)[:, None, None] * np.ones((1, 8, 8), np.int16),
        np.zeros((6, 8, 8), np.uint8), np.ones(6, np.float32),
        np.array([[0, 0, 2], [0, 1, 3], [0, 2, 4], [1, 3, 5], [2, 4, 5], [3, 5, 5]]),
    )  # fmt: skip
    assert seen.of_the_head(Settings(size=8)).neighbors.tolist() == [[0, 0, 2], [0, 1, 3], [0, 2, 3], [1, 3, 3]]
