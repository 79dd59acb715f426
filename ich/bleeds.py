"""Bleeds of the embedded cohort: how much of each millimeter of a head is blood, and of which kind.

Everything is drawn on a fine grid in head space (before the scanner tilts, blurs and slices it), so a bleed's true
volume is a sum over that grid. Randomness comes in through one generator; the rest is a pure function of it.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

FINE_MM = 1.0

# Sites in MNI mm (side is drawn), their share, and the largest plausible volume there, ml.
SITES = {
    "putamen": ((27, 0, 4), 0.34, 160.0),
    "thalamus": ((12, -18, 9), 0.20, 45.0),
    "lobar frontal": ((30, 32, 26), 0.11, 180.0),
    "lobar parietal": ((32, -44, 34), 0.12, 180.0),
    "lobar temporal": ((46, -26, -4), 0.10, 150.0),
    "cerebellum": ((22, -62, -36), 0.09, 55.0),
    "pons": ((0, -26, -32), 0.04, 14.0),
}


@dataclass(frozen=True, eq=False)
class Bleed:
    """One bleed on the fine grid.

    Attributes
    ----------
    low_mm : (3,) head-space position of the first voxel's center.
    share : (X, Y, Z) float32, share of each fine voxel that is blood, 0..1.
    edema_mm : (X, Y, Z) float32, distance from the blood's surface (positive outside), None without edema.
    label : 1 parenchymal, 2 ventricular, 3 subarachnoid.
    hu : mean attenuation of the blood.
    texture : SD of its slow variation, HU.
    edema_width_mm : how far the rim reaches.
    """

    low_mm: np.ndarray
    share: np.ndarray
    edema_mm: np.ndarray | None
    label: int
    hu: float
    texture: float
    edema_width_mm: float = 0.0

    @property
    def volume_ml(self) -> float:
        """True volume: the sum over the fine grid."""
        return float(self.share.sum(dtype=np.float64)) * FINE_MM**3 / 1000


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> np.ndarray:
    """Gaussian noise of unit SD, smooth over `sigma` voxels, made on a coarse grid."""
    step = max(1, int(sigma / 1.5))
    small = rng.standard_normal([n // step + 4 for n in shape]).astype(np.float32)
    small = ndimage.gaussian_filter(small, sigma / step)
    small /= small.std() + 1e-6
    zoom = [n / (m - 3) for n, m in zip(shape, small.shape, strict=True)]
    return ndimage.zoom(small, zoom, order=1)[tuple(slice(0, n) for n in shape)]


def parenchymal_volume_ml(rng: np.random.Generator, limit_ml: float) -> float:
    """Log-normal volume with the mean and SD of Wang et al. 2019 (29.55 and 37.69 ml), within the site's limit."""
    mean, sd = 29.55, 37.69
    spread = np.sqrt(np.log(1 + (sd / mean) ** 2))
    while True:
        volume = float(rng.lognormal(np.log(mean) - spread**2 / 2, spread))
        if 0.6 <= volume <= limit_ml:
            return volume


def draw_site(rng: np.random.Generator) -> tuple[str, np.ndarray, float]:
    """Site, center in MNI mm with its side and scatter, and the largest volume there."""
    names = list(SITES)
    name = names[rng.choice(len(names), p=[SITES[n][1] for n in names])]
    center, _, limit = SITES[name]
    side = rng.choice([-1, 1])
    spread = 2.0 if name == "pons" else 4.0 if name in ("putamen", "thalamus") else 7.0
    return name, np.array([side * center[0], center[1], center[2]], float) + rng.normal(0, spread, 3), limit


def hematoma_field(rng: np.random.Generator, volume_ml: float, spacing_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Field whose level sets are irregular hematomas, and the offset of its center voxel.

    Lobes are ellipsoids of random direction around a main axis, joined by a smooth maximum; slow noise makes the
    surface irregular. Large hematomas have more lobes than small ones, as on real scans.
    """
    radius = (volume_ml * 1000 * 0.75 / np.pi) ** (1 / 3)
    reach = int(np.ceil(2.9 * radius / spacing_mm)) + 4
    axis = np.arange(-reach, reach + 1) * spacing_mm
    # From smooth and round (0) to branching (1): most real hematomas are compact, some are anything but.
    irregular = rng.beta(1.0, 2.0)
    n_lobes = 1 + rng.poisson(irregular * (1.5 + 1.2 * np.log1p(volume_ml)))
    n_satellites = rng.choice([0, 1, 2, 3], p=[0.62, 0.2, 0.12, 0.06])
    flatness = rng.uniform(2, 7)  # exponent across slices: 2 an ellipsoid, larger a body with flat ends
    main = rng.normal(0, 1, 3) * (1.0, 1.5, 0.8)
    main /= np.linalg.norm(main)
    parts = [axis[:, None, None], axis[None, :, None], axis[None, None, :]]
    field = np.full((axis.size,) * 3, -np.inf, np.float32)
    for number in range(n_lobes + n_satellites):
        size = radius * (1.0 if number == 0 else rng.uniform(0.35, 0.8))
        along = main * rng.normal(0, 0.2 + 1.0 * irregular) * radius * 1.5
        center = np.zeros(3) if number == 0 else along + rng.normal(0, 0.2 + 0.45 * irregular, 3) * radius
        if number >= n_lobes:
            direction = main * rng.choice([-1, 1]) + rng.normal(0, 0.5, 3)
            center = direction / np.linalg.norm(direction) * rng.uniform(1.5, 2.3) * radius
            size = radius * rng.uniform(0.2, 0.42)
        scale = np.exp(rng.normal(0, 0.2, 3) + np.log([1, 1.15, 0.95]))
        if number == 0:
            turn = rng.uniform(0, np.pi)
            rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
        else:
            rotation = np.linalg.qr(rng.normal(0, 1, (3, 3)))[0]
        # |M (p - center)|^2 by axis sums: three full arrays instead of a full matrix product
        matrix = rotation / (size * scale)
        squared = np.zeros_like(field)
        for axis_number, row in enumerate(matrix.T):
            line = sum(row[a] * (parts[a] - center[a]) for a in range(3)).astype(np.float32)
            squared += np.abs(line) ** np.float32(flatness) if number == 0 and axis_number == 2 else line * line
        np.maximum(field, (1 - np.sqrt(squared)) * (size / radius if number >= n_lobes else 1), out=field)
    rough = smooth_noise(rng, field.shape, max(1.5, 0.38 * radius / spacing_mm))
    fine = smooth_noise(rng, field.shape, max(1.0, 0.15 * radius / spacing_mm))
    field += np.float32(0.06 + 0.30 * irregular) * rough + np.float32(rng.uniform(0.03, 0.09)) * fine
    # Far satellites of pure noise would be spots anywhere; the field falls off with distance instead.
    distance = np.sqrt(sum(part**2 for part in parts)) / radius
    return field - 0.12 * np.maximum(distance - 1.8, 0).astype(np.float32) ** 2, axis


def fill_to_volume(
    field: np.ndarray, allowed: np.ndarray, volume_ml: float, spacing_mm: float, soft: float
) -> np.ndarray:
    """Share of blood (0..1) whose sum over `allowed` is `volume_ml`: the level is found by bisection."""
    values = field[allowed > 0.5]
    wanted = volume_ml * 1000 / spacing_mm**3
    low, high = float(values.min()) - 1, float(values.max())
    for _ in range(24):
        level = (low + high) / 2
        total = float(np.clip((values - level) / soft + 0.5, 0, 1).sum(dtype=np.float64))
        low, high = (level, high) if total > wanted else (low, level)
    return (np.clip((field - (low + high) / 2) / soft + 0.5, 0, 1) * (allowed > 0.5)).astype(np.float32)


def without_specks(share: np.ndarray, spacing_mm: float, smallest_ml: float = 0.05) -> np.ndarray:
    """The share without components below `smallest_ml`: a speck is noise of the field, not a bleed."""
    labeled, n = ndimage.label(share > 0.5)
    if n < 2:
        return share
    volumes = np.bincount(labeled.ravel())[1:] * spacing_mm**3 / 1000
    small = np.isin(labeled, np.flatnonzero((volumes < smallest_ml) & (volumes < volumes.max())) + 1)
    return np.where(ndimage.binary_dilation(small), 0, share).astype(np.float32)
