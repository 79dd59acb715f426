"""A network is never tested on scans that an earlier training has shown it."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from ich import splits, tables
from ich.model import Settings, build_network, save_weights
from ich.seen import scans_seen
from ich.trained import begin, take_over

DEMO = Path(__file__).resolve().parents[1] / "reports" / "demo" / "tables"
SETTINGS = Settings(pixel_mm=7.0, size=32, channels=(4, 8), strides=(2,))


def run_with(split: pd.DataFrame, folder: Path) -> Path:
    """A run folder with the demo's cohort, split in another way."""
    (folder / "tables").mkdir(parents=True)
    shutil.copy(DEMO / "cohort.csv", folder / "tables")
    tables.write(split, folder / "tables" / "splits.csv")
    return folder


@pytest.fixture(scope="module")
def split():
    return tables.read(DEMO / "splits.csv")


@pytest.fixture
def run(split, tmp_path):
    return run_with(split, tmp_path / "first")


def weights_of(run: Path, folder: Path, *before: dict) -> Path:
    """The model folder of a training on that run; its network was never trained."""
    seen = scans_seen({name: splits.open_split(run, name) for name in ("train", "validation")}, before)
    save_weights(build_network(SETTINGS), SETTINGS, folder, scans_seen=seen)
    return folder


def test_training_may_go_on_where_the_split_is_the_same(run, tmp_path):
    assert begin(str(weights_of(run, tmp_path / "model")), SETTINGS, run).state is not None


@pytest.mark.parametrize(
    ("had", "has", "said"),
    [("train", "test", "test"), ("validation", "test", "test"), ("train", "validation", "validation")],
)
def test_a_network_that_knows_what_is_kept_from_it_is_refused(run, split, tmp_path, had, has, said):
    case = split["case_id"][split["split"] == had].iloc[0]
    moved = split.assign(split=split["split"].mask(split["case_id"] == case, has))
    later = run_with(moved, tmp_path / "later")
    n = (moved["split"] == has).sum()
    with pytest.raises(ValueError, match=f"model: its network has seen 1 of the {n} {said} cases .* such as {case}"):
        begin(str(weights_of(run, tmp_path / "model")), SETTINGS, later)


def test_a_run_takes_over_a_network_that_has_not_seen_its_test_cases(run, tmp_path):
    folder = weights_of(run, tmp_path / "given")
    take_over(folder, run)
    names = sorted(path.name for path in (run / "model").iterdir())
    assert names == ["settings.json", "weights.safetensors"]
    assert all((run / "model" / name).read_bytes() == (folder / name).read_bytes() for name in names)


def test_a_network_is_not_taken_over_where_it_was_trained_on_a_test_case(run, split, tmp_path):
    folder = weights_of(run, tmp_path / "given")
    later = run_with(split.assign(split="test"), tmp_path / "later")
    known = split["split"].isin(["train", "validation"]).sum()
    with pytest.raises(ValueError, match=f"given: its network has seen {known} of the {len(split)} test cases"):
        take_over(folder, later)
    assert not (later / "model").exists()


def test_validation_on_a_scan_does_not_keep_it_from_training_or_validation(run, split, tmp_path):
    case = split["case_id"][split["split"] == "validation"].iloc[0]
    later = run_with(split.assign(split=split["split"].mask(split["case_id"] == case, "train")), tmp_path / "later")
    begin(str(weights_of(run, tmp_path / "model")), SETTINGS, later)


def test_what_a_network_has_seen_is_not_forgotten_in_a_further_training(run, split, tmp_path):
    swapped = split.assign(split=split["split"].replace({"train": "test", "test": "train"}))
    second = run_with(swapped, tmp_path / "second")
    begin(str(weights_of(second, tmp_path / "anew")), SETTINGS, second)
    first = begin(str(weights_of(run, tmp_path / "one")), SETTINGS, run).card
    with pytest.raises(ValueError, match="has seen"):
        begin(str(weights_of(second, tmp_path / "further", first)), SETTINGS, second)
