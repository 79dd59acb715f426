"""Simulated cases are plausible, repeat themselves and do not depend on how many others there are."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch

from ich import phantom
from ich.scan import read_mask, read_scan

SIZE = 128


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As the workers render: one thread sums in one order, so that HU are equal to the last digit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    yield
    torch.set_flush_denormal(False)
    torch.set_num_threads(before)


@cache
def case(index, seed=2019):
    return phantom.make_case(seed, index, SIZE)


@pytest.mark.parametrize("index", range(12))
def test_case_is_a_plausible_head_ct(index):
    made = case(index)
    assert made.hu.shape == made.labels.shape == made.second_reader.shape == made.grid.shape
    assert made.hu.dtype == np.int16
    assert 22 <= made.hu.shape[2] <= 36
    voxel_ml = made.grid.voxel_ml
    brain_ml = np.count_nonzero((made.hu > 0) & (made.hu < 90), axis=(0, 1)) @ voxel_ml
    assert 1100 < brain_ml < 3200, "brain and soft tissue of an adult head"
    bone_ml = np.count_nonzero(made.hu > 300, axis=(0, 1)) @ voxel_ml
    assert 300 < bone_ml < 1400
    assert (made.hu[:3] < -900).all(), "air beside the head"


@pytest.mark.parametrize("index", range(12))
def test_labels_are_visible_blood(index):
    made = case(index)
    for label in np.unique(made.labels)[1:]:
        inside = made.hu[made.labels == label]
        assert 42 <= np.median(inside) <= 95  # HU of acute blood after blur and partial volume
    true = sum(made.true_volume_ml.values())
    outlined = made.grid.volume_ml(made.labels > 0)
    assert outlined == pytest.approx(true, rel=0.35, abs=1.0)
    second = made.grid.volume_ml(made.second_reader > 0)
    assert second == pytest.approx(outlined, rel=0.5, abs=1.5)


def test_outlines_of_hematomas_are_unbiased():
    pairs = [
        (sum(made.true_volume_ml.values()), made.grid.volume_ml(made.labels > 0))
        for made in map(case, range(24))
        if made.hemorrhage_type == "parenchymal"
    ]
    true, outlined = np.array(pairs).T
    assert len(true) >= 8
    assert np.median(outlined / true) == pytest.approx(1, abs=0.06)


def test_case_repeats_itself():
    again = phantom.make_case(2019, 3, SIZE)
    assert np.array_equal(again.hu, case(3).hu)
    assert np.array_equal(again.second_reader, case(3).second_reader)
    assert not np.array_equal(phantom.make_case(2020, 3, SIZE).hu[:, :, :20], case(3).hu[:, :, :20])


def test_case_does_not_depend_on_the_size_of_the_cohort(tmp_path):
    phantom.write_cohort(tmp_path / "a", 2, 2019, SIZE, jobs=1)
    scan = read_scan(tmp_path / "a" / "images" / "phantom-0001.nii.gz")
    assert np.array_equal(scan.hu, case(1).hu)
    labels, grid = read_mask(tmp_path / "a" / "masks" / "phantom-0001.nii.gz")
    assert np.array_equal(labels, case(1).labels)
    assert grid.positions_mm == pytest.approx(case(1).grid.positions_mm)
    assert grid.tilt_deg == pytest.approx(case(1).grid.tilt_deg)


def test_written_cases_are_kept(tmp_path):
    first = phantom.write_cohort(tmp_path, 1, 2019, SIZE, jobs=1)
    image = tmp_path / "images" / "phantom-0000.nii.gz"
    stamp = image.stat().st_mtime_ns
    pd.testing.assert_frame_equal(first, phantom.write_cohort(tmp_path, 1, 2019, SIZE, jobs=1))
    assert image.stat().st_mtime_ns == stamp
    phantom.write_cohort(tmp_path, 1, 2018, SIZE, jobs=1)
    assert image.stat().st_mtime_ns != stamp


def test_follow_up_is_the_same_patient_later():
    first, later = case(6), case(7)
    assert first.patient_id == later.patient_id
    assert first.hemorrhage_type == later.hemorrhage_type
    assert first.scan_date < later.scan_date
    assert case(5).patient_id != first.patient_id


def test_all_types_and_tilts_occur():
    made = [case(index) for index in range(24)]
    assert {m.hemorrhage_type for m in made} == {"parenchymal", "ventricular", "subarachnoid", "mixed"}
    tilts = [m.grid.tilt_deg for m in made]
    assert min(tilts) < 0 < max(tilts)
    assert 0 in tilts


def test_tilted_slices_lie_closer_than_the_table_moves():
    made = next(m for m in map(case, range(24)) if abs(m.grid.tilt_deg) > 8 and m.grid.uniform)
    expected = made.grid.header_slice_spacing_mm * np.cos(np.radians(made.grid.tilt_deg))
    assert made.grid.slice_spacing_mm == pytest.approx(expected)
