"""Head template of the embedded cohort: tissue, ventricles, skull base and distances in MNI space.

Tissue comes from the ICBM152 grey- and white-matter probability maps (Fonov et al., NeuroImage 2011;54:313), which
ship inside the nilearn wheel; everything outside the brain is built here from distances and simple shapes.
"""

import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

VOXEL_MM = 1.5
LOW_MM = np.array([-114.0, -150.0, -110.0])  # template box in MNI mm (right-left, back-front, foot-head)
HIGH_MM = np.array([114.0, 120.0, 122.0])
CLIP_MM = 40.0  # distances are kept up to this far
CLOSING_MM = 14.0  # fills the interhemispheric fissure, which a skull must not enter

# What each channel of the template holds.
GREY, WHITE, VENTRICLE_MM, OUTSIDE_MM, BASE = range(5)


@dataclass(frozen=True, eq=False)
class Template:
    """Maps (5, X, Y, Z) float32 on a grid of 1.5 mm in MNI space.

    Channels: grey and white matter 0..1; distance to the ventricles' surface, mm, negative inside; distance to the
    inner table, mm, negative inside the skull; skull base and face as HU / 1000, zero where there is nothing special.
    """

    maps: torch.Tensor

    def sample(self, points_mm: torch.Tensor) -> torch.Tensor:
        """Values (5, ...) at MNI points (..., 3) in mm; beyond the box the border's."""
        device = points_mm.device
        low = torch.as_tensor(LOW_MM, dtype=torch.float32, device=device)
        size = torch.as_tensor(HIGH_MM - LOW_MM, dtype=torch.float32, device=device)
        # grid_sample takes the last array axis first
        grid = ((points_mm - low) / size * 2 - 1).flip(-1)
        shape = points_mm.shape[:-1]
        found = F.grid_sample(
            self.maps[None],
            grid.reshape(1, 1, 1, -1, 3),
            mode="bilinear",
            padding_mode="border",
            align_corners=True,
        )
        return found.reshape(len(self.maps), *shape)


def _load(name: str) -> torch.Tensor:
    spec = importlib.util.find_spec("nilearn")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            "nilearn is not installed: the embedded cohort takes its ICBM152 maps from nilearn's wheel"
        )
    folder = Path(spec.submodule_search_locations[0]) / "datasets" / "data"
    image: Any = nibabel.load(folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz")
    values = np.asarray(image.dataobj).astype(np.float32) / 255
    # Into the template's box at 1 mm, then averaged to its voxels.
    origin = image.affine[:3, 3]
    pad = [(round(origin[a] - LOW_MM[a]), round(HIGH_MM[a] - origin[a] - values.shape[a] + 1)) for a in range(3)]
    boxed = torch.from_numpy(np.pad(values, pad))
    size = [round((HIGH_MM[a] - LOW_MM[a]) / VOXEL_MM) + 1 for a in range(3)]
    return F.interpolate(boxed[None, None], size, mode="trilinear", align_corners=True)[0, 0]


def _distance_mm(mask: np.ndarray) -> np.ndarray:
    """Signed distance to the surface of a mask, mm, negative inside."""
    outside = ndimage.distance_transform_edt(~mask) - 0.5
    inside = ndimage.distance_transform_edt(mask) - 0.5
    return (np.where(mask, -inside, outside) * VOXEL_MM).astype(np.float32)


def _coordinates() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    axes = [np.linspace(LOW_MM[a], HIGH_MM[a], round((HIGH_MM[a] - LOW_MM[a]) / VOXEL_MM) + 1) for a in range(3)]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    return x, y, z


def _ellipsoid(center: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
    """Squared normalized distance: below 1 inside."""
    x, y, z = _coordinates()
    return ((x - center[0]) / radii[0]) ** 2 + ((y - center[1]) / radii[1]) ** 2 + ((z - center[2]) / radii[2]) ** 2


def _base(outside_mm: np.ndarray) -> np.ndarray:
    """Skull base and face as HU / 1000: what makes head CT hard below the brain. Zero elsewhere."""
    x, y, z = _coordinates()
    base = np.zeros(outside_mm.shape, np.float32)
    extracranial = outside_mm > 0
    # Face and neck fill what the skull shell leaves open below the brain.
    face = (_ellipsoid((0, 38, -62), (66, 62, 60)) < 1) | (_ellipsoid((0, -28, -100), (58, 56, 50)) < 1)
    base[face & extracranial] = 0.045
    rng = np.random.default_rng(152)
    speckle = ndimage.gaussian_filter(rng.standard_normal(base.shape).astype(np.float32), 2.0)
    speckle /= speckle.std()
    # Bone of the base: a plate under the anterior and middle fossa, the clivus and the occipital bone.
    plate = extracranial & (outside_mm < 9) & (z < -8) & (y > -75)
    base[plate & (speckle > -0.9)] = 0.7
    for side in (-1, 1):
        petrous = _ellipsoid((side * 38, -32, -36), (26, 9, 9)) < 1
        base[petrous & (outside_mm > -3)] = 1.1
        mastoid = _ellipsoid((side * 56, -40, -44), (13, 16, 18)) < 1
        base[mastoid & extracranial] = 0.8
        base[mastoid & extracranial & (speckle > 0.1)] = -0.7  # air cells
        orbit = _ellipsoid((side * 31, 62, -32), (18, 24, 16)) < 1
        base[(_ellipsoid((side * 31, 62, -32), (20.5, 26, 18.5)) < 1) & extracranial] = 0.6
        base[orbit & extracranial] = -0.08  # fat
        base[(_ellipsoid((side * 31, 72, -32), (12, 12, 12)) < 1) & extracranial] = 0.015  # globe
        base[(_ellipsoid((side * 31, 50, -32), (2.2, 16, 2.2)) < 1) & extracranial] = 0.035  # optic nerve
        maxillary = _ellipsoid((side * 26, 56, -66), (13, 17, 15)) < 1
        base[maxillary & extracranial] = -0.98
        base[
            (_ellipsoid((side * 7, 76, 6), (11, 6, 14)) < 1) & extracranial & (outside_mm > 2)
        ] = -0.98  # frontal sinus
    base[(_ellipsoid((0, 24, -38), (13, 12, 9)) < 1) & extracranial] = -0.98  # sphenoid sinus
    ethmoid = (_ellipsoid((0, 52, -38), (12, 24, 13)) < 1) & extracranial
    base[ethmoid] = np.where(speckle[ethmoid] > 0.5, 0.25, -0.9)
    base[(_ellipsoid((0, 66, -60), (8, 26, 22)) < 1) & extracranial] = np.float32(-0.9)  # nasal cavity
    base[(_ellipsoid((0, 8, -32), (8, 7, 2.5)) < 1)] = 0.75  # floor of the sella
    clivus = (np.abs(x) < 10) & (np.abs((y + 12) + 0.8 * (z + 45)) < 6) & (z < -32) & (z > -66)
    base[clivus & extracranial] = 0.75
    return ndimage.gaussian_filter(base, 0.5)


@functools.lru_cache(maxsize=2)
def template(device: str = "cpu") -> Template:
    """The head template, built once per process in about three seconds.

    Raises
    ------
    FileNotFoundError
        nilearn, whose wheel carries the maps, is not installed.
    """
    grey, white = _load("gm"), _load("wm")
    tissue = (grey + white).numpy()
    brain = ndimage.binary_opening(tissue > 0.35, iterations=1)
    radius = CLOSING_MM
    dilated = _distance_mm(brain) < radius
    closed = _distance_mm(dilated) < -radius
    # Outside the closed brain lie two millimeters of CSF, then bone.
    outside_mm = np.clip(_distance_mm(closed) - 2, -CLIP_MM, CLIP_MM)

    x, y, z = _coordinates()
    deep = (outside_mm < -19) & (np.abs(x) < 42) & (z > -14) & (z < 34) & (y > -62) & (y < 42)
    hollow, _ = ndimage.label((tissue < 0.5) & deep)
    seeds = {hollow[_index((side * 5.0, 8.0, 18.0))] for side in (-1, 1)} - {0}
    third = (np.abs(x) < 3.5) & (np.abs(y + 12) < 12) & (np.abs(z + 1) < 8) & (tissue < 0.6)
    fourth = (_ellipsoid((0, -46, -34), (7, 5, 9)) < 1) & (tissue < 0.6)
    ventricles = np.isin(hollow, list(seeds)) | third | fourth
    ventricle_mm = np.clip(ndimage.gaussian_filter(_distance_mm(ventricles), 0.6), -CLIP_MM, CLIP_MM)

    maps = np.stack([grey.numpy(), white.numpy(), ventricle_mm, outside_mm, _base(outside_mm)])
    return Template(torch.from_numpy(maps.astype(np.float32)).to(device))


def _index(point_mm: tuple[float, float, float]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.round((np.array(point_mm) - LOW_MM) / VOXEL_MM))
