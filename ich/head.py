"""A simulated head: how template space becomes this patient, and the HU of its tissue without a bleed."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from ich.anatomy import BASE, GREY, OUTSIDE_MM, VENTRICLE_MM, WHITE


@dataclass(frozen=True, eq=False)
class Head:
    """A patient: how MNI space becomes this head, and what is peculiar to it."""

    scale: np.ndarray  # (3,) head mm per MNI mm
    control: torch.Tensor  # (3, 6, 7, 6) smooth displacement, mm
    ventricle_mm: float  # how far the ventricles' walls are pushed out
    atrophy: float  # share of cortex that turned into CSF
    skull_mm: float
    scalp_mm: float
    grey_hu: float
    white_hu: float
    calcified: tuple[tuple[np.ndarray, float, float], ...]  # center (MNI), radius mm, HU
    infarcts: tuple[tuple[np.ndarray, float], ...]  # center (MNI), radius mm
    leukoaraiosis: float
    falx_hu: float
    sinus_hu: float

    def to_template(self, points_mm: torch.Tensor) -> torch.Tensor:
        """MNI points (..., 3) of head points (..., 3), mm."""
        device = points_mm.device
        scale = torch.as_tensor(self.scale, dtype=torch.float32, device=device)
        shape = points_mm.shape[:-1]
        unit = (points_mm / torch.tensor([110.0, 140.0, 110.0], device=device)).flip(-1).reshape(1, 1, 1, -1, 3)
        moved = F.grid_sample(self.control[None].to(device), unit, padding_mode="border", align_corners=True)
        return points_mm / scale + moved.reshape(3, -1).T.reshape(*shape, 3)


def draw_head(rng: np.random.Generator) -> Head:
    age = rng.uniform(0, 1)  # of a cohort from about 35 to 90 years
    calcified = []
    if rng.random() < 0.6 + 0.3 * age:
        calcified.append((np.array([0, -30, 3.0]) + rng.normal(0, 1, 3), rng.uniform(1.5, 3.2), rng.uniform(90, 300)))
    for side in (-1, 1):
        if rng.random() < 0.4 + 0.3 * age:
            calcified.append(
                (
                    np.array([side * 25.0, -40, 8]) + rng.normal(0, 2, 3),
                    rng.uniform(1.5, 3.5),
                    rng.uniform(70, 250),
                )
            )
        if rng.random() < 0.12:
            calcified.append(
                (
                    np.array([side * 19.0, 2, -1]) + rng.normal(0, 1, 3),
                    rng.uniform(2, 4),
                    rng.uniform(55, 110),
                )
            )
    infarcts = []
    for _ in range(rng.poisson(0.35)):
        center = np.array([rng.choice([-1, 1]) * rng.uniform(20, 55), rng.uniform(-80, 40), rng.uniform(0, 45)])
        infarcts.append((center, rng.uniform(5, 18)))
    for _ in range(rng.poisson(0.8)):  # lacunes
        center = np.array([rng.choice([-1, 1]) * rng.uniform(12, 28), rng.uniform(-20, 15), rng.uniform(0, 22)])
        infarcts.append((center, rng.uniform(2, 4)))
    return Head(
        scale=np.array([1.0, 1.0, 0.97]) * rng.normal(0.95, 0.03) * rng.normal(1, 0.025, 3),
        control=torch.from_numpy(rng.normal(0, 3.0, (3, 6, 7, 6)).astype(np.float32)),
        ventricle_mm=rng.uniform(-0.8, 0.8) + 2.2 * age * rng.random(),
        atrophy=0.15 + 0.45 * age * rng.random(),
        skull_mm=rng.uniform(5.0, 8.5),
        scalp_mm=rng.uniform(4.0, 8.0),
        grey_hu=rng.normal(38, 1.2),
        white_hu=rng.normal(28.5, 1.2),
        calcified=tuple(calcified),
        infarcts=tuple(infarcts),
        leukoaraiosis=max(0.0, age - 0.4) * rng.uniform(0, 12),
        falx_hu=rng.uniform(45, 75),
        sinus_hu=rng.uniform(48, 68),
    )


def tissue_hu(head: Head, found: torch.Tensor, mni: torch.Tensor) -> torch.Tensor:
    """Noise-free HU of an unharmed head at sampled template values (5, ...) and MNI points (..., 3)."""
    grey, white, outside = found[GREY], found[WHITE], found[OUTSIDE_MM]
    tissue = grey + white
    fluid = ((0.62 + 0.3 * head.atrophy - tissue) / 0.35).clamp(0, 1)
    share = grey / (tissue + 1e-3)
    hu = share * head.grey_hu + (1 - share) * head.white_hu
    near = (found[VENTRICLE_MM] - head.ventricle_mm) / 7
    hu = hu - head.leukoaraiosis * torch.exp(-(near.clamp(min=0) ** 2)) * (1 - share)
    for center, radius in head.infarcts:
        squared = ((mni - torch.as_tensor(center, dtype=torch.float32, device=mni.device)) ** 2).sum(-1) / radius**2
        fluid = torch.maximum(fluid, (1.6 - 1.6 * squared).clamp(0, 0.85))
    ventricle = (0.5 - (found[VENTRICLE_MM] - head.ventricle_mm) / 1.2).clamp(0, 1)
    fluid = torch.maximum(fluid, ventricle)
    hu = hu * (1 - fluid) + 6.0 * fluid
    x, y, z = mni.unbind(-1)
    # Falx: a sheet in the midline above the corpus callosum; it ends in the superior sagittal sinus.
    arch = (y / 68) ** 2 + ((z - 2) / 62) ** 2
    falx = (1.6 - x.abs() * 1.1).clamp(0, 1) * (arch > 0.72) * (z > 8) * (outside < 2)
    hu = torch.maximum(hu, head.falx_hu * falx)
    sinus = (1 - (x / 5) ** 2 - ((outside + 2.5) / 3.2) ** 2).clamp(0, 1) * ((y < -20) | (z > 50))
    hu = hu * (1 - sinus) + head.sinus_hu * sinus
    for center, radius, level in head.calcified:
        squared = ((mni - torch.as_tensor(center, dtype=torch.float32, device=mni.device)) ** 2).sum(-1) / radius**2
        hu = torch.maximum(hu, level * (1.5 - squared).clamp(0, 1))
    # Skull: two tables around diploe, then scalp, then air.
    depth = outside / head.skull_mm
    bone = 1250 - 750 * torch.exp(-(((depth - 0.5) / 0.22) ** 2))
    scalp_edge = head.skull_mm + head.scalp_mm
    shell = torch.where(depth < 1, bone, torch.where(outside < scalp_edge - 1.5, -30.0, 35.0))
    shell = torch.where(outside > scalp_edge, -1000.0, shell)
    base = found[BASE] * 1000
    shell = torch.where(base.abs() > 12, torch.where(base > 12, torch.maximum(base, shell * (depth < 1)), base), shell)
    # The skull thins to a knife edge below the brain, where the base takes over.
    hu = torch.where(outside > 0, shell, hu)
    rest = (outside > scalp_edge + 4) & (outside < scalp_edge + 7) & (y < -72) & (z > -70)
    return torch.where(rest & (base.abs() <= 12), -100.0, hu)


def pushed(points: torch.Tensor, center_mm: np.ndarray, volume_ml: float) -> torch.Tensor:
    """Where tissue now at `points` came from: a hematoma of this volume pushes its surroundings outward."""
    center = torch.as_tensor(center_mm, dtype=torch.float32, device=points.device)
    offset = points - center
    cubed = offset.pow(2).sum(-1).pow(1.5)
    # Source: incompressible radial displacement, r_old^3 = r_new^3 - V / (4/3 pi); a part only, since blood also
    # replaces destroyed tissue, and fading with distance, since the skull does not give way.
    pushed = 0.45 * volume_ml * 1000 * 3 / (4 * np.pi) * torch.exp(-cubed / 60.0**3)
    factor = ((cubed - pushed).clamp(min=0) / (cubed + 1)).pow(1 / 3)
    return center + offset * factor[..., None]
