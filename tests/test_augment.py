"""Augmentation moves image and labels together, and what it does to a slice is what its name says."""

import pytest
import torch

from ich import augment
from ich.augment import Draws

SIZE = 64


def draws(batch, mine=slice(None), seed=5):
    return Draws(torch.Generator().manual_seed(seed), batch, mine)


def disk(radius=14.0, at=(30.0, 36.0)):
    axis = torch.arange(SIZE)
    return ((axis[:, None] - at[0]) ** 2 + (axis[None] - at[1]) ** 2 < radius**2).float()


@pytest.mark.parametrize("scanner_share", [0.0, 1.0])
def test_labels_move_with_the_image(scanner_share):
    blood = disk().expand(12, 3, SIZE, SIZE)
    moved, labels = augment.augment(1000 * blood, blood[:, 1].long(), draws(12), scanner_share)
    found = moved[:, 1] > 500
    overlap = 2 * (found & (labels > 0)).sum() / (found.sum() + (labels > 0).sum())
    assert overlap > 0.95
    assert not torch.equal(labels[0], labels[1])  # each slice is changed in its own way
    assert (labels > 0).flatten(1).any(1).all()


def test_nothing_is_changed_twice_alike():
    blood = disk().expand(4, 3, SIZE, SIZE)
    one = augment.augment(blood, blood[:, 1].long(), draws(4), 0.5)
    again = augment.augment(blood, blood[:, 1].long(), draws(4), 0.5)
    other = augment.augment(blood, blood[:, 1].long(), draws(4, seed=6), 0.5)
    assert torch.equal(one[0], again[0])
    assert not torch.equal(one[0], other[0])


def test_processes_that_share_a_batch_make_what_one_makes():
    stack = torch.randn(6, 3, SIZE, SIZE) * 50
    labels = disk().expand(6, SIZE, SIZE).long()
    whole = augment.augment(stack, labels, draws(6), 0.5)
    for mine in (slice(0, 3), slice(3, 6)):
        part = augment.augment(stack[mine], labels[mine], draws(6, mine), 0.5)
        assert torch.equal(part[1], whole[1][mine])
        torch.testing.assert_close(part[0], whole[0][mine], rtol=1e-5, atol=1e-3)


def test_a_share_of_the_slices_is_changed_as_by_a_scanner():
    stack = disk().expand(400, 3, SIZE, SIZE) * 50
    grid = torch.zeros(400, SIZE, SIZE, 2)
    _, bent = augment._by_scanner(stack, grid, draws(400), 0.25)
    changed = (bent != 0).flatten(1).any(1).float().mean()
    assert changed == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / 400) ** 0.5)  # four standard errors


def test_a_shear_moves_the_neighbors_and_not_the_slice():
    stack = disk().expand(1, 3, SIZE, SIZE) * 1000.0
    shifted = augment._shifted(stack, torch.tensor([[-8.0, 0.0, 8.0]]) / SIZE)  # in halves of the side: 4 pixels
    torch.testing.assert_close(shifted[0, 1], stack[0, 1], rtol=0, atol=0.1)
    torch.testing.assert_close(shifted[0, 0, :, 4:], stack[0, 0, :, :-4], rtol=0, atol=0.1)
    torch.testing.assert_close(shifted[0, 2, :, :-4], stack[0, 2, :, 4:], rtol=0, atol=0.1)


def test_thicker_slices_are_means_with_their_neighbors():
    stack = torch.tensor([0.0, 40.0, 80.0])[None, :, None, None].expand(2, 3, 4, 4)
    thick = augment._thicker(stack, torch.tensor([0.0, 0.25]))
    assert thick[0, :, 0, 0].tolist() == [0, 40, 80]
    assert thick[1, :, 0, 0].tolist() == [10, 40, 70]  # 0 x 0.75 + 40 x 0.25; the middle of a ramp stays; 80 and 40


def test_a_blurred_point_has_the_variance_asked_for():
    point = torch.zeros(2, 1, 21, 21)
    point[:, 0, 10, 10] = 1
    blurred = augment._blurred(point, torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(blurred[0], point[0])
    assert float(blurred[1].sum()) == pytest.approx(1, abs=1e-5)
    axis = torch.arange(21.0) - 10
    assert float((blurred[1, 0].sum(1) * axis**2).sum()) == pytest.approx(1.0, rel=0.02)  # cut at three SDs
    assert float((blurred[1, 0].sum(0) * axis**2).sum()) == pytest.approx(1.0, rel=0.02)
