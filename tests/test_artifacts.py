"""Each fault of a poor scanner does what its name says and no more."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ich.artifacts import Quality, draw_quality, spoil

CLEAN = Quality(
    blur_mm=0.3, edge=0.0, edge_mm=1.0, cupping_hu=0.0, cupping_mm=8.0, cupping_uneven=0.0, shading_hu=0.0,
    streak_hu=0.0, noise_hu=0.0, grain_mm=0.0, coarse_hu=0.0, starved_hu=0.0, offset_hu=0.0, gain=1.0, bone_gain=1.0,
    motion_mm=0.0,
)  # fmt: skip


def head() -> torch.Tensor:
    """Four slices of 30 HU within a ring of 1000 HU and 8 mm, pixels of 1.25 mm."""
    axis = torch.arange(128) - 63.5
    radius = (axis[:, None] ** 2 + axis[None] ** 2).sqrt() * 1.25
    hu = torch.where(radius < 65, 30.0, torch.where(radius < 73, 1000.0, -1000.0))
    return hu.expand(4, 128, 128).clone()


def spoiled(**changes) -> torch.Tensor:
    return spoil(head(), replace(CLEAN, **changes), 1.25, torch.Generator().manual_seed(1))


def test_a_perfect_scanner_leaves_the_brain_alone():
    assert spoiled()[:, 60:68, 60:68] == pytest.approx(np.full((4, 8, 8), 30.0), abs=1e-3)


def test_cupping_brightens_brain_beside_bone_and_not_the_middle():
    change = (spoiled(cupping_hu=12.0) - spoiled())[1, 64]
    assert 4 < float(change[15]) < 15, "4 mm inside the inner table"
    assert float(change[15]) > float(change[22]) > float(change[40])
    assert abs(float(change[64])) < 0.2


def test_offset_and_gain_change_soft_tissue():
    assert float(spoiled(offset_hu=5.0)[0, 64, 64]) == pytest.approx(35, abs=1e-3)
    assert float(spoiled(gain=1.1)[0, 64, 64]) == pytest.approx(33, abs=1e-3)
    assert float(spoiled(bone_gain=1.2)[0, 64, 64]) == pytest.approx(30, abs=1e-3)


def test_noise_has_the_size_it_is_told():
    middle = spoiled(noise_hu=4.0, grain_mm=1.2)[:, 44:84, 44:84]
    assert float(middle.std()) == pytest.approx(4 * 1.1, rel=0.15)


def test_an_edge_kernel_overshoots_beside_bone():
    assert float(spoiled(edge=1.0)[0, 64, 12:16].min()) < 20


def test_metal_throws_rays():
    hu = head()
    hu[1, 60:63, 60:63] = 2600
    streaked = spoil(hu, CLEAN, 1.25, torch.Generator().manual_seed(1))
    assert float((streaked[1] - hu[1])[40:50, 40:50].std()) > 3
    assert torch.allclose(streaked[3, 40:50, 40:50], hu[3, 40:50, 40:50])


def test_ranges_are_wide():
    drawn = [draw_quality(np.random.default_rng(i)) for i in range(300)]
    noise = [quality.noise_hu for quality in drawn]
    assert min(noise) < 1
    assert max(noise) > 6
    assert max(quality.cupping_hu for quality in drawn) > 15
    assert max(abs(quality.offset_hu) for quality in drawn) <= 6
