"""Varied cases are valid heads with visible blood, unlike the embedded cohort's, whose pixels they leave alone."""

from functools import cache

import numpy as np
import pytest
from scipy import ndimage

from ich import phantom, variety

SEED, SIZE = 8, 96
FROZEN = {"mean_hu": -448.116, "labels": [442101, 267, 0, 0], "row": [32, 32, 32, 39, 35, 37, 30, 26]}


@cache
def case(index):
    return variety.make_wide_case(SEED, index, SIZE)


@pytest.mark.parametrize("index", range(8))
def test_varied_case_is_a_head_ct(index):
    made = case(index)
    assert made.hu.shape == made.labels.shape == made.grid.shape
    assert made.hu.dtype == np.int16
    assert 6 <= made.hu.shape[2] <= variety.MOST_SLICES
    assert made.hu.min() >= -1024
    bone_ml = np.count_nonzero(made.hu > 250, axis=(0, 1)) @ made.grid.voxel_ml
    soft_ml = np.count_nonzero((made.hu > 10) & (made.hu < 90), axis=(0, 1)) @ made.grid.voxel_ml
    assert bone_ml > 40
    assert soft_ml > 150, "brain, even of a thin-slice part of a head"
    assert set(np.unique(made.labels)) <= {0, 1, 2, 3}


def test_labels_are_denser_than_the_brain_about_them():
    checked = 0
    for index in range(16):
        made = case(index)
        inside = made.labels > 0
        if np.count_nonzero(inside) < 60:
            continue
        checked += 1
        around = ndimage.binary_dilation(inside, iterations=4) & ~ndimage.binary_dilation(inside, iterations=2)
        around &= (made.hu > 0) & (made.hu < 150)
        assert np.median(made.hu[inside]) > np.median(made.hu[around]) + 4
        assert np.median(made.hu[inside]) < 115
    assert checked >= 5


def test_a_third_does_not_bleed_and_every_type_comes():
    maps = phantom.template("cpu")
    kinds = [variety.draw_wide_patient(np.random.default_rng(i), maps)[0] for i in range(12)]
    assert set(kinds) <= set(variety.TYPE_SHARES)
    assert variety.TYPE_SHARES["none"] >= 0.3
    assert sum(variety.TYPE_SHARES.values()) == pytest.approx(1)


def test_bloodless_cases_have_no_label():
    none = [made for made in map(case, range(16)) if made.hemorrhage_type == "none"]
    assert none
    assert not any(made.labels.any() for made in none)


def test_varied_case_repeats_itself():
    again = variety.make_wide_case(SEED, 1, SIZE)
    assert np.array_equal(again.hu, case(1).hu)
    assert np.array_equal(again.labels, case(1).labels)


def test_scanners_differ_more_than_those_of_the_embedded_cohort():
    scans = [variety.draw_wide_acquisition(np.random.default_rng(i)) for i in range(200)]
    steps = np.array([scan.grid().slice_spacing_mm for scan in scans])
    assert steps.min() < 2.5
    assert steps.max() > 7.9
    assert {len(scan.table_mm) <= variety.MOST_SLICES for scan in scans} == {True}
    turned = [abs(np.arctan2(scan.rotation[1, 0], scan.rotation[0, 0])) for scan in scans]
    assert np.degrees(max(turned)) > 15


def test_the_embedded_cohort_keeps_its_pixels():
    """Frozen before the varied cases were added; reports/demo is made of these pixels."""
    made = phantom.make_case(2019, 3, 128)
    assert made.hu.astype(float).mean() == pytest.approx(FROZEN["mean_hu"], abs=0.02)
    assert np.bincount(made.labels.ravel(), minlength=4).tolist() == pytest.approx(FROZEN["labels"], abs=3)
    row = made.hu[64, 40:48, 14].tolist()
    assert row == pytest.approx(FROZEN["row"], abs=1)


def test_slices_can_be_asked_to_be_thin():
    made = variety.make_wide_case(SEED, 1, SIZE, step_mm=2.0)
    assert np.diff(made.grid.positions_mm) == pytest.approx(2.0)
    assert 60 <= made.hu.shape[2] <= 66  # through 13 cm


def test_thin_slices_are_as_noisy_as_few_photons_make_them():
    rng = np.random.default_rng(3)
    acquisition, quality = variety.draw_wide_acquisition(rng, SIZE), variety.draw_quality(rng)
    (_, thin), (_, thick) = (variety.in_steps(acquisition, quality, step) for step in (1.25, 5.0))
    assert thick.noise_hu == min(quality.noise_hu, 4.5)
    assert thin.noise_hu == pytest.approx(2 * thick.noise_hu)
