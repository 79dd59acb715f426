"""Networks of several runs as one: the mean of their logits, from a model folder like any other."""

import json
import shutil
from dataclasses import replace

import pandas as pd
import pytest
import torch

from ich import cohort, model, predict, splits, tables
from ich.cli import main
from ich.scan import read_scan
from ich.seen import scans_seen
from ich.trained import ensemble, train_run

SETTINGS = model.Settings(pixel_mm=7.0, size=32, channels=(4, 8), strides=(2,))
SHARES = {"train": 0.5, "validation": 0.25, "test": 0.25}


def network_of(seed: int, settings: model.Settings = SETTINGS) -> torch.nn.Module:
    """A network that was never trained."""
    torch.manual_seed(seed)
    return model.build_network(settings).eval()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs on the same eight simulated cases, with networks of their own."""
    first, second = (tmp_path_factory.mktemp("runs") / name for name in ("one", "two"))
    table = cohort.build(cohort.embedded(first, 8, 501, 64, 1), first, True)
    tables.write(table, first / "tables" / "cohort.csv")
    tables.write(splits.assign(table, SHARES, 1), first / "tables" / "splits.csv")
    shutil.copytree(first, second)
    for seed, run in enumerate((first, second)):
        model.save_weights(
            network_of(seed), SETTINGS, run / "model", best_step=10 + seed, trained_on="phantom", simulated=True
        )
    return first, second


@pytest.fixture
def joined(runs, tmp_path):
    ensemble(runs, tmp_path / "model")
    return tmp_path / "model"


def test_the_mean_of_the_logits_counts(joined):
    network, settings, card = model.load_weights(joined, torch.device("cpu"))
    assert replace(settings, temperature=1.0) == replace(SETTINGS, members=2)
    assert len(set(card["members_sha256"])) == 2
    assert card["volume_calibration"]["n"] == 2  # validation cases
    image = torch.rand(3, 4, 32, 32)
    with torch.no_grad():
        wanted = (network_of(0)(image) + network_of(1)(image)) / 2
        torch.testing.assert_close(network(image), wanted)


def test_it_predicts_like_any_model_folder(joined, runs):
    weights = predict.Weights.load(joined)
    scan = read_scan(next((runs[0] / "data" / "images").glob("*.nii.gz")))
    found = predict.predict(weights.network, weights.settings, scan)
    assert found.labels.shape == scan.hu.shape
    assert weights.familiar is not None
    assert weights.familiar.distance(found.embedding) > 0


def test_the_command_writes_it(runs, tmp_path, capsys):
    assert main(["ensemble", *map(str, runs), "--out", str(tmp_path / "both")]) == 0
    assert "2 networks, validation Dice" in capsys.readouterr().out
    assert (tmp_path / "both" / "weights.safetensors").is_file()


def test_one_run_is_no_ensemble(runs, tmp_path):
    with pytest.raises(ValueError, match="two or more"):
        ensemble(runs[:1], tmp_path)
    with pytest.raises(ValueError, match="given twice"):
        ensemble([runs[0], runs[0]], tmp_path)


@pytest.mark.parametrize("record", ["progress.json", "manifest.json"])
def test_no_network_takes_the_place_of_one_that_has_results(runs, tmp_path, record):
    run = shutil.copytree(runs[1], tmp_path / "run")
    done = {"01_cohort": {}, "02_training": {}}
    (run / record).write_text(json.dumps(done if record == "progress.json" else {"notebooks": done}))
    before = (run / "model" / "weights.safetensors").read_bytes()
    with pytest.raises(FileExistsError, match="run holds results of the network that it has"):
        ensemble(list(runs), run / "model")
    with pytest.raises(FileExistsError, match="run holds results of the network that it has"):
        train_run(run, {}, print)
    assert (run / "model" / "weights.safetensors").read_bytes() == before


def test_no_training_goes_on_in_a_run_that_is_worked_on(runs, tmp_path, held_by_another):
    run = shutil.copytree(runs[1], tmp_path / "run")
    with held_by_another(tmp_path / ".run.lock"), pytest.raises(OSError, match="run run is in use by process 4711"):
        train_run(run, {}, print)


def test_networks_that_see_other_pixels_are_named(runs, tmp_path):
    other = shutil.copytree(runs[1], tmp_path / "other")
    coarse = replace(SETTINGS, pixel_mm=8.0)
    model.save_weights(network_of(1, coarse), coarse, other / "model", best_step=1, trained_on="x", simulated=True)
    with pytest.raises(ValueError, match=r"other: its network has .*pixel_mm=8\.0"):
        ensemble([runs[0], other], tmp_path / "model")


def test_a_network_that_knows_a_validation_case_is_refused(runs, tmp_path):
    other = shutil.copytree(runs[1], tmp_path / "other")
    path = other / "tables" / "splits.csv"
    split = pd.read_csv(path, dtype="str")
    swapped = {"train": "validation", "validation": "train"}
    split["split"] = split["split"].replace(swapped)
    split.to_csv(path, index=False)
    with pytest.raises(ValueError, match="other: trained on patients that one validates on, such as that of phantom-"):
        ensemble([runs[0], other], tmp_path / "model")


def test_a_network_that_knows_a_test_scan_by_another_name_is_refused(runs, tmp_path):
    """Nobody stated the patients, and the other run numbers the same scans in another order."""
    other = shutil.copytree(runs[1], tmp_path / "other")
    tested = splits.open_split(runs[0], "test").iloc[0]
    path = other / "tables" / "cohort.csv"
    cohort = pd.read_csv(path, dtype="str")
    trained = splits.open_split(other, "train")["case_id"].iloc[0]
    cohort.loc[cohort["case_id"] == tested["case_id"], "content"] = "0" * 64
    cohort.loc[cohort["case_id"] == trained, "content"] = tested["content"]
    cohort.to_csv(path, index=False)
    model.save_weights(
        network_of(1), SETTINGS, other / "model", best_step=11, trained_on="phantom", simulated=True,
        scans_seen=scans_seen({"train": splits.open_split(other, "train")}),
    )  # fmt: skip
    with pytest.raises(
        ValueError, match=f"other: its network has seen 1 of the 2 test cases .*such as {tested['case_id']}"
    ):
        ensemble([runs[0], other], tmp_path / "model")
