"""What the sliders of 03 and 04 show, without a browser."""

import numpy as np
import pandas as pd
import pytest

from ich.calibration import count_bins
from ich.grid import Grid
from ich.scan import write_mask
from ich.sliders import dice_at, dice_without_specks, smallest_component, threshold, volume_groups


@pytest.fixture
def case(tmp_path):
    """Reference of 64 voxels; the prediction has them and a speck of 8 voxels, 0.04 ml, apart."""
    grid = Grid((30, 30, 4), (1.0, 1.0), np.arange(4) * 5.0, np.diag([-1.0, -1, 5, 1]), 0.0, 5.0)
    reference = np.zeros(grid.shape, np.uint8)
    reference[5:13, 5:13, 1] = 1
    predicted = reference.copy()
    predicted[20:24, 20:22, 2] = 1
    write_mask(tmp_path / "reference.nii.gz", reference, grid)
    write_mask(tmp_path / "predicted.nii.gz", predicted, grid)
    rows = [("a", "reference.nii.gz", "predicted.nii.gz", "parenchymal"), ("b", "reference.nii.gz", None, None)]
    return pd.DataFrame(rows, columns=["case_id", "reference_mask", "prediction", "hemorrhage_type"]), tmp_path


@pytest.mark.parametrize(
    ("smallest", "dice"), [(0, 2 * 64 / (64 + 72)), (0.039, 2 * 64 / (64 + 72)), (0.041, 1.0), (5, 0)]
)
def test_specks_are_left_out_of_dice(case, smallest, dice):
    found = dice_without_specks(*case, smallest)
    assert found.to_dict() == {"a": pytest.approx(dice)}


def test_moving_the_smallest_component_fills_the_table(case):
    smallest, table = smallest_component(*case).children
    assert "Move the slider" in table.value
    smallest.value = 0.05
    assert "<td>1.0</td>" in table.value
    assert "all" in table.value


def probabilities():
    """Of 64 blood voxels 40 have 0.85, 20 have 0.45 and 4 have 0; 10 others have 0.65."""
    probability, blood = np.zeros((30, 30, 4), np.float16), np.zeros((30, 30, 4), bool)
    blood[5:13, 5:13, 1] = True
    probability[5:10, 5:13, 1] = 0.85
    probability[10:12, 5:13, 1] = 0.45
    probability[12, 5:9, 1] = 0.45
    probability[20:22, 20:25, 1] = 0.65
    return count_bins(probability, blood).assign(case_id="a")


@pytest.mark.parametrize(
    ("at", "dice"), [(0.1, 2 * 60 / (70 + 64)), (0.5, 2 * 40 / (50 + 64)), (0.7, 2 * 40 / (40 + 64)), (0.9, 0)]
)
def test_dice_follows_the_threshold(at, dice):
    assert dice_at(probabilities(), {"a": 64}, at).to_dict() == {"a": pytest.approx(dice)}


def test_moving_the_threshold_fills_the_table(case):
    at, table = threshold(*case, [probabilities()]).children
    assert "Move the slider" in table.value
    at.value = 0.7
    assert "<td>0.769</td>" in table.value
    at, table = threshold(*case, []).children
    assert at.disabled


def test_moving_the_edges_draws_again():
    rng = np.random.default_rng(0)
    reference = rng.uniform(1, 60, 30)
    cases = pd.DataFrame({"reference_ml": reference, "network_ml": reference + 1, "patient_id": range(30)})
    edges, picture = volume_groups(cases, ["network_ml"], {"network_ml": "network"}, True).children
    before = bytes(picture.value)
    assert before.startswith(b"\x89PNG")
    edges.value = (10, 30)
    assert bytes(picture.value) != before
