import csv

import nibabel as nib
import numpy as np
import pytest

from ich.scan import read_mask
from ich.tilt import table_step_correction


def turned(step_mm, angle_deg, spacing_mm=0.488281, about="x"):
    """Orthogonal affine, turned about one axis, I to the left, J to the back, K to the head."""
    c, s = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    turn = {"x": [[1, 0, 0], [0, c, -s], [0, s, c]], "z": [[c, -s, 0], [s, c, 0], [0, 0, 1]]}[about]
    affine = np.eye(4)
    affine[:3, :3] = np.array(turn) @ np.diag([-spacing_mm, -spacing_mm, step_mm])
    return affine


def turned_head(step_mm, angle_deg, turn_deg):
    """As `turned` about the left-right axis, of a head that looks aside by `turn_deg`."""
    c, s = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    return np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) @ turned(step_mm, angle_deg)


@pytest.mark.parametrize(
    ("step_mm", "angle_deg", "distance_mm"),
    [
        (5.2147417, 16.5, 5.0),
        (5.3925, 22.0, 5.0),
        (6.0759, -9.0, 6.001),
        (5.1009, 13.0, 4.9702),
        (4.4888, 9.5, 4.4273),
    ],
)
def test_table_step_becomes_distance_along_the_normal(step_mm, angle_deg, distance_mm):
    affine, tilt, notes = table_step_correction(turned(step_mm, angle_deg))
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    normal /= np.linalg.norm(normal)
    assert normal @ affine[:3, 2] == pytest.approx(distance_mm, abs=1e-3)
    assert affine[:3, 2].tolist() == pytest.approx([0, 0, step_mm])
    assert tilt == pytest.approx(angle_deg)
    assert f"{step_mm:.4f} mm" in notes[0]
    assert "header and slice normal disagree" in notes[0]


@pytest.mark.parametrize(
    "affine",
    [
        turned(5.0, 0),
        turned(5.2147417, 0.5),
        turned(5.2, 12.3),
        turned(5.2147417, 16.5, about="z"),
        turned_head(5.2147417, 16.5, 2.0),
        turned(5.2147417, 35.5),
        turned(0.488281, 15.0),  # cubes: reformatted
    ],
    ids=[
        "straight",
        "half a degree",
        "angle no gantry takes",
        "head turned",
        "tilted and turned",
        "steeper than a gantry",
        "cubes",
    ],
)
def test_other_stacks_stay_as_they_are(affine):
    after, tilt, notes = table_step_correction(affine)
    assert after is affine
    assert (tilt, notes) == (0.0, ())


def test_oblique_stack_of_usual_spacing_is_left_alone_and_told():
    affine = turned(6.0, 18.0)
    after, tilt, notes = table_step_correction(affine)
    assert after is affine
    assert tilt == 0.0
    assert "6 mm" in notes[0]
    assert "5.706 mm" in notes[0]
    assert "5.1 % too large" in notes[0]


@pytest.mark.parametrize(
    "step_mm", [0.6, 0.625, 0.75, 1, 1.25, 1.5, 2, 2.4, 2.5, 3, 3.75, 4, 4.5, 4.8, 5, 7, 7.5, 8, 10]
)
def test_distances_that_protocols_use_are_left_alone(step_mm):
    affine = turned(step_mm, 18.0)
    after, tilt, notes = table_step_correction(affine)
    assert after is affine
    assert tilt == 0.0
    assert "5.1 % too large" in notes[0]  # 1 / cos(18 degrees)


def test_sheared_affine_is_right_already():
    affine = turned(5.0, 14.0)
    affine[:3, 2] = (0, 0, 5.0)
    after, tilt, notes = table_step_correction(affine)
    assert after is affine
    assert tilt == pytest.approx(14.0)
    assert "5 mm apart along the table are 4.851 mm apart" in notes[0]


def test_real_masks_fall_into_three_clear_groups(shared_data):
    """258 masks: 164 tilted with a table step, 9 turned at a usual step, 85 straight, by their affines."""
    folder = shared_data / "masks" / "hemseg"
    names = [row["scan_id"] for row in csv.DictReader((folder / "scans.csv").read_text().splitlines())]
    corrected = left = straight = 0
    near = []
    for name in names:
        affine = nib.load(folder / f"{name}.nii.gz").affine
        after, tilt, notes = table_step_correction(affine)
        corrected += tilt != 0
        left += tilt == 0 and bool(notes)
        straight += not notes
        if tilt:
            normal = np.cross(after[:3, 0], after[:3, 1])
            near.append(abs(normal @ after[:3, 2]) / np.linalg.norm(normal))
    assert (corrected, left, straight) == (164, 9, 85)
    # All 164 pass by their half-degree angle; nothing made the corrected distance the 5 mm of protocols.
    assert np.median(np.abs(np.array(near) - 5)) < 0.02


def test_real_tilted_mask_loses_what_the_header_adds(shared_data):
    """02bb3e7d9d is tilted by 16.5 degrees: 1/cos is 1.0430."""
    path = shared_data / "masks" / "hemseg" / "02bb3e7d9d.nii.gz"
    labels, grid = read_mask(path)
    stored = nib.load(path)
    header_ml = np.count_nonzero(stored.dataobj) * np.prod(stored.header.get_zooms()) / 1000
    assert header_ml / grid.volume_ml(labels > 0) == pytest.approx(1.0430, abs=2e-4)
    assert grid.header_slice_spacing_mm == pytest.approx(5.2147417)
    assert grid.slice_spacing_mm == pytest.approx(5.0, abs=1e-4)
