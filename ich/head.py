"""One simulated patient's head: how MNI space becomes it, what is peculiar to it, and its HU at any point."""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from ich.anatomy import BASE, DURA, FACE_MM, GREY, OUTER_MM, OUTSIDE_MM, VENTRICLE_MM, WHITE, Field

REACH_MM = np.array([100.0, 130.0, 125.0])  # the control grid of the deformation spans +- this
FOLD_MM = 80.0  # the folds' noise spans +- this around the middle of the brain
MIDDLE_MM = np.array([0.0, -18.0, 5.0])
# Extra channels after the template's eight.
FOLDS, FOREBRAIN, LESION, CALCIUM, VAULT = range(8, 13)


@dataclass(frozen=True, eq=False)
class Head:
    """A patient's head; positions in MNI mm unless named otherwise."""

    scale: np.ndarray  # (3,) head mm per MNI mm
    control: Field  # smooth displacement, three channels, mm
    folds: Field  # smooth noise of unit SD whose zero surfaces are this patient's own sulci
    fold_width: float  # half width of a sulcus at the brain's surface, in units of that noise
    ventricle_mm: float  # how far the ventricles' walls are pushed out
    gap_mm: float  # CSF between brain and inner table
    atrophy: float  # share of cortex that turned into CSF
    skull_mm: float
    scalp_mm: float
    grey_hu: float
    white_hu: float
    csf_hu: float
    dura_hu: float
    bone_hu: float
    leukoaraiosis: float  # HU lost beside the ventricles
    calcified: tuple[tuple[np.ndarray, float, float], ...]  # center, radius mm, HU
    infarcts: tuple[tuple[np.ndarray, float], ...]  # center, radius mm
    mass: tuple[np.ndarray, float] | None = None  # center (head mm) and ml of a hematoma that pushes its surroundings

    def to(self, device: str) -> "Head":
        """The same head on another device."""
        return replace(self, control=self.control.to(device), folds=self.folds.to(device))

    def to_template(self, points_mm: torch.Tensor) -> torch.Tensor:
        """MNI points (..., 3) of head points (..., 3), mm."""
        source = points_mm if self.mass is None else _pushed(points_mm, *self.mass)
        scale = torch.as_tensor(self.scale, dtype=torch.float32, device=points_mm.device)
        return source / scale + self.control.sample(source).movedim(0, -1)

    def sample(self, maps: Field, points_mm: torch.Tensor, planes: bool = False) -> torch.Tensor:
        """Thirteen channels (13, ...) at head points (..., 3): the template's, then what only this patient has.

        `planes`: the points are planes (S, I, J, 3) of a lattice with odd I and J; what is smooth (deformation, folds)
        is then found at every second point and interpolated between.
        """
        smooth = self._smooth(points_mm[:, ::2, ::2] if planes else points_mm)
        if planes:
            smooth = F.interpolate(smooth.movedim(0, 1), points_mm.shape[1:3], mode="bilinear", align_corners=True)
            smooth = smooth.movedim(1, 0)
        mni = smooth[:3].movedim(0, -1)
        device = mni.device
        out = torch.empty((13, *mni.shape[:-1]), device=device)
        out[:8] = maps.sample(mni)
        out[FOLDS] = smooth[3]
        x, y, z = mni.unbind(-1)
        out[FOREBRAIN] = ((z + 8 - 0.32 * y.clamp(-90, 0).neg().sub(20).clamp(min=0)) / 8 + 0.6).clamp(0, 1)
        out[VAULT] = ((z + 28 - 0.4 * y) / 6 + 0.5).clamp(0, 1)
        lesion = torch.zeros_like(x)
        for center, radius in self.infarcts:
            near = ((mni - torch.as_tensor(center, dtype=torch.float32, device=device)) ** 2).sum(-1) / radius**2
            lesion = torch.maximum(lesion, 1.2 - near + 0.8 * out[FOLDS])
        out[LESION] = lesion.clamp_(0, 0.75)
        calcium = torch.zeros_like(x)
        for center, radius, level in self.calcified:
            near = ((mni - torch.as_tensor(center, dtype=torch.float32, device=device)) ** 2).sum(-1) / radius**2
            calcium = torch.maximum(calcium, level * (1.6 - near).clamp_(0, 1))
        out[CALCIUM] = calcium
        self._add_findings(out, mni)
        return out

    def _add_findings(self, found: torch.Tensor, mni: torch.Tensor) -> None:
        """Change the channels (13, ...) at MNI points (..., 3) in place; here not at all, see `variety.WideHead`."""

    def _smooth(self, points_mm: torch.Tensor) -> torch.Tensor:
        """MNI position and noise of the folds, (4, ...)."""
        mni = self.to_template(points_mm)
        ray = mni - torch.as_tensor(MIDDLE_MM, dtype=torch.float32, device=mni.device)
        # Noise along rays from the middle: sulci cut into the brain instead of floating in it.
        on_shell = ray * (0.25 + 54 / ray.norm(dim=-1, keepdim=True).clamp(min=1))
        return torch.cat([mni.movedim(-1, 0), self.folds.sample(on_shell)])

    def fluids(self, found: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Shares 0..1 of ventricle, of CSF outside the ventricles, and of cortex around sulci."""
        tissue = found[GREY] + found[WHITE]
        depth = -found[OUTSIDE_MM]
        cortical = (1 - depth / 24).clamp_(0, 1) * found[FOREBRAIN]
        width = self.fold_width * cortical
        away = found[FOLDS].abs() - width  # negative inside a sulcus
        folds = (0.3 - away / 0.09).clamp_(0, 1) * (width > 0.02)
        ribbon = (1 - away / 0.35).clamp_(0, 1) * cortical.clamp(max=0.4) * 2.5
        fluid = ((0.62 + 0.25 * self.atrophy - tissue) / 0.3).clamp_(0, 1)
        fluid = torch.maximum(fluid, folds)
        # The space between brain and inner table
        fluid = torch.maximum(fluid, (found[OUTSIDE_MM] * 0.8 + 0.5).clamp_(0, 1))
        ventricle = (0.5 - (found[VENTRICLE_MM] - self.ventricle_mm) / 1.2).clamp_(0, 1)
        return ventricle, fluid * (1 - ventricle), ribbon

    def inside(self, found: torch.Tensor) -> torch.Tensor:
        """1 within the inner table, 0 outside of it and in bone that reaches into the skull."""
        within = (0.5 - (found[OUTSIDE_MM] - self.gap_mm) / 0.8).clamp_(0, 1)
        return within * (1 - ((found[BASE] - 0.15) / 0.4).clamp_(0, 1))

    def brain_hu(self, found: torch.Tensor, fluids: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Noise-free HU of all that lies inside the skull, without blood."""
        ventricle, fluid, ribbon = fluids
        grey = found[GREY] / (found[GREY] + found[WHITE] + 0.05)
        grey = torch.maximum(grey, 0.9 * ribbon)
        hu = self.white_hu + (self.grey_hu - self.white_hu) * grey
        near = (1 - (found[VENTRICLE_MM] - self.ventricle_mm) / 13).clamp_(0, 1)
        hu -= self.leukoaraiosis * near * (1 - grey)
        csf = torch.maximum(ventricle + fluid, found[LESION])
        hu = torch.lerp(hu, torch.full_like(hu, self.csf_hu), csf.clamp_(max=1))
        hu += (self.dura_hu - hu) * found[DURA].clamp(0, 1)
        return torch.maximum(hu, found[CALCIUM])

    def skin_mm(self, found: torch.Tensor) -> torch.Tensor:
        """Distance to the skin, mm, negative inside the head."""
        return torch.minimum(found[OUTER_MM] - self.gap_mm - self.skull_mm - self.scalp_mm, found[FACE_MM])

    def with_surroundings(self, found: torch.Tensor, inner: torch.Tensor) -> torch.Tensor:
        """Noise-free HU of the whole head, given that of the inside of the skull."""
        outer = found[BASE] * 1000
        depth = (found[OUTER_MM] - self.gap_mm) / self.skull_mm
        # Two tables around diploe
        bone = self.bone_hu - 750 * (1 - ((depth - 0.5) / 0.3) ** 2).clamp_(0, 1)
        vault = found[VAULT] * ((1 - depth) * self.skull_mm + 0.5).clamp_(0, 1)
        vault *= (1 + (outer + 200) / 300).clamp_(0, 1)  # not in air sinuses
        outer = torch.lerp(outer, torch.maximum(bone, outer), vault)
        skin = self.skin_mm(found)
        cover = (skin / 1.0 + 2.5).clamp_(0, 1) * (outer < 150)
        outer = outer + (40 - outer) * cover
        outer += (-1000 - outer) * (skin + 0.5).clamp_(0, 1)
        return torch.lerp(outer, inner, self.inside(found))


def _pushed(points: torch.Tensor, center_mm: np.ndarray, volume_ml: float) -> torch.Tensor:
    """Where tissue now at `points` came from: a hematoma of this volume pushes its surroundings outward."""
    center = torch.as_tensor(center_mm, dtype=torch.float32, device=points.device)
    offset = points - center
    squared = offset.pow(2).sum(-1)
    cubed = squared * squared.sqrt()
    # Incompressible radial displacement, r_old^3 = r_new^3 - V / (4/3 pi); a part only, since blood also replaces
    # destroyed tissue, and gone at 80 mm, since the skull does not give way.
    fading = (1 - squared / 80.0**2).clamp_(0, 1) ** 2
    pushed = 0.45 * volume_ml * 1000 * 3 / (4 * np.pi) * fading
    factor = ((cubed - pushed).clamp_(min=0) / (cubed + 1)).pow(1 / 3)
    return center + offset * factor[..., None]


def draw_head(rng: np.random.Generator, wide_csf: float = 0.0) -> Head:
    """A patient of 35 to 90 years; `wide_csf` (0..1) widens ventricles and sulci as bleeding into them does."""
    age = rng.uniform(0, 1)
    atrophy = age * rng.random()
    control = ndimage.zoom(rng.normal(0, 2.8, (3, 4, 5, 4)).astype(np.float32), (1, 4, 4, 4), order=3)
    n = round(2 * FOLD_MM / 4) + 1
    folds = ndimage.gaussian_filter(rng.standard_normal((n, n, n)).astype(np.float32), rng.uniform(1.35, 1.7))
    return Head(
        scale=np.array([1.0, 1.0, 0.98]) * rng.normal(0.95, 0.025) * rng.normal(1, 0.025, 3),
        control=Field(torch.from_numpy(np.ascontiguousarray(np.moveaxis(control, 0, -1))), -REACH_MM, REACH_MM),
        folds=Field(torch.from_numpy(folds / folds.std())[..., None], np.full(3, -FOLD_MM), np.full(3, FOLD_MM)),
        fold_width=0.08 + 0.16 * atrophy + 0.14 * wide_csf + rng.uniform(0, 0.05),
        ventricle_mm=rng.uniform(-0.6, 0.6) + 2.6 * atrophy + 2.2 * wide_csf * rng.uniform(0.3, 1),
        gap_mm=1.0 + 2.0 * atrophy * rng.random() + 0.4 * wide_csf,
        atrophy=0.1 + 0.5 * atrophy + 0.4 * wide_csf,
        skull_mm=rng.uniform(5.0, 8.5),
        scalp_mm=rng.uniform(4.0, 8.0),
        grey_hu=rng.normal(37.5, 1.2),
        white_hu=rng.normal(29.5, 1.2),
        csf_hu=rng.uniform(3, 8),
        dura_hu=rng.uniform(46, 66),
        bone_hu=rng.uniform(1050, 1400),
        leukoaraiosis=max(0.0, age - 0.4) * rng.uniform(0, 14),
        calcified=_calcified(rng, age),
        infarcts=_infarcts(rng),
    )


def _calcified(rng: np.random.Generator, age: float) -> tuple[tuple[np.ndarray, float, float], ...]:
    """Pineal gland, choroid plexus and basal ganglia: center, radius mm, HU."""
    found = []

    def maybe(chance: float, center: list[float], scatter: float, radius: tuple, level: tuple) -> None:
        if rng.random() < chance:
            place = np.array(center) + rng.normal(0, scatter, 3)
            found.append((place, float(rng.uniform(*radius)), float(rng.uniform(*level))))

    maybe(0.6 + 0.3 * age, [0, -30, 3], 1, (1.5, 3.2), (90, 300))
    for side in (-1, 1):
        maybe(0.4 + 0.4 * age, [side * 25, -41, 9], 2, (1.5, 4), (70, 250))
        maybe(0.14, [side * 19, 2, -1], 1, (2, 4.5), (55, 110))
        maybe(0.06, [side * 22, -62, -36], 2, (2, 5), (55, 110))  # dentate nucleus
    maybe(0.15 * age, [0, 40, 60], 8, (2, 4), (90, 400))  # plaque of the falx
    return tuple(found)


def _infarcts(rng: np.random.Generator) -> tuple[tuple[np.ndarray, float], ...]:
    """Old territorial infarcts and lacunes: center, radius mm."""

    def somewhere(x: tuple, y: tuple, z: tuple) -> np.ndarray:
        return np.array([rng.choice([-1, 1]) * rng.uniform(*x), rng.uniform(*y), rng.uniform(*z)])

    large = [(somewhere((20, 58), (-85, 45), (-5, 45)), float(rng.uniform(5, 20))) for _ in range(rng.poisson(0.3))]
    small = [(somewhere((12, 28), (-20, 18), (0, 22)), float(rng.uniform(1.5, 3.5))) for _ in range(rng.poisson(0.8))]
    return tuple(large + small)
