"""Every check, on simulated scans that one fault at a time was put into, and on real ones."""

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from ich.grid import Scan
from ich.hounsfield import floor_padding, value_kind
from ich.phantom import make_case
from ich.quality import EXCLUDING, QualityLimits, block_mean, check_quality, checks, limits_from
from ich.scan import read_scan


@pytest.fixture(scope="module")
def healthy():
    """A parenchymal case with its back inside the picture: scan and labels."""
    case = make_case(2019, 0, size=128)
    return Scan(case.grid, case.hu, "nifti"), case.labels


def with_hu(scan: Scan, hu: np.ndarray) -> Scan:
    kind, notes = value_kind(hu)
    return Scan(scan.grid, hu.astype(np.float32), "nifti", kind, notes)


def flags(scan: Scan, labels: np.ndarray) -> set[str]:
    return set(check_quality(scan, labels).flags)


def test_a_sound_case_has_every_column_and_no_flag(healthy):
    found = check_quality(*healthy)
    assert found.flags == {}
    assert all(np.isfinite(value) for value in found.row.values())
    assert 1000 < found.row["intracranial_ml"] < 2000
    assert 45 < found.row["mask_hu"] < 90
    # Dense bone and air of the base are some ten to some hundred ml, and lie in the lower half.
    assert 10 < found.row["base_lower_ml"] < 500
    assert found.row["base_upper_ml"] < found.row["base_lower_ml"]
    scan, labels = healthy
    taller = replace(scan, grid=replace(scan.grid, positions_mm=1.5 * scan.grid.positions_mm))
    assert check_quality(taller, labels).row["base_lower_ml"] == pytest.approx(1.5 * found.row["base_lower_ml"])


def test_the_real_head_has_no_flag(shared_data):
    scan = read_scan(shared_data / "dicom" / "ge_head")
    assert flags(scan, np.zeros(scan.hu.shape, np.uint8)) == set()


def test_the_plastic_phantom_is_no_head(shared_data):
    scan = read_scan(shared_data / "dicom" / "philips_phantom_5mm")
    assert flags(scan, np.zeros(scan.hu.shape, np.uint8)) == {"head"}


@pytest.mark.parametrize(
    "values", [lambda hu: hu + 1024, lambda hu: np.clip(hu * 2 + 20, 0, 255)], ids=["shifted", "gray levels"]
)
def test_values_that_are_no_hounsfield_units(healthy, values):
    scan, labels = healthy
    assert flags(with_hu(scan, values(np.maximum(scan.hu, -1024))), labels) == {"values"}


@pytest.mark.parametrize("axis", [1, 2], ids=["front and back", "head and feet"])
def test_a_head_the_wrong_way_round(healthy, axis):
    scan, labels = healthy
    found = check_quality(with_hu(scan, np.flip(scan.hu, axis)), np.flip(labels, axis))
    assert "orientation" in found.flags
    assert ("front and back" if axis == 1 else "head and feet") in found.flags["orientation"]


def test_a_head_lying_on_its_side(healthy):
    scan, labels = healthy
    found = check_quality(with_hu(scan, np.swapaxes(scan.hu, 0, 1)), np.swapaxes(labels, 0, 1))
    assert "wide" in found.flags["orientation"]


def part(scan: Scan, labels: np.ndarray, slices: slice) -> tuple[Scan, np.ndarray]:
    grid = scan.grid
    shape = (*grid.shape[:2], len(range(*slices.indices(grid.shape[2]))))
    smaller = replace(grid, shape=shape, positions_mm=grid.positions_mm[slices])
    return Scan(smaller, scan.hu[:, :, slices], "nifti"), labels[:, :, slices]


def test_missing_base_and_vertex(healthy):
    scan, labels = healthy
    n = scan.hu.shape[2]
    assert "skull base" in check_quality(*part(scan, labels, slice(n // 2, None))).flags["coverage"]
    assert "vertex" in check_quality(*part(scan, labels, slice(0, n * 2 // 3))).flags["coverage"]


def test_a_head_cut_by_the_picture(healthy):
    scan, labels = healthy
    assert "field_of_view" in flags(with_hu(scan, np.roll(scan.hu, 40, axis=0)), labels)


def test_enhanced_vessels(healthy):
    scan, labels = healthy
    hu = scan.hu.copy()
    middle = [n // 2 for n in hu.shape]
    step = scan.grid.spacing_mm[0]
    radius = round(8 / step)  # columns of 16 mm by 16 mm by 50 mm: 13 ml
    hu[
        middle[0] - radius : middle[0] + radius, middle[1] - radius : middle[1] + radius, middle[2] - 5 : middle[2] + 5
    ] = 180
    found = check_quality(with_hu(scan, hu), labels)
    assert "contrast" in found.flags
    assert middle[2] - 5 <= found.slices["contrast"] < middle[2] + 5


def test_what_reading_told_but_not_padding(healthy):
    scan, labels = healthy
    agent = "the header names a contrast agent: vessels may look like blood"
    padding = floor_padding(np.array([-2000.0, 30.0]))[1]
    found = check_quality(replace(scan, notes=(*padding, agent)), labels)
    assert found.flags == {"reading": agent}
    assert not check_quality(replace(scan, notes=padding), labels).flags


def test_metal(healthy):
    scan, labels = healthy
    hu = scan.hu.copy()
    hu[60:64, 60:64, 10:14] = 3071
    found = check_quality(with_hu(scan, hu), np.zeros_like(labels))
    assert set(found.flags) == {"metal"}
    assert 10 <= found.slices["metal"] < 14
    i, j = scan.grid.spacing_mm
    ml = 16 * i * j * scan.grid.slice_weights_mm[10:14].sum() / 1000
    assert found.row["metal_ml"] == pytest.approx(ml)
    wider = with_hu(replace(scan, grid=replace(scan.grid, spacing_mm=(i, 1.25 * j))), hu)
    assert check_quality(wider, np.zeros_like(labels)).row["metal_ml"] == pytest.approx(1.25 * ml)


def test_a_slice_that_moved_and_stripes(healthy):
    scan, labels = healthy
    k = scan.hu.shape[2] // 2
    moved = scan.hu.copy()
    moved[:, :, k] = np.roll(moved[:, :, k], round(9 / scan.grid.spacing_mm[0]), axis=0)
    found = check_quality(with_hu(scan, moved), np.zeros_like(labels))
    assert set(found.flags) == {"motion"}
    assert found.slices["motion"] == k
    stripes = 150 * np.sin(np.arange(scan.hu.shape[0]) * 0.8)[:, None]
    striped = scan.hu.copy()
    striped[:, :, k] = np.maximum(striped[:, :, k] + stripes, -1024)
    assert "stripes" in check_quality(with_hu(scan, striped), np.zeros_like(labels)).flags["motion"]


def test_thick_slices_and_a_gap(healthy):
    scan, labels = healthy
    thick = replace(scan.grid, positions_mm=scan.grid.positions_mm * 8 / scan.grid.slice_spacing_mm)
    assert "slices" in flags(replace(scan, grid=thick), labels)
    positions = np.arange(scan.grid.shape[2]) * 3.0
    positions[10:] += 3.0
    found = check_quality(replace(scan, grid=replace(scan.grid, positions_mm=positions)), labels)
    assert "after slice 10" in found.flags["slices"]


@pytest.mark.parametrize(("step", "after"), [(0, 1), (-1, -1)], ids=["first", "last"])
def test_a_gap_at_either_end(healthy, step, after):
    scan, labels = healthy
    steps = np.full(scan.grid.shape[2] - 1, 3.0)
    steps[step] = 6.0
    grid = replace(scan.grid, positions_mm=np.concatenate([[0], np.cumsum(steps)]))
    expected = after if after > 0 else len(steps)
    assert f"gap of 6.0 mm after slice {expected}:" in check_quality(replace(scan, grid=grid), labels).flags["slices"]


def test_two_spacings_are_routine(healthy):
    scan, labels = healthy
    n = scan.grid.shape[2]
    steps = np.where(np.arange(n - 1) < n // 2, 3.5, 7.0)
    grid = replace(scan.grid, positions_mm=np.concatenate([[0], np.cumsum(steps)]))
    assert "slices" not in flags(replace(scan, grid=grid), labels)


def test_mask_moved_mirrored_outside_and_of_the_wrong_tissue(healthy):
    scan, labels = healthy
    moved = check_quality(scan, np.roll(labels, 7, axis=0))
    assert "when moved" in moved.flags["mask_shifted"]
    assert moved.row["mask_shift_mm"] == pytest.approx(7 * scan.grid.spacing_mm[0], abs=0.1)
    near = check_quality(
        scan, np.roll(labels, 7, axis=0), limits=QualityLimits(shift_mm=moved.row["mask_shift_mm"] + 1)
    )
    assert "mask_shifted" not in near.flags
    assert "left to right" in check_quality(scan, np.flip(labels, 0)).flags["mask_shifted"]
    corner = np.zeros_like(labels)
    corner[2:12, 2:12, 8:12] = 1
    assert {"mask_outside", "mask_hu", "mask_bone"} <= flags(scan, corner)
    ring = ndimage.binary_dilation(scan.hu > 900) & (scan.hu > 300)
    assert "mask_bone" in flags(scan, ring.astype(np.uint8))


def test_a_mask_in_the_last_row_alone_lies_outside(healthy):
    """Of 127 rows the last are no whole block: nothing of the mask is left on the coarse picture."""
    scan, _ = healthy
    cut = replace(scan, hu=scan.hu[:127], grid=replace(scan.grid, shape=(127, *scan.grid.shape[1:])))
    labels = np.zeros(cut.hu.shape, np.uint8)
    labels[-1, 40:60, 10] = 1
    found = check_quality(cut, labels)
    assert found.row["mask_outside_percent"] == pytest.approx(100)
    assert "mask_outside" in found.flags


def test_limits_and_excluding_checks_are_stated():
    table = checks(("metal",), QualityLimits(metal_ml=2))
    assert "over 2 ml of more than 2500 HU" in table.set_index("check").loc["metal", "flagged when"]
    assert table.set_index("check")["excludes"].to_dict()["metal"]
    assert table["excludes"].sum() == 1
    assert set(EXCLUDING) < set(table["check"])
    with pytest.raises(ValueError, match="no check metall; there are values"):
        checks(("metall",))


def test_block_mean_is_the_mean_of_blocks():
    values = np.random.default_rng(0).normal(size=(7, 8, 3)).astype(np.float32)
    expected = values[:6, :8].reshape(2, 3, 4, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(block_mean(values, (3, 2)), expected, rtol=1e-5, atol=1e-6)


def test_limits_of_a_study_are_named_in_a_text():
    assert limits_from("") == QualityLimits()
    assert limits_from(" slice_mm=10, mask_high_hu=1e2 ") == QualityLimits(slice_mm=10, mask_high_hu=100)
    table = checks(limits=limits_from("slice_mm=10")).set_index("check")
    assert table.loc["slices", "limits"] == "slice_mm=10, gap=1.9"
    assert "slices over 10 mm apart" in table.loc["slices", "flagged when"]


@pytest.mark.parametrize(
    ("text", "said"),
    [("slices=10", "no limit 'slices'; there are head_ml, wide"), ("slice_mm", "'slice_mm', wanted slice_mm=NUMBER"),
     ("slice_mm=wide", "wanted slice_mm=NUMBER"), ("slice_mm=nan", "wanted a number")],
)  # fmt: skip
def test_limits_that_are_none_are_named(text, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        limits_from(text)
