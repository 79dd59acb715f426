"""Temperatures, reliability and conformal intervals against what they must be by construction."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit

from ich import calibration, model, validation
from ich.training_slices import Slices

SETTINGS = model.Settings(pixel_mm=4.0, size=16, channels=(4, 8), strides=(2,))


@pytest.mark.parametrize("true", [0.5, 1.0, 2.5])
def test_temperature_is_the_one_that_the_labels_were_drawn_with(true):
    random = torch.Generator().manual_seed(0)
    logit = torch.randn((8, 64, 64), generator=random) * 3
    blood = torch.rand(logit.shape, generator=random) < torch.sigmoid(logit / true)
    logits = torch.stack([torch.zeros_like(logit), logit, torch.full_like(logit, -1e3)], 1)
    assert calibration.fit_temperature(logits, blood) == pytest.approx(true, rel=0.06)


def test_temperature_of_a_split_without_blood_is_one():
    assert calibration.fit_temperature(torch.randn(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.bool)) == 1.0


def test_conformal_factor_is_an_order_statistic():
    # 9 cases, level 0.9: ceil(10 x 0.9) = 9th smallest of |error| / (uncertain + 0.5)
    found = calibration.volume_calibration(np.arange(2.0, 11.0), np.ones(9), np.full(9, 0.5), level=0.9)
    assert found["factor"] == 9
    assert found["n"] == 9
    few = calibration.volume_calibration(np.arange(2.0, 6.0), np.ones(4), np.zeros(4), level=0.9)
    assert few["factor"] is None
    assert calibration.volume_interval(5.0, 1.0, few) is None


def test_scans_of_one_patient_share_its_weight():
    # Four patients weigh 1/5 each, a in three scans: scores 2, 3, 4 and 5 reach 2/3, the others 4/5.
    error, patients = np.array([9.0, 9.0, 3.0, 2.0, 4.0, 5.0]), list("aaabcd")
    found = calibration.volume_calibration(error, error * 0, np.full(6, 0.5), 0.65, patients)
    assert (found["factor"], found["n"], found["n_patients"]) == (5.0, 6, 4)
    assert calibration.volume_calibration(error, error * 0, np.full(6, 0.5), 0.75, patients)["factor"] == 9.0
    assert calibration.volume_calibration(error, error * 0, np.full(6, 0.5), 0.85, patients)["factor"] is None
    with pytest.raises(ValueError, match="got 2 for 6 values"):
        calibration.volume_calibration(error, error * 0, error, patients=["a", "b"])


def test_weights_that_add_up_to_the_level_but_for_rounding_reach_it():
    # One patient with six scans: six sixths, which numbers add up to a little less than 1, of 1/2.
    error = np.arange(1.0, 7.0)
    assert calibration.volume_calibration(error, error * 0, np.full(6, 0.5), 0.5, ["a"] * 6)["factor"] == 6.0


def test_what_calibration_found_is_undone_where_it_chooses():
    found = replace(SETTINGS, temperature=2.0, smallest_ml=0.1)
    assert calibration.uncalibrated(found) == SETTINGS
    ruled = replace(found, certain_ml=1.0)  # the smallest volume was given, not chosen
    assert calibration.uncalibrated(ruled) == replace(ruled, temperature=1.0)


class Bright(torch.nn.Module):
    """Blood is where the brain window shows more than 50 HU: a logit of +-4."""

    def forward(self, image):
        logit = torch.where(image[:, :1] * 120 - 20 > 50, 4.0, -4.0)
        return torch.cat([torch.zeros_like(logit), logit, torch.full_like(logit, -30.0).expand(-1, 2, -1, -1)], 1)


def bright_slices(n):
    """Lesions of 25 pixels of 0.08 ml in each of n cases of a slice; the network finds two stray pixels beside them."""
    labels = torch.zeros((n, 16, 16), dtype=torch.uint8)
    labels[:, 4:9, 4:9] = 1
    hu = torch.where(labels > 0, 65, 35).to(torch.int16)
    hu[:, 13, 1:3] = 65
    return Slices(
        hu, labels, model.neighbor_index(n, 0)[:, [0]], torch.arange(n), torch.full((n,), 0.08),
        tuple(f"c{number}" for number in range(n)), labels.device,
    )  # fmt: skip


def test_calibration_reads_every_slice_and_measures_what_is_marked():
    """40 slices are more than fit at once; specks of 0.16 ml are not marked, so volumes are right, else 0.16 ml off."""
    plain = replace(SETTINGS, neighbors=0)
    settings, found = calibration.calibrate(Bright(), bright_slices(40), plain, level=0.5)
    # Right in 254 of 256 pixels of a slice, so the likeliest logit is log(254 / 2).
    assert settings.temperature == pytest.approx(4 / np.log(127), abs=2e-3)
    assert (found["n"], settings.smallest_ml, found["factor"]) == (40, 0.2, pytest.approx(0, abs=1e-6))
    ruled, marked = calibration.calibrate(Bright(), bright_slices(40), replace(plain, certain_ml=1e-9), level=0.5)
    assert ruled.smallest_ml == 0
    unsure = 0.08 * 256 * (127 / 128) * (1 / 128)
    assert marked["factor"] == pytest.approx(0.16 / (unsure + 0.5), rel=0.01)


def test_intervals_hold_for_new_patients_where_some_are_scanned_often():
    """Patients differ in how far the network is off, and those it is best at are scanned most: weighing scans alike
    would make intervals too narrow for the next patient (Lee, Barber & Willett)."""
    rng = np.random.default_rng(5)
    held: dict[bool, list] = {True: [], False: []}
    for _ in range(400):
        spread = rng.uniform(0.2, 3, 31)
        scans = np.where(spread < 1, 8, 1)
        error = [np.abs(rng.normal(0, each, n)) for each, n in zip(spread, scans, strict=True)]
        known, patients = np.concatenate(error[:-1]), np.repeat(np.arange(30), scans[:-1])
        for weighed in held:
            owner = patients if weighed else None
            factor = calibration.volume_calibration(known, known * 0, known * 0 + 0.5, 0.9, owner)["factor"]
            held[weighed].append(np.mean(error[-1] <= factor))
    assert 0.89 < np.mean(held[True]) < 0.94
    assert np.mean(held[False]) < 0.86


def test_interval_grows_with_doubt_and_ends_at_zero():
    known = {"level": 0.9, "n": 20, "factor": 2.0}
    assert calibration.volume_interval(10.0, 0.5, known) == (8.0, 12.0)
    assert calibration.volume_interval(10.0, 2.5, known) == (4.0, 16.0)
    assert calibration.volume_interval(1.0, 2.5, known) == (0.0, 7.0)


def test_intervals_hold_as_often_as_they_say():
    """Errors in proportion to the uncertain volume: 90 % intervals hold about 90 % of new cases (Lei et al. 2018)."""
    rng = np.random.default_rng(3)
    held = []
    for _ in range(300):
        doubt = rng.uniform(0, 4, 60)
        volume = rng.uniform(5, 60, 60)
        found = volume + rng.normal(0, 1, 60) * (doubt + 0.5)
        known = calibration.volume_calibration(volume[:40], found[:40], doubt[:40])
        for true, predicted, unsure in zip(volume[40:], found[40:], doubt[40:], strict=True):
            low, high = calibration.volume_interval(predicted, unsure, known)
            held.append(low <= true <= high)
    assert np.mean(held) == pytest.approx(0.9, abs=0.02)


def test_probabilities_that_are_right_have_no_calibration_error():
    rng = np.random.default_rng(1)
    p = expit(rng.normal(-1, 2, 200_000))
    right = calibration.reliability([calibration.count_bins(p, rng.random(p.size) < p)])
    assert right["n"].sum() == np.count_nonzero(p > 0.01)
    assert calibration.calibration_error(right) < 0.005
    twice = calibration.reliability([calibration.count_bins(p, rng.random(p.size) < p / 2)])
    expected = np.mean(p[p > 0.01] / 2)
    assert calibration.calibration_error(twice) == pytest.approx(expected, abs=0.005)


def test_bins_of_cases_add_up():
    first = calibration.count_bins(np.array([0.05, 0.95, 0.005]), np.array([False, True, True]))
    second = calibration.count_bins(np.array([0.97, 1.0]), np.array([True, False]))
    table = calibration.reliability([first, second])
    assert table["n"].tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 3]
    assert table["share"].iloc[-1] == pytest.approx(2 / 3)
    assert table["probability"].iloc[-1] == pytest.approx((0.95 + 0.97 + 1.0) / 3)
    assert np.isnan(table["share"].iloc[4])


def test_no_case_gives_an_empty_table():
    assert calibration.reliability([]).empty
    assert np.isnan(calibration.calibration_error(calibration.reliability([])))


@pytest.mark.parametrize(("speck_pixels", "wanted"), [(0, 0.0), (1, 0.1), (3, 0.2)])
def test_specks_that_cost_dice_on_validation_are_not_marked(speck_pixels, wanted):
    """A speck of 0.06 ml a pixel beside each lesion of 1.5 ml: the least volume that leaves it out is chosen."""
    labels = torch.zeros((4, 16, 16), dtype=torch.uint8)
    labels[:, 4:9, 4:9] = 1
    found = labels.clone()
    found[:, 13, 1 : 1 + speck_pixels] = 1
    slices = Slices(
        labels.short(), labels, model.neighbor_index(4, 0), torch.arange(4), torch.full((4,), 0.06), tuple("abcd"),
        labels.device,
    )  # fmt: skip
    assert calibration.choose_smallest(found.numpy(), slices) == wanted


def test_a_small_bleed_is_not_given_up_for_specks():
    labels = torch.zeros((3, 16, 16), dtype=torch.uint8)
    labels[:, 4:6, 4] = 1  # 0.12 ml
    found = labels.clone()
    found[:, 13, 1] = 1  # 0.06 ml
    slices = Slices(
        labels.short(), labels, model.neighbor_index(3, 0), torch.arange(3), torch.full((3,), 0.06), tuple("abc"),
        labels.device,
    )  # fmt: skip
    assert calibration.choose_smallest(found.numpy(), slices) == 0.1


def test_calibration_leaves_the_masks_alone_and_repeats_itself():
    torch.manual_seed(0)
    network = model.build_network(SETTINGS).eval()
    labels = torch.zeros((12, 16, 16), dtype=torch.uint8)
    labels[::2, 4:9, 4:9] = 1
    case = torch.arange(12) // 2
    slices = Slices(
        torch.where(labels > 0, 65, 35).to(torch.int16), labels, model.neighbor_index(12, 1), case,
        torch.full((12,), 0.08), tuple("abcdef"), labels.device,
    )  # fmt: skip
    settings, found = calibration.calibrate(network, slices, SETTINGS, level=0.5)
    again, same = calibration.calibrate(network, slices, settings, level=0.5)
    assert (again.temperature, same) == (settings.temperature, found)
    assert found["n"] == 6
    before = validation.predict_slices(network, slices, SETTINGS)
    assert torch.equal(before, validation.predict_slices(network, slices, settings))
    assert isinstance(calibration.reliability([calibration.count_bins(np.zeros(3), np.zeros(3, bool))]), pd.DataFrame)
