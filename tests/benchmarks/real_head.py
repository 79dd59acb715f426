"""Blood of real shape in a real head: expert outlines of hematomas filled into the bleed-free head of a real scanner.

Brain, skull, noise and slices are real, and so is the shape of each hematoma; only its attenuation is made up. That is
nearer to patients than simulated heads are, and further from them than patients: a network never sees here what a
hematoma pushes aside, nor edema around it.
"""

import plistlib
import tarfile
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage

from ich.scan import Grid, Scan, read_scan

BRAIN_HU = (0, 60)
ACUTE_HU = (55.0, 75.0)  # mean attenuation of acute clots, hematocrit 35 to 50 %
MIN_INSIDE = 0.95  # of a hematoma's volume, within parenchyma
CSF_HU = 18  # and below: ventricles, sulci, the old infarct
TRIES = 200  # places in a slice


def invesalius_head(project: Path) -> Scan:
    """The head in InVesalius' example project Cranium.inv3, a real CT of 108 slices each 1.5 mm that does not bleed.

    It has an old defect in a frontal lobe. Debian ships it (`apt-get download invesalius-examples`), for any use under
    the GPL. A project is a tar of property lists and of a memory map of HU, from feet to head and back to front.
    """
    with tarfile.open(project) as files:
        inside = {Path(name).name: files.extractfile(name) for name in files.getnames()}
        settings = plistlib.loads(inside["main.plist"].read())
        hu = np.frombuffer(inside["matrix.dat"].read(), np.int16).reshape(settings["matrix"]["shape"])
    image = nib.Nifti1Image(hu.transpose(2, 1, 0), np.diag([*settings["spacing"], 1]) * [[-1], [1], [1], [1]])
    with tempfile.TemporaryDirectory() as folder:
        nib.save(image, Path(folder) / "head.nii.gz")
        return read_scan(Path(folder) / "head.nii.gz")


def brain(scan: Scan) -> np.ndarray:
    """(I, J, K) parenchyma: the largest soft thing that bone encloses, without CSF."""
    soft = ndimage.gaussian_filter(scan.hu.astype(np.float32), (2, 2, 0))
    apart = ndimage.binary_erosion((soft > BRAIN_HU[0]) & (soft < BRAIN_HU[1]), np.ones((3, 3, 1)), iterations=4)
    labeled, _ = ndimage.label(apart)
    largest = labeled == np.bincount(labeled.ravel())[1:].argmax() + 1
    closed = ndimage.binary_closing(largest, np.ones((3, 3, 1)), iterations=12)
    filled = np.stack([ndimage.binary_fill_holes(closed[..., k]) for k in range(closed.shape[2])], -1)
    return filled & (soft > CSF_HU)


@dataclass(frozen=True)
class Hematoma:
    """An outline on its own grid, made ready to be put into heads."""

    signed: dict[int, np.ndarray]  # (I, J) mm to the outline, positive inside, of each slice that shows it
    center: np.ndarray  # (3,) voxels, of mass
    grid: Grid


def hematoma(mask: np.ndarray, grid: Grid) -> Hematoma:
    """The hematoma of a mask (I, J, K)."""
    spacing = grid.spacing_mm[:2]
    signed = {
        int(k): (
            ndimage.distance_transform_edt(mask[..., k], spacing)
            - ndimage.distance_transform_edt(~mask[..., k], spacing)
        ).astype(np.float32)
        for k in np.flatnonzero(mask.any((0, 1)))
    }
    return Hematoma(signed, np.array(ndimage.center_of_mass(mask * grid.slice_weights_mm)), grid)


def shares(bleed: Hematoma, center_mm: np.ndarray, onto: Scan) -> np.ndarray:
    """(I, J, K) share of blood in each voxel of `onto` when the hematoma's center lies at `center_mm` of its slices.

    Both grids are taken by true distances: pixels within a slice, positions across slices. Between two slices of the
    mask its outline is interpolated by signed distance, as a hematoma goes on between slices.
    """
    grid, signed, at = bleed.grid, bleed.signed, bleed.center
    spacing, own = np.array(onto.grid.spacing_mm[:2]), np.array(grid.spacing_mm[:2])
    outside = np.full(grid.shape[:2], -20.0, np.float32)
    middle_mm = float(np.interp(at[2], np.arange(len(grid.positions_mm)), grid.positions_mm))
    found = np.zeros(onto.hu.shape, np.float32)
    for k, position in enumerate(np.asarray(onto.grid.positions_mm) - center_mm[2] + middle_mm):
        place = float(np.interp(position, grid.positions_mm, np.arange(len(grid.positions_mm)), left=-9, right=-9))
        low = int(np.floor(place))
        if place < 0 or not {low, low + 1} & set(signed):
            continue
        # The top and bottom of a hematoma lie half a slice beyond the last slice that shows it.
        level = (1 - place + low) * signed.get(low, outside) + (place - low) * signed.get(low + 1, outside)
        if {low, low + 1} <= set(signed):
            inside = level
        else:
            shown, part = (low, place - low) if low in signed else (low + 1, low + 1 - place)
            inside = signed[shown] if part <= 0.5 else outside
        offset = at[:2] - center_mm[:2] / own
        slice_share = np.clip(inside / own.mean() + 0.5, 0, 1)
        found[..., k] = ndimage.affine_transform(
            slice_share, spacing / own, offset, output_shape=onto.hu.shape[:2], order=1
        )
    return found


def with_blood(
    scan: Scan, inside: np.ndarray, mask: np.ndarray, grid: Grid, seed: int
) -> tuple[Scan, np.ndarray] | None:
    """The scan with the hematoma somewhere in its brain, and its mask; None where it fits nowhere."""
    rng = np.random.default_rng(seed)
    middle = np.array(scan.hu.shape[:2]) // 2
    bleed = hematoma(mask, grid)
    for k in rng.permutation(np.flatnonzero(inside.any((0, 1)))):
        center = np.array([*middle * scan.grid.spacing_mm[:2], scan.grid.positions_mm[k]])
        there = shares(bleed, center, scan)
        if not (there >= 0.5).any():
            continue
        box = ndimage.find_objects((there > 0).astype(int))[0]
        there = there[box]
        places = np.argwhere(inside[..., k])
        for shift in places[rng.integers(len(places), size=TRIES)] - middle:
            rows = [slice(part.start + by, part.stop + by) for part, by in zip(box[:2], shift, strict=True)]
            spot = (*rows, box[2])
            if min(rows[0].start, rows[1].start) < 0 or inside[spot].shape != there.shape:
                continue
            if there[inside[spot]].sum() >= MIN_INSIDE * there.sum():
                share = np.zeros(scan.hu.shape, np.float32)
                share[spot] = there
                return _filled(scan, share, rng), share >= 0.5
    return None


def _filled(scan: Scan, share: np.ndarray, rng: np.random.Generator) -> Scan:
    """The scan with a clot in place of that share of each voxel's brain; its noise stays, which is this scanner's."""
    hu = scan.hu.astype(np.float32)
    texture = ndimage.gaussian_filter(rng.standard_normal(hu.shape), (8, 8, 1))
    clot = rng.uniform(*ACUTE_HU) + 4 * texture / texture.std()
    filled = hu + share * (clot - ndimage.gaussian_filter(hu, (3, 3, 0)))
    return replace(scan, hu=filled.round().astype(scan.hu.dtype))


def outlines(masks: Path) -> list[tuple[str, Path]]:
    """(patient, mask) of the first scan of each patient; parenchymal ones only, as ventricles have their own shape."""
    table = pd.read_csv(masks / "scans.csv", dtype="str")
    first = table[table["dataset_label"] == "0"].groupby("patient_id", sort=True).head(1)
    return [(str(row.patient_id), masks / f"{row.scan_id}.nii.gz") for row in first.itertuples()]
