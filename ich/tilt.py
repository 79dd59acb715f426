"""Gantry tilt that a NIfTI header hides: a table step stored as if it were the distance between slices.

A tilted CT is a sheared stack: slices lie at an angle to the table, but move along it. Common converters
(those that take the distance between the first and the last slice origin as the extent of the stack) write
an orthogonal affine instead: rotated by the tilt, with the table step along the slice normal. The slices
are then too far apart by 1/cos(tilt), 15.5 % at 30 degrees, and so is every volume.
"""

import numpy as np

from ich.grid import slice_normal, tilt_between

MIN_TILT_DEG = 1.0
MAX_TILT_DEG = 35.0  # gantries tilt by at most 30 degrees
ISOTROPIC = 0.01  # difference of slice and pixel distance, as a share
OTHER_AXES_DEG = 0.1  # a gantry turns about the left-right axis alone
HALF_DEGREE_TOLERANCE_DEG = 0.02  # scanners set the tilt in steps of half a degree
NOMINAL_TOLERANCE_MM = 0.002
TILTED_NOMINAL_TOLERANCE_MM = 0.01
# Slice distances that head CT protocols use.
NOMINAL_MM = np.array(
    [
        0.5,
        0.6,
        0.625,
        0.75,
        0.8,
        1,
        1.2,
        1.25,
        1.5,
        2,
        2.4,
        2.5,
        3,
        3.6,
        3.75,
        4,
        4.5,
        4.8,
        5,
        6,
        7,
        7.5,
        8,
        9,
        10,
    ]
)


def table_step_correction(affine: np.ndarray) -> tuple[np.ndarray, float, tuple[str, ...]]:
    """The affine with slices where the scanner took them, the tilt in degrees, and what a report must say.

    The stored step is taken for the table step, and the third column turned to run along the table, if

    - the affine is orthogonal and turned about the left-right axis alone, by 1 to 35 degrees,
    - the stored step is *not* a distance that a scanner offers (within 0.002 mm), and
    - the angle is a multiple of half a degree (within 0.02), as gantries are set, or the step times
      cos(tilt) is a distance that a scanner offers (within 0.01 mm).

    A stored step that a scanner does offer is left alone: that is how a reformatted oblique stack looks,
    but also a tilted scan with a round table step, so the note gives both distances. A sheared affine says
    the truth already and only has its tilt read.

    Parameters
    ----------
    affine : (4, 4) voxel (i, j, k) -> RAS mm, I towards the left, J to the back, K to the head.
    """
    normal = slice_normal(affine)
    step = float(np.linalg.norm(affine[:3, 2]))
    direction = affine[:3, 2] / step
    if normal @ direction < np.cos(np.radians(0.2)):
        tilt = tilt_between(normal, direction)
        perpendicular = float(normal @ affine[:3, 2])
        note = (
            f"sheared affine: slices {step:.4g} mm apart along the table are {perpendicular:.4g} mm apart "
            f"along the slice normal (gantry tilt {tilt:.1f} degrees)"
        )
        return affine, tilt, (note,)
    if abs(step / np.linalg.norm(affine[:3, 0]) - 1) < ISOTROPIC:
        return affine, 0.0, ()  # resampled or reformatted: no scanner steps its table by a pixel
    angle = tilt_between(normal, np.array([0.0, 0.0, 1.0]))
    in_plane_turn = np.degrees(np.arccos(min(1.0, abs(affine[0, 0]) / np.linalg.norm(affine[:3, 0]))))
    if in_plane_turn > OTHER_AXES_DEG or not MIN_TILT_DEG <= abs(angle) <= MAX_TILT_DEG:
        return affine, 0.0, ()
    perpendicular = step * float(np.cos(np.radians(angle)))
    half_degrees = abs(angle * 2 - round(angle * 2)) / 2 <= HALF_DEGREE_TOLERANCE_DEG
    if not half_degrees and _off_nominal_mm(perpendicular) > TILTED_NOMINAL_TOLERANCE_MM:
        return affine, 0.0, ()
    if _off_nominal_mm(step) <= NOMINAL_TOLERANCE_MM:
        note = (
            f"slices are turned by {angle:.1f} degrees about the left-right axis and stored {step:.4g} mm "
            f"apart: taken for an oblique stack; if this is gantry tilt the distance is "
            f"{perpendicular:.4g} mm and volumes are {100 * (step / perpendicular - 1):.1f} % too large"
        )
        return affine, 0.0, (note,)
    turned = affine.copy()
    turned[:3, 2] = (0.0, 0.0, step)
    note = (
        f"header and slice normal disagree: the header stores slices {step:.4f} mm apart, which is the table "
        f"step at a gantry tilt of {angle:.1f} degrees; along the slice normal they are "
        f"{perpendicular:.4f} mm apart, and this distance is used"
    )
    return turned, angle, (note,)


def _off_nominal_mm(distance_mm: float) -> float:
    return float(np.min(np.abs(NOMINAL_MM - distance_mm)))
