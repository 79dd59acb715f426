"""The recipe of the shipped weights runs from seeds to a model folder, and keeps off the cohort that tests them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from ich import model, pretrain
from ich.grid import Grid
from ich.training_slices import as_seen


def test_every_fifth_case_is_of_the_embedded_kind():
    chosen = pretrain.sources(20, 1)
    assert [not source.varied for source in chosen].count(True) == 4
    assert len({source.name for source in chosen}) == 20


def test_the_embedded_cohort_is_never_trained_on():
    with pytest.raises(ValueError, match="embedded cohort"):
        pretrain.sources(5, 2019)


def test_slices_beyond_the_head_are_left_out():
    hu = np.full((64, 64, 5), -1000, np.int16)
    hu[16:48, 16:48, 1:4] = 40
    labels = np.zeros(hu.shape, np.uint8)
    labels[28:36, 28:36, 2] = 3
    grid = Grid(hu.shape, (3.0, 3.0), np.array([0.0, 5, 10, 15, 25]), np.diag([-3.0, -3, 5, 1]), 0.0, 5.0)
    settings = replace(pretrain.SETTINGS, size=32, pixel_mm=6.0)
    seen = as_seen(hu, labels, grid, settings).of_the_head(settings)
    assert seen.hu.shape == seen.labels.shape == (3, 32, 32)
    # 24 mm x 24 mm on one slice of 5 mm, 576 mm² x 5 mm = 2.88 ml
    assert float((seen.labels == 3).sum((1, 2)) @ seen.voxel_ml) == pytest.approx(2.88, rel=0.02)


def test_a_few_cases_and_steps_make_a_model_folder(tmp_path, monkeypatch):
    small = replace(pretrain.SETTINGS, size=64, pixel_mm=3.4, channels=(4, 8), strides=(2,))
    monkeypatch.setattr(pretrain, "SETTINGS", small)
    recipe = replace(pretrain.RECIPE, steps=2, batch_size=4, validate_every=1)
    threads = torch.get_num_threads()
    try:
        history = pretrain.pretrain(tmp_path / "out", tmp_path / "cache", 2, 2, recipe, seed=7, jobs=1)
    finally:
        torch.set_num_threads(threads)
    assert history["step"].tolist() == [1, 2]
    assert pd.read_csv(tmp_path / "out" / "training.csv")["step"].tolist() == [1, 2]
    _, settings, card = model.load_weights(tmp_path / "out", torch.device("cpu"))
    assert replace(settings, temperature=1.0) == replace(small, **pretrain.AFTERWARDS)
    assert card["simulated"] is True
    assert "simulated CT only" in card["trained_on"]
    assert "research only" in card["use"]
    made = sorted(path.name for path in pretrain.cache_folder(tmp_path / "cache", small).iterdir())
    assert len(made) == 4
    assert made[0].startswith("varied-7-")

    finer = replace(small, size=80, pixel_mm=2.7)
    given = tmp_path / "finer", tmp_path / "cache", 2, 2, replace(recipe, learning_rate=1e-9), 7, 1, tmp_path / "out"
    try:
        pretrain.pretrain(*given, finer)
    finally:
        torch.set_num_threads(threads)
    network, settings, card_after = model.load_weights(tmp_path / "finer", torch.device("cpu"))
    assert (settings.size, settings.pixel_mm) == (80, 2.7)
    assert card_after["started_from"] == card["sha256"]
    before = model.load_weights(tmp_path / "out", torch.device("cpu"))[0].state_dict()
    for name, value in network.named_parameters():  # such a learning rate leaves them where they began
        torch.testing.assert_close(value, before[name], rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="another network"):
        pretrain.pretrain(*given, replace(small, channels=(4, 8, 8), strides=(2, 2)))
