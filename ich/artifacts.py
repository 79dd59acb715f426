"""What real scanners do to a slice and the embedded cohort's scanner does not: shading, kernels, metal, motion.

The ranges are wide on purpose: a network that has to work on any scanner must have seen worse than each of them.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from ich.scanner import blur, streaks

BONE_HU, METAL_HU = 300.0, 1700.0


@dataclass(frozen=True)
class Quality:
    """How a scan looks, apart from where its slices lie; HU are of soft tissue.

    Attributes
    ----------
    blur_mm, edge, edge_mm : SD of the blur, then how much and over what distance edges are enhanced (kernel).
    cupping_hu, cupping_mm : brightening of brain beside bone and how far it reaches.
    cupping_uneven : 0..1, how much that brightening differs from place to place.
    shading_hu : SD of slow changes of HU over a slice.
    streak_hu : strength of bands and streaks between dense bones.
    noise_hu, grain_mm, coarse_hu : SD and grain of the noise, SD of its coarse part.
    starved_hu : noise along rays where much bone lies in their way.
    offset_hu, gain, bone_gain : error of calibration; gain of all HU and of those above 100 HU (tube voltage).
    motion_mm : how far the head moves during some slices; 0 for a patient who lies still.
    """

    blur_mm: float
    edge: float
    edge_mm: float
    cupping_hu: float
    cupping_mm: float
    cupping_uneven: float
    shading_hu: float
    streak_hu: float
    noise_hu: float
    grain_mm: float
    coarse_hu: float
    starved_hu: float
    offset_hu: float
    gain: float
    bone_gain: float
    motion_mm: float


def draw_quality(rng: np.random.Generator) -> Quality:
    """The look of one scan."""
    return Quality(
        blur_mm=rng.uniform(0.3, 0.9),
        edge=rng.uniform(0.1, 1.2) if rng.random() < 0.5 else 0.0,
        edge_mm=rng.uniform(0.7, 2.0),
        cupping_hu=rng.uniform(0, 26) * rng.random() ** 0.7,
        cupping_mm=rng.uniform(3, 13),
        cupping_uneven=rng.uniform(0, 1),
        shading_hu=rng.uniform(0, 2.5),
        streak_hu=rng.uniform(0, 14),
        noise_hu=float(np.exp(rng.uniform(np.log(0.8), np.log(7)))),
        grain_mm=rng.uniform(0, 1.6),
        coarse_hu=rng.uniform(0, 1.2),
        starved_hu=rng.uniform(0, 7) * rng.random(),
        offset_hu=float(np.clip(rng.normal(0, 2.5), -6, 6)),
        gain=rng.uniform(0.94, 1.07),
        bone_gain=rng.uniform(0.75, 1.3),
        motion_mm=rng.uniform(1, 6) if rng.random() < 0.08 else 0.0,
    )


def _noise(shape: tuple[int, ...], random: torch.Generator) -> torch.Tensor:
    return torch.randn(shape, generator=random)


def _slow(n: int, size: tuple[int, int], cells: int, random: torch.Generator) -> torch.Tensor:
    """Smooth noise (n, *size) of about unit SD with `cells` values on a side, alike in slices that lie together."""
    coarse = _noise((1, 1, max(2, n // 3), cells, cells), random)
    return F.interpolate(coarse, (n, *size), mode="trilinear", align_corners=True)[0, 0] * 1.6


def _wide_blur(stack: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian blur of planes (N, H, W); a wide one is found on an image of half or a quarter of the size."""
    step = 4 if sigma > 8 else 2 if sigma > 4 else 1
    if step == 1:
        return blur(stack, sigma)
    small = blur(F.avg_pool2d(stack[:, None], step)[:, 0], sigma / step)
    return F.interpolate(small[:, None], stack.shape[1:], mode="bilinear", align_corners=False)[:, 0]


def _cupping(hu: torch.Tensor, quality: Quality, pixel_mm: float, random: torch.Generator) -> torch.Tensor:
    """Brightening (K, H, W) beside bone: what scatter, beam hardening and a wide point spread leave there."""
    bone = ((hu - 150) / 350).clamp(0, 1)
    # Half of it falls off quickly, half slowly: neither an edge nor a glow alone is what scans show.
    near = _wide_blur(bone, quality.cupping_mm / pixel_mm) + 0.7 * _wide_blur(bone, 0.4 * quality.cupping_mm / pixel_mm)
    uneven = 1 + quality.cupping_uneven * _slow(len(hu), (hu.shape[1], hu.shape[2]), 5, random)
    return (near / 0.7).clamp(max=1.6) * quality.cupping_hu * uneven.clamp(-0.2, 2.2)


def _starved(hu: torch.Tensor, quality: Quality, random: torch.Generator) -> torch.Tensor:
    """Noise (K, H, W) along rays from side to side, most where bone is thick: photon starvation at skull base."""
    load = ((hu > BONE_HU).float().mean(1, keepdim=True) * 4 - 0.5).clamp(0, 1.5)
    lines = _noise((len(hu), max(2, hu.shape[1] // 12), hu.shape[2]), random)
    lines = F.interpolate(lines[:, None], hu.shape[1:], mode="bilinear", align_corners=True)[:, 0]
    return lines * load * quality.starved_hu


def _metal_streaks(hu: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Rays (K, H, W), bright and dark, from the middle of the metal of each slice."""
    out = torch.zeros_like(hu)
    for k in torch.nonzero((hu > METAL_HU).flatten(1).any(1)).flatten().tolist():
        place = torch.nonzero(hu[k] > METAL_HU).float().mean(0)
        rows, columns = (torch.arange(n) - c for n, c in zip(hu.shape[1:], place, strict=True))
        angle = (torch.atan2(rows[:, None], columns[None]) / (2 * np.pi) + 0.5) * 95
        wave = _noise((97,), random)
        low = angle.floor().long()
        ray = torch.lerp(wave[low], wave[low + 1], angle - low)
        away = (rows[:, None] ** 2 + columns[None] ** 2).sqrt()
        out[k] = 90 * ray / (1 + away / 6)
    return out


def _moved(hu: torch.Tensor, quality: Quality, pixel_mm: float, random: torch.Generator) -> torch.Tensor:
    """Slices during which the head moved: two positions at once."""
    first = int(torch.randint(len(hu), (), generator=random))
    chosen = slice(first, first + 6)
    shift = (_noise((2,), random) * quality.motion_mm / pixel_mm).round().int().tolist()
    moved = hu.clone()
    moved[chosen] = 0.65 * hu[chosen] + 0.35 * torch.roll(hu[chosen], shift, (1, 2))
    return moved


def spoil(hu: torch.Tensor, quality: Quality, pixel_mm: float, random: torch.Generator) -> torch.Tensor:
    """A scan (K, I, J) of this quality from noise-free HU."""
    clean = hu
    if quality.motion_mm > 0:
        hu = _moved(hu, quality, pixel_mm, random)
    hu = blur(hu, quality.blur_mm / pixel_mm)
    if quality.edge > 0:
        hu = hu + quality.edge * (hu - blur(hu, quality.edge_mm / pixel_mm)).clamp(-250, 250)
    soft = ((hu + 400) / 300).clamp(0, 1)
    size = (hu.shape[1], hu.shape[2])
    change = _cupping(clean, quality, pixel_mm, random) + quality.shading_hu * _slow(len(hu), size, 4, random)
    change += streaks(clean, quality.streak_hu, random) + _starved(clean, quality, random) + quality.offset_hu
    if bool((clean > METAL_HU).any()):
        change += _metal_streaks(clean, random)
    noise = _noise(tuple(hu.shape), random)
    sigma = quality.grain_mm / pixel_mm
    noise = blur(noise, sigma) if sigma > 0.35 else noise
    coarse = blur(_noise(tuple(hu.shape), random), 2.5 / pixel_mm)
    noise = noise * (quality.noise_hu / noise.std()) + coarse * (quality.coarse_hu / coarse.std())
    # The middle of the head, behind most tissue, is noisier than its rim.
    axes = [torch.linspace(-1, 1, n) for n in size]
    noise *= 1.15 - 0.4 * (axes[0][:, None] ** 2 + axes[1][None] ** 2)
    hu = hu * quality.gain + (hu - 100).clamp(min=0) * (quality.bone_gain - 1)
    return hu + soft * change + noise * (0.3 + 0.7 * soft)
