"""Where the voxels of a head CT lie, and what each slice weighs in a volume."""

from dataclasses import dataclass, replace

import numpy as np

UNIFORM_TOLERANCE_MM = 0.02  # DICOM positions are often rounded to 0.01 mm
SAME_PLACE_MM = 0.1  # between a scan and a mask drawn on it: their files round differently


LEAST_SHEAR = 1e-3  # 0.06 degrees: below it, the rounding of a file
MIN_NORMAL_Z = 0.8  # slices up to 37 degrees from the axial plane; gantries tilt by at most 30
MAX_VOXELS = 2**28  # of one scan: 1,024 slices of 512 x 512


class ScanError(ValueError):
    """A scan or mask that cannot be used; the message names the file, what was found and what was wanted."""


def slice_weights_mm(positions_mm: np.ndarray, thickness_mm: float | None = None) -> np.ndarray:
    """Extent of tissue that each slice stands for: half the distance to both neighbors.

    An end slice has one neighbor and takes that distance whole, so that K uniform slices weigh K spacings.

    Parameters
    ----------
    positions_mm : (K,) strictly ascending positions along the slice normal, mm.
    thickness_mm : weight of a slice that stands alone, mm; needed for K = 1 only.

    Returns
    -------
    (K,) float64 weights, mm.

    Raises
    ------
    ScanError : positions do not ascend, or a single slice comes without a thickness.
    """
    positions = np.asarray(positions_mm, dtype=np.float64)
    if positions.ndim != 1 or positions.size == 0:
        raise ScanError(f"positions_mm: got shape {positions.shape}, wanted (K,) with at least one slice")
    if positions.size == 1:
        if thickness_mm is None or not thickness_mm > 0:
            raise ScanError("one slice alone has no neighbor: its thickness_mm is needed to give it a volume")
        return np.array([float(thickness_mm)])
    steps = np.diff(positions)
    if not np.all(steps > 0):
        raise ScanError(f"positions_mm: smallest step is {steps.min():g} mm, wanted strictly ascending positions")
    ends = np.concatenate([steps[:1], steps, steps[-1:]])
    return (ends[:-1] + ends[1:]) / 2


def orient(affine: np.ndarray, shape: tuple[int, ...], slice_axis: int | None = None):
    """Axes and flips that turn a stored array into (I, J, K): I to the left, J to the back, K to the head.

    Parameters
    ----------
    affine : (4, 4) stored voxel -> RAS mm.
    shape : stored shape, three axes.
    slice_axis : which stored axis runs across slices; found from the spacing when not given: the coarsest
        axis if it is over 1.5 times the next, else the axis closest to the patient's long axis.

    Returns
    -------
    axes : stored axis that becomes I, J and K.
    flips : whether I, J and K run against it.
    turned : (4, 4) affine of the (I, J, K) array.
    """
    columns = affine[:3, :3]
    spacing = np.linalg.norm(columns, axis=0)
    cosines = np.abs(columns / spacing)
    if slice_axis is None:
        fine, coarse = np.argsort(spacing)[1:]
        slice_axis = int(coarse) if spacing[coarse] > 1.5 * spacing[fine] else int(np.argmax(cosines[2]))
    i, j = (a for a in range(3) if a != slice_axis)
    if cosines[0, i] + cosines[1, j] < cosines[0, j] + cosines[1, i]:
        i, j = j, i
    axes = (i, j, slice_axis)
    towards = columns[:, axes]
    # A coronal or sagittal stack has no K along the head; its own largest component decides then.
    main_k = 2 if abs(towards[2, 2]) > 0.5 * spacing[slice_axis] else int(np.argmax(np.abs(towards[:, 2])))
    main_j = 1 if abs(towards[1, 1]) > 0.5 * spacing[j] else int(np.argmax(np.abs(towards[:, 1])))
    ras_sign = (-1, -1, 1)
    flips = tuple(bool(towards[row, n] * ras_sign[row] < 0) for n, row in enumerate((0, main_j, main_k)))
    turned = affine.astype(np.float64)
    for n, (axis, flip) in enumerate(zip(axes, flips, strict=True)):
        turned[:3, n] = -affine[:3, axis] if flip else affine[:3, axis]
        if flip:
            turned[:3, 3] += affine[:3, axis] * (shape[axis] - 1)
    return axes, flips, turned


def flipped(array: np.ndarray, flips: tuple[bool, ...]) -> np.ndarray:
    """A view of the array, the axes that `flips` names run the other way."""
    return array[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]


def slice_normal(affine: np.ndarray) -> np.ndarray:
    """Unit vector across the slices of an (I, J, K) affine, in RAS, on the side of ascending K."""
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    return normal / np.linalg.norm(normal) * np.copysign(1.0, normal @ affine[:3, 2])


def tilt_between(normal: np.ndarray, direction: np.ndarray) -> float:
    """Gantry tilt from geometry, degrees: angle about the left-right axis from table travel to slice normal.

    Positive where the front of a slice lies further towards the head than its back. Both vectors in RAS.
    """
    angle = np.degrees(np.arctan2(-normal[1], normal[2]) - np.arctan2(-direction[1], direction[2]))
    tilt = float((angle + 180) % 360 - 180)
    return 0.0 if abs(tilt) < 0.05 else tilt


def describe_steps(steps_mm: np.ndarray) -> str:
    """Slice distances in order, runs of equal ones counted: '4.00 mm (13), 1.08 mm (1), 7.00 mm (13)'."""
    runs: list[list[float]] = []
    for step in steps_mm:
        if runs and abs(runs[-1][0] - step) <= UNIFORM_TOLERANCE_MM:
            runs[-1].append(step)
        else:
            runs.append([step])
    shown = [f"{np.mean(run):.2f} mm ({len(run)})" for run in runs[:6]]
    return ", ".join(shown) + (f" and {len(runs) - 6} more runs" if len(runs) > 6 else "")


@dataclass(frozen=True)
class Native:
    """How a NIfTI file stores the array that a `Grid` describes as (I, J, K)."""

    axes: tuple[int, int, int]  # the file's axis that became I, J and K
    flips: tuple[bool, bool, bool]  # whether I, J and K run against the file's axis
    header: bytes  # the file's NIfTI header block, so that a mask carries exactly the same affine


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels of a scan lie. Array axes (I, J, K): I, J in the acquisition plane, K across slices.

    I runs towards the patient's left, J towards the back, K towards the head, as closely as the
    acquisition allows; slices are never resampled.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float]  # between voxel centers along I and J
    positions_mm: np.ndarray  # (K,) ascending, along the slice normal: tilt is already taken into account
    affine: np.ndarray  # (4, 4) voxel (i, j, k) -> RAS mm; exact for uniform slices, mean step otherwise
    tilt_deg: float = 0.0  # gantry tilt, signed
    header_slice_spacing_mm: float = float("nan")  # what the file's header claims
    notes: tuple[str, ...] = ()  # what a report must say about this geometry
    native: Native | None = None  # None: the file order is (I, J, K) itself

    @property
    def steps_mm(self) -> np.ndarray:
        """Perpendicular distances between neighboring slices, (K - 1,) mm."""
        return np.diff(self.positions_mm)

    @property
    def slice_spacing_mm(self) -> float:
        """Median perpendicular slice distance, mm; the header's for a single slice."""
        return float(np.median(self.steps_mm)) if self.shape[2] > 1 else float(self.header_slice_spacing_mm)

    @property
    def uniform(self) -> bool:
        """Whether all slice distances agree within 0.02 mm."""
        return self.shape[2] < 3 or float(np.ptp(self.steps_mm)) <= UNIFORM_TOLERANCE_MM

    @property
    def shear(self) -> tuple[float, float]:
        """How far slices move along I and J per mm along their normal, as a tilted gantry makes them."""
        rows, columns, across = self.affine[:3, :3].T
        height = across @ slice_normal(self.affine)
        moved = [float(across @ axis / np.linalg.norm(axis) / height) for axis in (rows, columns)]
        along_i, along_j = (0.0 if abs(each) < LEAST_SHEAR else each for each in moved)
        return along_i, along_j

    @property
    def slice_weights_mm(self) -> np.ndarray:
        """Extent each slice stands for, (K,) mm."""
        return slice_weights_mm(self.positions_mm, self.header_slice_spacing_mm)

    @property
    def voxel_ml(self) -> np.ndarray:
        """Volume of one voxel of each slice, (K,) ml."""
        return self.spacing_mm[0] * self.spacing_mm[1] * self.slice_weights_mm / 1000

    def volume_ml(self, mask: np.ndarray) -> float:
        """Volume of a boolean mask (I, J, K), ml; 0.0 if it is empty."""
        if mask.shape != self.shape:
            raise ScanError(f"mask shape {mask.shape} differs from grid {self.shape}")
        counts = [np.count_nonzero(mask[:, :, k]) for k in range(self.shape[2])]
        return float(np.dot(counts, self.voxel_ml))


@dataclass(frozen=True, eq=False)
class Scan:
    """One head CT: Hounsfield units on its own grid."""

    grid: Grid
    hu: np.ndarray  # (I, J, K) int16 where that is exact, float32 otherwise
    source: str  # "nifti" or "dicom"
    kind: str = "hu"  # what the values look like: "hu", "shifted" (by 1024) or "display" (0-255 gray levels)
    notes: tuple[str, ...] = ()  # what a report must say about the values


def check_same_grid(case_id: str, a: Grid, b: Grid, tolerance_mm: float = SAME_PLACE_MM) -> None:
    """Return silently if two grids put every voxel at the same place within `tolerance_mm`.

    Raises
    ------
    ScanError : naming the case and both shapes or affines.
    """
    if a.shape != b.shape:
        raise ScanError(f"case {case_id}: shape {a.shape} of the scan differs from {b.shape} of the mask")
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * [
        *(n - 1 for n in a.shape),
        1,
    ]
    apart = np.linalg.norm(corners @ (a.affine - b.affine).T, axis=1).max()
    if apart > tolerance_mm:
        raise ScanError(
            f"case {case_id}: affines differ by up to {apart:.2f} mm in a corner, wanted at most "
            f"{tolerance_mm} mm; "
            f"scan {np.round(a.affine[:3], 3).tolist()}, mask {np.round(b.affine[:3], 3).tolist()}"
        )


def as_acquired(mask: Grid, scan: Grid) -> Grid:
    """The grid of a mask that lies on the scan's by `check_same_grid`, with the scan's slices.

    An affine holds one slice distance: a NIfTI mask drawn on slices 4 mm, then 7 mm apart claims their mean throughout.
    """
    off = np.abs((mask.positions_mm - mask.positions_mm[0]) - (scan.positions_mm - scan.positions_mm[0])).max()
    if off <= SAME_PLACE_MM:
        return mask
    note = f"slices lie up to {off:.1f} mm from where the mask's affine has them: those of the scan are used"
    return replace(scan, native=mask.native, notes=(*scan.notes, note))
