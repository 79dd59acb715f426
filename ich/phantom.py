"""The embedded cohort: simulated head CT with bleeds of known volume. Case i depends on the seed and i alone."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy import ndimage
from tqdm import tqdm

from ich import bleeds
from ich.anatomy import BASE, GREY, OUTSIDE_MM, VENTRICLE_MM, WHITE, Template, template
from ich.bleeds import FINE_MM, Bleed
from ich.scan import Grid, write_mask, write_scan

VERSION = (
    1  # raised when the same seed would give other scans; written cases of another version are made anew
)
FOV_MM = (222.0, 250.0)
TYPE_SHARES = {"parenchymal": 0.62, "ventricular": 0.12, "subarachnoid": 0.10, "mixed": 0.16}
FOLLOW_UP_EVERY = 8  # the last of every eight indices is a later scan of the patient before it


@dataclass(frozen=True, eq=False)
class Case:
    """One simulated scan.

    Attributes
    ----------
    hu : (I, J, K) int16. labels, second_reader : (I, J, K) uint8, 0..3.
    true_volume_ml : ml by label, summed on the fine grid before slicing.
    """

    case_id: str
    patient_id: str
    hu: np.ndarray
    labels: np.ndarray
    second_reader: np.ndarray
    grid: Grid
    hemorrhage_type: str
    true_volume_ml: dict[int, float]
    scan_date: str


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
        unit = (
            (points_mm / torch.tensor([110.0, 140.0, 110.0], device=device)).flip(-1).reshape(1, 1, 1, -1, 3)
        )
        moved = F.grid_sample(self.control[None].to(device), unit, padding_mode="border", align_corners=True)
        return points_mm / scale + moved.reshape(3, -1).T.reshape(*shape, 3)


def _draw_head(rng: np.random.Generator) -> Head:
    age = rng.uniform(0, 1)  # of a cohort from about 35 to 90 years
    calcified = []
    if rng.random() < 0.6 + 0.3 * age:
        calcified.append(
            (np.array([0, -30, 3.0]) + rng.normal(0, 1, 3), rng.uniform(1.5, 3.2), rng.uniform(90, 300))
        )
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
        center = np.array(
            [rng.choice([-1, 1]) * rng.uniform(20, 55), rng.uniform(-80, 40), rng.uniform(0, 45)]
        )
        infarcts.append((center, rng.uniform(5, 18)))
    for _ in range(rng.poisson(0.8)):  # lacunes
        center = np.array(
            [rng.choice([-1, 1]) * rng.uniform(12, 28), rng.uniform(-20, 15), rng.uniform(0, 22)]
        )
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


def _box(low_mm: np.ndarray, high_mm: np.ndarray) -> torch.Tensor:
    """Fine-grid points (X, Y, Z, 3) of a box in head space, mm."""
    axes = [torch.arange(float(low), float(high), FINE_MM) for low, high in zip(low_mm, high_mm, strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)


def _parenchymal(rng, head: Head, maps: Template, site=None, growth: float = 1.0) -> Bleed:
    _, center, limit = bleeds.draw_site(rng)
    volume = bleeds.parenchymal_volume_ml(rng, limit)
    field, axis = bleeds.hematoma_field(rng, volume, FINE_MM)
    center = np.round(center * head.scale)
    points = torch.stack(
        torch.meshgrid(*[torch.from_numpy(axis + c).float() for c in center], indexing="ij"), -1
    )
    found = maps.sample(head.to_template(points)).cpu().numpy()
    inside = (
        (found[OUTSIDE_MM] < -4)
        & (found[GREY] + found[WHITE] > 0.25)
        & (found[VENTRICLE_MM] > head.ventricle_mm)
    )
    inside = ndimage.binary_closing(inside, iterations=2)
    volume = min(volume * growth, 0.5 * inside.sum() * FINE_MM**3 / 1000)
    share = bleeds.fill_to_volume(field, inside, volume, FINE_MM, soft=0.06)
    share = bleeds.without_specks(share, FINE_MM)
    blood = share > 0.5
    edema = ndimage.distance_transform_edt(~blood) * FINE_MM
    hu = rng.uniform(56, 74)
    return Bleed(
        center + axis[0], share, edema.astype(np.float32), 1, hu, rng.uniform(1, 5), rng.uniform(1.5, 7)
    )


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
    volume = float(
        np.clip(rng.lognormal(np.log(0.4 * capacity), 0.5), min(2.5, 0.5 * capacity), 0.85 * capacity)
    )
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


def _draw_bleeds(
    rng: np.random.Generator, kind: str, head: Head, maps: Template, growth: float
) -> list[Bleed]:
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


@dataclass(frozen=True, eq=False)
class Acquisition:
    """How the scanner takes the head: where each voxel of the stack lies in head space."""

    size: int
    pixel_mm: float
    steps_mm: np.ndarray  # (K,) table positions
    tilt_deg: float
    rotation: np.ndarray  # (3, 3) head to scanner
    center_mm: np.ndarray  # scanner position of the head's origin
    thickness_mm: np.ndarray  # (K,)
    noise_hu: float
    blur_mm: float
    streak_hu: float
    offset_hu: float

    @property
    def normal(self) -> np.ndarray:
        """Slice normal in scanner LPS coordinates."""
        angle = np.radians(self.tilt_deg)
        return np.array([0, -np.sin(angle), np.cos(angle)])

    def grid(self) -> Grid:
        """The scan's grid: axes to the left, to the back and to the head; sheared where the gantry is tilted."""
        angle = np.radians(self.tilt_deg)
        k = len(self.steps_mm)
        step = float(np.mean(np.diff(self.steps_mm)))
        half = (self.size - 1) / 2 * self.pixel_mm
        affine = np.eye(4)
        affine[:3, 0] = (-self.pixel_mm, 0, 0)
        affine[:3, 1] = (0, -self.pixel_mm * np.cos(angle), self.pixel_mm * np.sin(angle))
        affine[:3, 2] = (0, 0, step)
        affine[:3, 3] = (half, half * np.cos(angle), float(self.steps_mm[0]) - half * np.sin(angle))
        positions = self.steps_mm * np.cos(angle)
        return Grid(
            shape=(self.size, self.size, k),
            spacing_mm=(self.pixel_mm, self.pixel_mm),
            positions_mm=positions - positions[0],
            affine=affine,
            tilt_deg=self.tilt_deg,
            header_slice_spacing_mm=step,
        )

    def points(self, k: int, shift_mm: float, rows: slice, columns: slice, device: str) -> torch.Tensor:
        """Head-space points (I, J, 3), RAS mm, of the box of slice k, moved along the normal."""
        angle = np.radians(self.tilt_deg)
        center = (self.size - 1) / 2
        i = (torch.arange(rows.start, rows.stop, device=device) - center) * self.pixel_mm
        j = (torch.arange(columns.start, columns.stop, device=device) - center) * self.pixel_mm
        normal = self.normal * shift_mm
        # scanner coordinates: left, posterior, superior
        left = i[:, None].expand(-1, len(j)) + normal[0]
        back = (j * np.cos(angle))[None].expand(len(i), -1) + normal[1]
        up = (j * np.sin(angle))[None].expand(len(i), -1) + float(self.steps_mm[k]) + normal[2]
        scanner = torch.stack([-left, -back, up], -1) - torch.as_tensor(
            self.center_mm, dtype=torch.float32, device=device
        )
        return scanner @ torch.as_tensor(self.rotation, dtype=torch.float32, device=device)


def _rotation(degrees: np.ndarray) -> np.ndarray:
    a, b, c = np.radians(degrees)
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return rz @ ry @ rx


def _draw_acquisition(rng: np.random.Generator, size: int) -> Acquisition:
    tilt = float(np.round(rng.uniform(-25, 25) * 2) / 2) if rng.random() < 0.5 else 0.0
    cosine = np.cos(np.radians(tilt))
    # The head is tipped so that the slices lie near the orbitomeatal plane whatever the gantry does.
    angles = rng.normal([-0.6 * tilt, 0, 0], [5, 3.5, 5])
    thickness = float(rng.choice([4.5, 5.0, 5.0, 5.0, 5.5, 6.0]))
    length = rng.uniform(136, 150)
    if rng.random() < 0.15:  # thin through the posterior fossa, thick above
        thin = max(3.0, thickness - 2)
        n_thin = int(rng.uniform(35, 50) / thin)
        thicknesses = np.r_[
            np.full(n_thin, thin), np.full(int((length - n_thin * thin) / thickness), thickness)
        ]
    else:
        thicknesses = np.full(int(length / thickness), thickness)
    thicknesses = thicknesses[:36]
    perpendicular = np.r_[0, np.cumsum((thicknesses[:-1] + thicknesses[1:]) / 2)]
    return Acquisition(
        size=size,
        pixel_mm=float(rng.uniform(*FOV_MM)) / size,
        steps_mm=perpendicular / cosine - 58.0 + rng.normal(0, 3),
        tilt_deg=tilt,
        rotation=_rotation(angles),
        center_mm=rng.normal([0, 8, 0], [4, 5, 0]),
        thickness_mm=thicknesses,
        noise_hu=float(rng.uniform(2.2, 5.0)),
        blur_mm=float(rng.uniform(0.35, 0.7)),
        streak_hu=float(rng.uniform(2, 9)),
        offset_hu=float(rng.normal(0, 1.5)),
    )


def _near(points_mm: torch.Tensor, part: Bleed) -> tuple[slice, slice] | None:
    """Rows and columns of a plane of points (I, J, 3) that lie in a bleed's box; None if none does."""
    low = torch.as_tensor(part.low_mm, dtype=torch.float32, device=points_mm.device)
    high = low + (torch.tensor(part.share.shape, device=points_mm.device) - 1) * FINE_MM
    # A plane is affine in i and j, so every fourth point tells the box to within four pixels.
    inside = ((points_mm[::4, ::4] >= low - 4) & (points_mm[::4, ::4] <= high + 4)).all(-1)
    rows, columns = inside.any(1).nonzero().flatten(), inside.any(0).nonzero().flatten()
    if not len(rows):
        return None
    return (
        slice(max(0, 4 * int(rows[0]) - 4), 4 * int(rows[-1]) + 5),
        slice(max(0, 4 * int(columns[0]) - 4), 4 * int(columns[-1]) + 5),
    )


def _sample_box(values: torch.Tensor, low_mm: np.ndarray, points_mm: torch.Tensor) -> torch.Tensor:
    """Trilinear values of fine-grid arrays (C, X, Y, Z) at head points (..., 3); zero beyond the box."""
    device = points_mm.device
    size = torch.tensor(values.shape[1:], device=device) - 1
    low = torch.as_tensor(low_mm, dtype=torch.float32, device=device)
    unit = ((points_mm - low) / FINE_MM / size * 2 - 1).flip(-1)
    found = F.grid_sample(values[None], unit.reshape(1, 1, 1, -1, 3), padding_mode="zeros", align_corners=True)
    return found.reshape(len(values), *points_mm.shape[:-1])


def _warped(head: Head, points_mm: torch.Tensor, mass: tuple[np.ndarray, float] | None) -> torch.Tensor:
    """MNI points (I, J, 3) of a plane of head points: the smooth warp is evaluated at every fourth pixel."""
    # `_render` gives 4 n + 1 rows and columns, so that the corners of the coarse plane are those of the fine one.
    coarse = points_mm[::4, ::4]
    source = coarse if mass is None else _pushed(coarse, *mass)
    moved = head.to_template(source).permute(2, 0, 1)[None]
    return F.interpolate(moved, points_mm.shape[:2], mode="bilinear", align_corners=True)[0].permute(1, 2, 0)


def _tissue_hu(head: Head, found: torch.Tensor, mni: torch.Tensor) -> torch.Tensor:
    """Noise-free HU of an unharmed head at sampled template values (5, ...) and MNI points (..., 3)."""
    grey, white, outside = found[GREY], found[WHITE], found[OUTSIDE_MM]
    tissue = grey + white
    fluid = ((0.62 + 0.3 * head.atrophy - tissue) / 0.35).clamp(0, 1)
    share = grey / (tissue + 1e-3)
    hu = share * head.grey_hu + (1 - share) * head.white_hu
    near = (found[VENTRICLE_MM] - head.ventricle_mm) / 7
    hu = hu - head.leukoaraiosis * torch.exp(-(near.clamp(min=0) ** 2)) * (1 - share)
    for center, radius in head.infarcts:
        squared = ((mni - torch.as_tensor(center, dtype=torch.float32, device=mni.device)) ** 2).sum(
            -1
        ) / radius**2
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
        squared = ((mni - torch.as_tensor(center, dtype=torch.float32, device=mni.device)) ** 2).sum(
            -1
        ) / radius**2
        hu = torch.maximum(hu, level * (1.5 - squared).clamp(0, 1))
    # Skull: two tables around diploe, then scalp, then air.
    depth = outside / head.skull_mm
    bone = 1250 - 750 * torch.exp(-(((depth - 0.5) / 0.22) ** 2))
    scalp_edge = head.skull_mm + head.scalp_mm
    shell = torch.where(depth < 1, bone, torch.where(outside < scalp_edge - 1.5, -30.0, 35.0))
    shell = torch.where(outside > scalp_edge, -1000.0, shell)
    base = found[BASE] * 1000
    shell = torch.where(
        base.abs() > 12, torch.where(base > 12, torch.maximum(base, shell * (depth < 1)), base), shell
    )
    # The skull thins to a knife edge below the brain, where the base takes over.
    hu = torch.where(outside > 0, shell, hu)
    rest = (outside > scalp_edge + 4) & (outside < scalp_edge + 7) & (y < -72) & (z > -70)
    return torch.where(rest & (base.abs() <= 12), -100.0, hu)


def _pushed(points: torch.Tensor, center_mm: np.ndarray, volume_ml: float) -> torch.Tensor:
    """Where tissue now at `points` came from: a hematoma of this volume pushes its surroundings outward."""
    center = torch.as_tensor(center_mm, dtype=torch.float32, device=points.device)
    offset = points - center
    cubed = offset.pow(2).sum(-1).pow(1.5)
    # Source: incompressible radial displacement, r_old^3 = r_new^3 - V / (4/3 pi); a part only, since blood also
    # replaces destroyed tissue, and fading with distance, since the skull does not give way.
    pushed = 0.45 * volume_ml * 1000 * 3 / (4 * np.pi) * torch.exp(-cubed / 60.0**3)
    factor = ((cubed - pushed).clamp(min=0) / (cubed + 1)).pow(1 / 3)
    return center + offset * factor[..., None]


def _render(
    head: Head,
    parts: list[Bleed],
    acquisition: Acquisition,
    maps: Template,
    random: torch.Generator,
    device: str,
):
    """HU (K, H, W) and shares of blood by label (3, K, H, W), float32, foot to head."""
    size, n = acquisition.size, len(acquisition.steps_mm)
    hu = torch.full((n, size, size), -1000.0, device=device)
    shares = torch.zeros((3, n, size, size), device=device)
    half = (size - 1) / 2
    # The head with its scalp and rest reaches about 86 x 112 mm from its center.
    reach = np.array([88, 116]) / acquisition.pixel_mm
    middle = half - acquisition.center_mm[:2] / acquisition.pixel_mm
    boxes = []
    for m, r in zip(middle, reach, strict=True):
        start = max(0, int(m - r))
        boxes.append(slice(start, start + (min(size, int(m + r) + 1) - start - 1) // 4 * 4 + 1))
    largest = max((part for part in parts if part.label == 1), key=lambda part: part.volume_ml, default=None)
    blobs = []
    for part in parts:
        layers = [torch.from_numpy(part.share)]
        texture = torch.randn((1, 1, *[s // 6 + 2 for s in part.share.shape]), generator=random)
        layers.append(
            F.interpolate(texture, part.share.shape, mode="trilinear", align_corners=True)[0, 0]
            * part.texture
        )
        if part.edema_mm is not None:
            layers.append(torch.exp(-((torch.from_numpy(part.edema_mm) / part.edema_width_mm) ** 2)))
        blobs.append(torch.stack(layers).to(device))
    mass = None
    if largest is not None and largest.volume_ml > 3:
        where = np.argwhere(largest.share > 0.5)
        mass = (largest.low_mm + where.mean(0) * FINE_MM, largest.volume_ml)

    n_sub = 2
    for k in range(n):
        total = torch.zeros((boxes[0].stop - boxes[0].start, boxes[1].stop - boxes[1].start), device=device)
        for sub in range(n_sub):
            shift = ((sub + 0.5) / n_sub - 0.5) * float(acquisition.thickness_mm[k])
            points = acquisition.points(k, shift, boxes[0], boxes[1], device)
            mni = _warped(head, points, mass)
            found = maps.sample(mni)
            value = _tissue_hu(head, found, mni)
            for part, layers in zip(parts, blobs, strict=True):
                near = _near(points, part)
                if near is None:
                    continue
                layer = _sample_box(layers, part.low_mm, points[near])
                here = value[near]
                if part.edema_mm is not None:
                    here = here - 10 * layer[2] * (found[OUTSIDE_MM][near] < -2) * (here > 12)
                value[near] = here * (1 - layer[0]) + (part.hu + layer[1]) * layer[0]
                shares[part.label - 1, k, boxes[0], boxes[1]][near] += layer[0] / n_sub
            total += value.clamp(-1000, 1600)
        hu[k, boxes[0], boxes[1]] = total / n_sub
    return hu, shares


def _blur(stack: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian blur of each plane of (N, H, W): sums of shifted planes, ten times as fast as a one-channel convolution."""
    radius = max(1, int(2.5 * sigma + 0.5))
    weights = np.exp(-((np.arange(radius + 1) / sigma) ** 2) / 2)
    weights /= weights[0] + 2 * weights[1:].sum()
    for axis in (1, 2):
        padding = (0, 0, radius, radius) if axis == 1 else (radius, radius, 0, 0)
        padded = F.pad(stack[:, None], padding, mode="replicate")[:, 0]
        n = stack.shape[axis]
        out = padded.narrow(axis, radius, n) * float(weights[0])
        for offset in range(1, radius + 1):
            for start in (radius - offset, radius + offset):
                out.add_(padded.narrow(axis, start, n), alpha=float(weights[offset]))
        stack = out
    return stack


def _degrade(hu: torch.Tensor, acquisition: Acquisition, random: torch.Generator) -> torch.Tensor:
    """Blur, beam hardening, streaks and correlated noise of a scanner on (K, H, W)."""
    hu = _blur(hu, acquisition.blur_mm / acquisition.pixel_mm)
    bone = F.avg_pool2d((hu > 400).float()[:, None], 8)
    # Between dense bones of one row the beam is hardened: a dark band, strongest at the petrous ridges.
    band = bone.cumsum(2).clamp(max=1) * bone.flip(2).cumsum(2).flip(2).clamp(max=1)
    load = (bone.sum(2, keepdim=True) / 6).clamp(max=1) ** 2
    dark = F.interpolate(band * load, hu.shape[1:], mode="bilinear", align_corners=False)[:, 0]
    wave = torch.randn((len(hu), 1, hu.shape[2] // 3 + 1), generator=random)
    wave = F.interpolate(wave, hu.shape[2], mode="linear", align_corners=False).to(hu.device)
    soft = (hu > -200).float()
    hu = hu + soft * dark * acquisition.streak_hu * (0.7 * wave - 1)
    noise = torch.randn(hu.shape, generator=random).to(hu.device)
    noise = _blur(noise, 0.75)
    noise = noise / noise.std()
    return hu + acquisition.offset_hu * soft + noise * acquisition.noise_hu * (0.35 + 0.65 * soft)


def _outline(shares: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
    """Labels (K, H, W) from shares of blood by label (3, K, H, W): where blood prevails, its largest kind."""
    first, second, third = shares
    largest = torch.where(third > torch.maximum(first, second), 3, torch.where(second > first, 2, 1))
    return torch.where(first + second + third > level, largest, 0).to(torch.uint8)


def _second_reader(shares: torch.Tensor, rng: np.random.Generator, random: torch.Generator) -> torch.Tensor:
    """Another reader's outline: a bias of the edge, slow differences along it, and now and then a missed end slice."""
    n, h, w = shares.shape[1:]
    smoothed = torch.stack([_blur(part, 1.2) for part in shares])
    wobble = torch.randn((1, 1, n, h // 12 + 2, w // 12 + 2), generator=random).to(shares.device)
    wobble = F.interpolate(wobble, (n, h, w), mode="trilinear", align_corners=False)[0, 0]
    labels = _outline(smoothed, (0.5 + rng.normal(0, 0.06) + 0.13 * wobble).clamp(0.15, 0.85))
    blood = torch.nonzero((labels > 0).flatten(1).any(1)).flatten()
    if len(blood) > 4 and rng.random() < 0.25:
        labels[int(blood[0] if rng.random() < 0.5 else blood[-1])] = 0
    return labels


def _kind(rng: np.random.Generator) -> str:
    return str(rng.choice(list(TYPE_SHARES), p=list(TYPE_SHARES.values())))


def make_case(seed: int, index: int, size: int = 256, device: str = "cpu") -> Case:
    """Case `index` of the cohort with this seed; it does not depend on how many others are made.

    Every eighth case is a follow-up scan of the patient before it: the same head and hematoma, grown or shrunk,
    scanned anew.

    Parameters
    ----------
    size : pixels on a side; the field of view is 222 to 250 mm whatever the size.
    """
    follow_up = index % FOLLOW_UP_EVERY == FOLLOW_UP_EVERY - 1
    owner = index - 1 if follow_up else index
    patient = np.random.default_rng([seed, owner, 0])
    visit = np.random.default_rng([seed, index, 1])
    random = torch.Generator().manual_seed(int(visit.integers(2**62)))
    maps = template(device)
    growth = float(np.exp(visit.normal(0.12, 0.3))) if follow_up else 1.0
    kind = _kind(patient)
    with torch.no_grad():
        head = _draw_head(patient)
        parts = _draw_bleeds(patient, kind, head, maps, growth)
        acquisition = _draw_acquisition(visit, size)
        hu, shares = _render(head, parts, acquisition, maps, random, device)
        hu = _degrade(hu, acquisition, random).round().clamp(-1024, 3071)
        labels = _outline(shares, torch.tensor(0.5, device=device))
        second = _second_reader(shares, visit, random)
    volumes = {label: sum(part.volume_ml for part in parts if part.label == label) for label in (1, 2, 3)}
    day = (
        np.datetime64("2019-01-01")
        + int(patient.integers(0, 365))
        + (int(visit.integers(1, 6)) if follow_up else 0)
    )
    to_array = lambda stack, dtype: stack.permute(1, 2, 0).cpu().numpy().astype(dtype)  # noqa: E731 (K, I, J) to (I, J, K)
    return Case(
        case_id=f"phantom-{index:04d}",
        patient_id=f"simulated-{owner:04d}",
        hu=to_array(hu, np.int16),
        labels=to_array(labels, np.uint8),
        second_reader=to_array(second, np.uint8),
        grid=acquisition.grid(),
        hemorrhage_type=kind,
        true_volume_ml=volumes,
        scan_date=str(day),
    )


def _write_case(out: Path, seed: int, index: int, size: int, device: str) -> dict:
    """Write one case unless it is there; its row is written last and marks it complete."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    key = {"seed": seed, "index": index, "size": size, "version": VERSION}
    row_path = out / "rows" / f"phantom-{index:04d}.json"
    if row_path.is_file():
        row = json.loads(row_path.read_text())
        if row.pop("key") == key:
            return row
    case = make_case(seed, index, size, device)
    paths = {name: f"{name}/{case.case_id}.nii.gz" for name in ("images", "masks", "second_reader")}
    write_scan(out / paths["images"], case.hu, case.grid)
    write_mask(out / paths["masks"], case.labels, case.grid)
    write_mask(out / paths["second_reader"], case.second_reader, case.grid)
    row = {
        "case_id": case.case_id,
        "patient_id": case.patient_id,
        "image": paths["images"],
        "reference_mask": paths["masks"],
        "second_mask": paths["second_reader"],
        "scan_date": case.scan_date,
        "hemorrhage_type": case.hemorrhage_type,
        "true_volume_ml": sum(case.true_volume_ml.values()),
        "true_parenchymal_ml": case.true_volume_ml[1],
        "true_ventricular_ml": case.true_volume_ml[2],
        "true_subarachnoid_ml": case.true_volume_ml[3],
    }
    temporary = row_path.with_name(row_path.name + ".tmp")
    temporary.write_text(json.dumps({**row, "key": key}))
    os.replace(temporary, row_path)
    return row


def write_cohort(
    out: Path, n: int, seed: int, size: int = 256, jobs: int = -1, device: str = "cpu"
) -> pd.DataFrame:
    """Write cases 0..n-1 as NIfTI with their masks and cases.csv; cases already written are kept.

    Returns
    -------
    cases.csv: case_id, patient_id, image, reference_mask, second_mask (paths from `out`), scan_date, hemorrhage_type,
    true_volume_ml and the true volume of each kind.
    """
    for name in ("images", "masks", "second_reader", "rows"):
        (out / name).mkdir(parents=True, exist_ok=True)
    work = joblib.Parallel(n_jobs=jobs, return_as="generator")(
        joblib.delayed(_write_case)(out, seed, index, size, device) for index in range(n)
    )
    rows = list(tqdm(work, total=n, desc="simulated cases", mininterval=10, ascii=True))
    table = pd.DataFrame(rows)
    table.to_csv(out / "cases.csv", index=False)
    return table
