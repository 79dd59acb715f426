"""Bleeds of the embedded cohort: how much of each point of a head is blood, and of which kind.

A bleed is drawn on a fine grid in head space, before a scanner tilts, blurs and slices it, so its true volume is a sum
over that grid. Randomness comes in through one generator; the rest is a pure function of it.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from ich.anatomy import BASE, OUTSIDE_MM, VENTRICLE_MM, Field, grid_axes
from ich.head import Head

# Sites in MNI mm (the side is drawn), their share, and the largest plausible volume there, ml.
SITES = {
    "putamen": ((27, 0, 4), 0.34, 170.0),
    "thalamus": ((12, -18, 9), 0.20, 45.0),
    "lobar frontal": ((32, 32, 26), 0.11, 250.0),
    "lobar parietal": ((34, -46, 34), 0.12, 250.0),
    "lobar temporal": ((48, -28, -6), 0.10, 170.0),
    "cerebellum": ((22, -64, -36), 0.09, 55.0),
    "pons": ((0, -26, -32), 0.04, 14.0),
}
MEAN_ML, SD_ML = 29.55, 37.69  # of Wang et al. 2019


@dataclass(frozen=True, eq=False)
class Bleed:
    """One bleed in a head.

    Attributes
    ----------
    label : 1 parenchymal, 2 ventricular, 3 subarachnoid.
    field : parenchymal: share of blood 0..1, distance from the blood's surface, mm, and slow noise of unit SD;
        in CSF: a level whose value plus 0.5, cut to 0..1, times the share of CSF is the share of blood.
    volume_ml : true volume, summed on the fine grid.
    hu, texture_hu : mean attenuation and SD of its slow variation.
    settled_hu : how much denser the dependent (back) end is.
    edema_width_mm : how far the rim reaches.
    """

    label: int
    field: Field
    volume_ml: float
    hu: float
    texture_hu: float
    settled_hu: float = 0.0
    edema_width_mm: float = 0.0

    def to(self, device: str) -> "Bleed":
        """The same bleed on another device."""
        return replace(self, field=self.field.to(device))


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> np.ndarray:
    """Gaussian noise of unit SD, smooth over `sigma` voxels, made on a coarse grid."""
    step = max(1, int(sigma / 1.5))
    small = rng.standard_normal([n // step + 4 for n in shape]).astype(np.float32)
    small = ndimage.gaussian_filter(small, sigma / step)
    small /= small.std() + 1e-6
    fine = F.interpolate(torch.from_numpy(small)[None, None], scale_factor=step, mode="trilinear")[0, 0]
    return fine[tuple(slice(step, step + n) for n in shape)].numpy()


def parenchymal_volume_ml(rng: np.random.Generator) -> float:
    """Volume drawn log-normal with the mean and SD of Wang et al. 2019, 0.5 to 250 ml."""
    spread = np.sqrt(np.log(1 + (SD_ML / MEAN_ML) ** 2))
    while True:
        volume = float(rng.lognormal(np.log(MEAN_ML) - spread**2 / 2, spread))
        if 0.5 <= volume <= 250:
            return volume


def _lobes(rng: np.random.Generator, volume_ml: float, radius: float, wild: float) -> list:
    """Center (mm) and (3, 3) matrix to the unit ball of each lobe: a main one, others about it, satellites apart."""
    main = rng.normal(0, 1, 3) * (0.9, 1.5, 0.7)
    main /= np.linalg.norm(main)
    n_lobes = 1 + rng.poisson(wild * (1.0 + 0.8 * np.log1p(volume_ml)))
    lobes = []
    for number in range(n_lobes + rng.poisson((1.2 + 0.6 * np.log1p(volume_ml)) * wild**1.4)):
        direction = rng.normal(0, 1, 3)
        direction /= np.linalg.norm(direction)
        if number == 0:
            size, center = radius, np.zeros(3)
        elif number < n_lobes:
            size = radius * rng.uniform(0.35, 0.8)
            away = rng.uniform(0.1, 0.4 + 0.5 * wild)
            center = (main * rng.normal(0, 0.2 + 1.2 * wild) + direction * away) * radius
        else:
            size = max(radius * rng.uniform(0.15, 0.4), 2.2)
            center = direction * (radius * rng.uniform(1.1, 1.8) + size)
        scale = size * np.exp(rng.normal(0, 0.14 + 0.22 * wild, 3) + np.log([1, 1.15, 0.9]))
        # Small lobes lie any way; the main one keeps to the axes of the head, which fiber tracts follow.
        rotation = np.linalg.qr(rng.normal(0, 1, (3, 3)) + (3 if number == 0 else 0) * np.eye(3))[0]
        lobes.append((center, rotation / scale))
    return lobes


def hematoma_field(rng: np.random.Generator, volume_ml: float) -> tuple[np.ndarray, np.ndarray]:
    """Field whose level sets are irregular hematomas, and its axis (mm from the main lobe's center).

    Lobes are ellipsoids of random direction scattered about a main axis, some apart from the rest; slow noise makes the
    surface irregular. Large hematomas have more lobes than small ones, as on real scans.
    """
    radius = (volume_ml * 1000 * 0.75 / np.pi) ** (1 / 3)
    wild = rng.uniform(0, 1) ** 1.2  # most are near an ellipsoid, a few are scattered
    step = radius / 13
    axis = np.arange(-35, 36) * step
    axes = axis[:, None, None], axis[None, :, None], axis[None, None, :]
    field = np.full((axis.size,) * 3, -4, np.float32)
    for center, matrix in _lobes(rng, volume_ml, radius, wild):
        squared = np.zeros_like(field)
        for row in matrix.T:
            line = sum((row[a] * (axes[a] - center[a])).astype(np.float32) for a in range(3))
            squared += line * line
        # In units of the main lobe's radius, so that small lobes are as steep in mm as large ones
        weight = 1 / (np.abs(np.linalg.det(matrix)) ** (1 / 3) * radius)
        np.maximum(field, (1 - np.sqrt(squared)) * np.float32(weight), out=field)
    field += np.float32(0.03 + 0.25 * wild) * smooth_noise(rng, field.shape, 5.0)
    field += np.float32(rng.uniform(0.02, 0.06)) * smooth_noise(rng, field.shape, 2.0)
    # Noise alone must not bleed far away.
    distance = np.sqrt(sum(a**2 for a in axes)) / radius
    return field - np.float32(0.15) * np.maximum(distance - 1.9, 0).astype(np.float32) ** 2, axis


def _level(values: np.ndarray, weights: np.ndarray, wanted: float, soft: float) -> float:
    """Level at which the softly thresholded values, weighted, sum to `wanted`: found by bisection."""
    low, high = float(values.min()) - 1, float(values.max()) + soft
    for _ in range(22):
        level = (low + high) / 2
        total = float((np.clip((values - level) / soft + 0.5, 0, 1) * weights).sum(dtype=np.float64))
        low, high = (level, high) if total > wanted else (low, level)
    return (low + high) / 2


def _points(axes: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(np.meshgrid(*axes, indexing="ij"), -1).astype(np.float32))


def _largest_connected(blood: np.ndarray, smallest_ml: float, voxel_ml: float) -> np.ndarray:
    """Blood without specks: components below `smallest_ml` are noise of the field, not bleeds."""
    labeled, n = ndimage.label(blood)
    if n < 2:
        return blood
    volumes = np.bincount(labeled.ravel()) * voxel_ml
    volumes[0] = 0
    return ((volumes >= smallest_ml) | (volumes == volumes.max()))[labeled] & blood


def parenchymal(
    rng: np.random.Generator,
    head: Head,
    maps: Field,
    growth: float,
    deep: bool,
    scatter: float = 1.0,
    margin_mm: float = 3.0,
) -> tuple[Bleed, Head]:
    """A hematoma in brain tissue and the head as it pushes it; `deep` ones lie beside the ventricles.

    `scatter` multiplies how far the center may lie from its site; blood stays `margin_mm` below the brain's surface.
    """
    volume = parenchymal_volume_ml(rng)
    names = [name for name in SITES if not deep or name in ("putamen", "thalamus", "pons")]
    names = [name for name in names if SITES[name][2] >= volume] or ["putamen"]
    shares = np.array([SITES[name][1] for name in names])
    name = names[rng.choice(len(names), p=shares / shares.sum())]
    site = np.array(SITES[name][0], float) * (rng.choice([-1, 1]), 1, 1)
    spread = 2.0 if name == "pons" else 4.0 if name in ("putamen", "thalamus") else 7.0
    center = (site + rng.normal(0, spread * scatter, 3)) * head.scale
    field, axis = hematoma_field(rng, volume)
    hu, texture = rng.uniform(56, 74), rng.uniform(1, 4.5)
    edema_width = rng.uniform(2, 8)

    step = float(axis[1] - axis[0])
    voxel_ml = step**3 / 1000
    points = _points([axis + c for c in center])
    if volume > 3:
        head = replace(head, mass=(center, volume * growth))
    # Blood stays in tissue: neither in the skull, nor across falx and tentorium, nor in the ventricles.
    mni = head.to_template(points)
    found = maps.sample(mni).numpy()
    allowed = (found[OUTSIDE_MM] < -margin_mm) & (found[VENTRICLE_MM] > head.ventricle_mm + 0.5)
    allowed &= found[BASE] < 0.1  # nor in petrous bone and clinoids, which reach into the skull
    if name != "pons" and name != "cerebellum":
        allowed &= mni[..., 0].numpy() * np.sign(center[0]) > 1.5
    weights = ndimage.binary_opening(allowed, iterations=2).astype(np.float32)
    volume = min(volume * growth, 0.6 * float(weights.sum()) * voxel_ml)
    soft = 0.8 * step / ((volume * 1000 * 0.75 / np.pi) ** (1 / 3))
    level = _level(field, weights, volume / voxel_ml, soft)
    share = np.clip((field - level) / soft + 0.5, 0, 1) * weights
    blood = share > 0.5
    kept = _largest_connected(blood, 0.08, voxel_ml)
    share *= ~ndimage.binary_dilation(blood & ~kept, iterations=2) | kept
    edema = ndimage.distance_transform_edt(~kept).astype(np.float32) * step
    share[[0, -1]] = share[:, [0, -1]] = share[:, :, [0, -1]] = 0  # beyond the box the border's value holds
    slow = smooth_noise(rng, share.shape, 4.0)
    field = np.stack([share, edema, slow], -1).astype(np.float32)
    bleed = Bleed(
        label=1,
        field=Field(torch.from_numpy(field), center + axis[0], center + axis[-1]),
        volume_ml=float(share.sum(dtype=np.float64)) * voxel_ml,
        hu=hu,
        texture_hu=texture,
        settled_hu=rng.uniform(0, 8) if rng.random() < 0.2 else 0.0,  # an older one with a fluid level
        edema_width_mm=edema_width,
    )
    return bleed, head


def _in_csf(rng, label: int, axes: list[np.ndarray], field: np.ndarray, fluid: np.ndarray, volume: float, soft: float):
    """A bleed that fills CSF where `field` is high, down to the level that gives the volume."""
    step = float(axes[0][1] - axes[0][0])
    voxel_ml = step**3 / 1000
    level = _level(field, fluid, volume / voxel_ml, soft)
    scaled = ((field - level) / soft).astype(np.float32)
    scaled[[0, -1]] = scaled[:, [0, -1]] = scaled[:, :, [0, -1]] = -3  # beyond the box the border's value holds
    share = np.clip(scaled + 0.5, 0, 1) * fluid
    low, high = (np.array([a[end] for a in axes]) for end in (0, -1))
    return Bleed(
        label=label,
        field=Field(torch.from_numpy(scaled.clip(-3, 3))[..., None], low, high),
        volume_ml=float(share.sum(dtype=np.float64)) * voxel_ml,
        hu=rng.uniform(60, 76),
        texture_hu=rng.uniform(0.5, 2.5),
        settled_hu=rng.uniform(0, 8) if label == 2 else 0.0,
    )


def _left_free(points: torch.Tensor, others: list[Bleed]) -> np.ndarray:
    """Share of each point that no hematoma fills."""
    free = np.ones(points.shape[:-1], np.float32)
    for bleed in others:
        if bleed.label == 1:
            free *= 1 - bleed.field.sample(points)[0].numpy()
    return free


def ventricular(rng: np.random.Generator, head: Head, maps: Field, growth: float, others: list[Bleed]) -> Bleed:
    """Blood in the ventricles: settled to the back with a fluid level, a cast of one side, or clots.

    Beside a hematoma (in `others`) it is a cast of that side, through which the hematoma broke.
    """
    axes = grid_axes(np.array([-48.0, -72, -50]) * head.scale, np.array([48.0, 48, 42]) * head.scale, 1.6)
    points = _points(axes)
    found = head.sample(maps, points)
    hollow = (head.fluids(found)[0] * head.inside(found)).numpy() * _left_free(points, others)
    capacity = float(hollow.sum()) * 1.6**3 / 1000
    x, y = points[..., 0].numpy(), points[..., 1].numpy()
    noise = smooth_noise(rng, hollow.shape, 6)
    pattern = rng.choice(["settled", "cast", "clots"], p=[0.45, 0.4, 0.15])
    side = rng.choice([-1, 1])
    if others:
        pattern, side = "cast", np.sign(others[0].field.low_mm[0] + others[0].field.high_mm[0])
    if pattern == "settled":
        field, soft = -y / 20 + rng.uniform(0, 0.6) * (x * side > 2) + 0.05 * noise, 0.08
    elif pattern == "cast":
        middle = 0.8 * (np.abs(x) < 5)
        field, soft = rng.uniform(0.5, 1.5) * (x * side > 2) + middle - y / 90 + 0.25 * noise, 0.1
    else:
        field, soft = noise - y / 60, 0.12
    volume = np.clip(rng.lognormal(np.log(0.42 * capacity), 0.5), min(2.5, 0.5 * capacity), 0.85 * capacity)
    volume = min(float(volume) * growth, 0.9 * capacity)
    return _in_csf(rng, 2, axes, ndimage.gaussian_filter(field.astype(np.float32), 0.7), hollow, volume, soft)


def subarachnoid(
    rng: np.random.Generator,
    head: Head,
    maps: Field,
    growth: float,
    others: list[Bleed],
    cisternal_share: float = 0.6,
) -> Bleed:
    """Blood in cisterns and fissures around a ruptured aneurysm, or in the sulci of one region.

    `cisternal_share` of the patients have the first kind.
    """
    axes = grid_axes(np.array([-74.0, -98, -52]) * head.scale, np.array([74.0, 72, 78]) * head.scale, 2.0)
    points = _points(axes)
    found = head.sample(maps, points)
    # Away from bone, where blood could not be told from it
    fluid = (head.fluids(found)[1] * head.inside(found) * (found[OUTSIDE_MM] < -1.0)).numpy() * _left_free(
        points, others
    )
    x, y, z = (points[..., a].numpy() for a in range(3))
    side = rng.choice([-1, 1])
    if rng.random() < cisternal_share:
        cistern = np.exp(-((x / 28) ** 2 + ((y - 0) / 28) ** 2 + ((z + 16) / 16) ** 2))
        sylvian = np.exp(-(((x - side * 42) / 16) ** 2 + ((y - 6) / 28) ** 2 + ((z - 0) / 18) ** 2))
        other = np.exp(-(((x + side * 42) / 16) ** 2 + ((y - 6) / 28) ** 2 + ((z - 0) / 18) ** 2))
        fissure = np.exp(-((x / 7) ** 2 + ((y - 42) / 26) ** 2 + ((z - 4) / 26) ** 2))
        field = 0.9 * cistern + rng.uniform(0.6, 1.1) * sylvian + rng.uniform(0, 0.9) * other
        field = field + rng.uniform(0, 0.9) * fissure
    else:
        c = np.array([side * rng.uniform(22, 50), rng.uniform(-60, 40), rng.uniform(15, 60)])
        field = np.exp(-(((x - c[0]) / 26) ** 2 + ((y - c[1]) / 32) ** 2 + ((z - c[2]) / 22) ** 2))
    field = field + 0.12 * smooth_noise(rng, fluid.shape, 5)
    capacity = float((fluid * (field > 0.25)).sum()) * 2.0**3 / 1000
    volume = min(float(np.clip(rng.lognormal(np.log(20), 0.5), 7, 70)) * growth, 0.85 * capacity)
    return _in_csf(rng, 3, axes, field.astype(np.float32), fluid, volume, 0.08)
