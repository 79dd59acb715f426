"""Where a simulated head bleeds: in its tissue, its ventricles or its sulci and cisterns."""

import numpy as np
import torch
from scipy import ndimage

from ich import bleeds
from ich.anatomy import GREY, OUTSIDE_MM, VENTRICLE_MM, WHITE, Template
from ich.bleeds import FINE_MM, Bleed
from ich.head import Head


def _box(low_mm: np.ndarray, high_mm: np.ndarray) -> torch.Tensor:
    """Fine-grid points (X, Y, Z, 3) of a box in head space, mm."""
    axes = [torch.arange(float(low), float(high), FINE_MM) for low, high in zip(low_mm, high_mm, strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)


def _parenchymal(rng, head: Head, maps: Template, site=None, growth: float = 1.0) -> Bleed:
    _, center, limit = bleeds.draw_site(rng)
    volume = bleeds.parenchymal_volume_ml(rng, limit)
    field, axis = bleeds.hematoma_field(rng, volume, FINE_MM)
    center = np.round(center * head.scale)
    points = torch.stack(torch.meshgrid(*[torch.from_numpy(axis + c).float() for c in center], indexing="ij"), -1)
    found = maps.sample(head.to_template(points)).cpu().numpy()
    inside = (found[OUTSIDE_MM] < -4) & (found[GREY] + found[WHITE] > 0.25) & (found[VENTRICLE_MM] > head.ventricle_mm)
    inside = ndimage.binary_closing(inside, iterations=2)
    volume = min(volume * growth, 0.5 * inside.sum() * FINE_MM**3 / 1000)
    share = bleeds.fill_to_volume(field, inside, volume, FINE_MM, soft=0.06)
    share = bleeds.without_specks(share, FINE_MM)
    blood = share > 0.5
    edema = ndimage.distance_transform_edt(~blood) * FINE_MM
    hu = rng.uniform(56, 74)
    return Bleed(center + axis[0], share, edema.astype(np.float32), 1, hu, rng.uniform(1, 5), rng.uniform(1.5, 7))


def _ventricular(rng, head: Head, maps: Template) -> Bleed:
    low, high = np.array([-46, -70, -45]) * head.scale, np.array([46, 46, 40]) * head.scale
    low = np.round(low)
    points = _box(low, high)
    found = maps.sample(head.to_template(points)).cpu().numpy()
    hollow = np.clip(0.5 - (found[VENTRICLE_MM] - head.ventricle_mm) / 1.5, 0, 1) * (found[OUTSIDE_MM] < -4)
    capacity = float(hollow.sum()) * FINE_MM**3 / 1000
    # Blood sinks to the back in a patient on the back: the level rises with volume. A cast fills one side.
    x, y, _ = (points[..., a].numpy() for a in range(3))
    field = -(y / 40) + 0.25 * bleeds.smooth_noise(rng, hollow.shape, 9)
    if rng.random() < 0.55:
        field = field + rng.choice([-1, 1]) * rng.uniform(0.5, 1.6) * np.sign(x) * (np.abs(x) > 2)
    if rng.random() < 0.35:
        field = 0.3 * field + bleeds.smooth_noise(rng, hollow.shape, 7)
    volume = float(np.clip(rng.lognormal(np.log(0.4 * capacity), 0.5), min(2.5, 0.5 * capacity), 0.85 * capacity))
    share = bleeds.fill_to_volume(field.astype(np.float32), hollow, volume, FINE_MM, soft=0.12) * hollow
    return Bleed(low, share.astype(np.float32), None, 2, rng.uniform(58, 76), rng.uniform(0.5, 3))


def _subarachnoid(rng, head: Head, maps: Template) -> Bleed:
    low = np.round(np.array([-72, -100, -48]) * head.scale)
    points = _box(low, np.array([72, 70, 62]) * head.scale)
    found = maps.sample(head.to_template(points)).cpu().numpy()
    tissue = found[GREY] + found[WHITE]
    fluid = np.clip((0.72 + 0.3 * head.atrophy - tissue) / 0.25, 0, 1)
    fluid *= (found[OUTSIDE_MM] < -2.2) & (found[VENTRICLE_MM] > head.ventricle_mm + 3)
    x, y, z = (points[..., a].numpy() for a in range(3))
    side = rng.choice([-1, 1])
    if rng.random() < 0.6:  # aneurysmal: basal cisterns and Sylvian fissures
        cistern = np.exp(-((x / 26) ** 2 + ((y - 2) / 26) ** 2 + ((z + 18) / 15) ** 2))
        sylvian = np.exp(-(((x - side * 42) / 15) ** 2 + ((y - 8) / 26) ** 2 + ((z + 2) / 17) ** 2))
        field = 1.1 * cistern + rng.uniform(0.5, 1.0) * sylvian
    else:  # convexal: sulci of one region
        c = np.array([side * rng.uniform(22, 50), rng.uniform(-60, 40), rng.uniform(12, 48)])
        field = np.exp(-(((x - c[0]) / 26) ** 2 + ((y - c[1]) / 30) ** 2 + ((z - c[2]) / 22) ** 2))
    field = field + 0.12 * bleeds.smooth_noise(rng, fluid.shape, 8) + 0.35 * fluid
    volume = float(np.clip(rng.lognormal(np.log(14), 0.5), 5, 0.5 * fluid.sum() * FINE_MM**3 / 1000))
    share = bleeds.fill_to_volume(field.astype(np.float32), fluid, volume, FINE_MM, soft=0.05) * fluid
    return Bleed(low, share.astype(np.float32), None, 3, rng.uniform(60, 76), rng.uniform(0.5, 3))


def draw_bleeds(rng: np.random.Generator, kind: str, head: Head, maps: Template, growth: float) -> list[Bleed]:
    if kind == "parenchymal":
        return [_parenchymal(rng, head, maps, growth=growth)]
    if kind == "ventricular":
        return [_ventricular(rng, head, maps)]
    if kind == "subarachnoid":
        return [_subarachnoid(rng, head, maps)]
    parts = [_parenchymal(rng, head, maps, growth=growth)]
    if rng.random() < 0.75:
        parts.append(_ventricular(rng, head, maps))
    if len(parts) == 1 or rng.random() < 0.3:
        parts.append(_subarachnoid(rng, head, maps))
    return parts
