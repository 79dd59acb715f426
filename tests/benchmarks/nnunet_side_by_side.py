"""nnU-Net and this package on the same embedded cohort, split, machine and wall-clock budget.

    python tests/benchmarks/nnunet_side_by_side.py NNUNET_ENV [--minutes 6] [--cases 60] [--size 128]

NNUNET_ENV is a virtual environment that has nnunetv2 (`pip install nnunetv2`); this package does not depend on it.
nnU-Net trains once for the whole budget, this package for a quarter of it and for all of it. Writes
reports/checks/nnunet_side_by_side.csv. Takes about three times the budget.
"""

import argparse
import os
import platform
import resource
import shutil
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from ich import cohort, measure, model, nnunet, predict, splits, tables, train
from ich.agreement import mean_by_group

ROOT = Path(__file__).resolve().parents[2]
DATASET = "Dataset501_ICH"
SHARES = {"train": 0.6, "validation": 0.1, "test": 0.3}


def prepare(run: Path, cases: int, size: int) -> None:
    """Render and split the cohort as 01_cohort does."""
    sources = cohort.embedded(run, cases, 501, size, -1)
    table = tables.write(cohort.build(sources, run, True), run / "tables" / "cohort.csv")
    tables.write(splits.assign(table, SHARES, 1), run / "tables" / "splits.csv")


def with_nnunet(environment: Path, run: Path, work: Path, budget_s: float) -> tuple[Path, dict]:
    """Plan, train and predict by nnU-Net's own commands; folder of masks and what it took."""
    dataset = nnunet.export(run, work / "raw", DATASET)
    names = {"raw": "nnUNet_raw", "preprocessed": "nnUNet_preprocessed", "results": "nnUNet_results"}
    given = {variable: str(work / folder) for folder, variable in names.items()}
    given |= {
        "nnUNet_extTrainer": str(Path(__file__).parent / "nnunet_trainer"),
        "ICH_BUDGET_S": str(budget_s),
        "nnUNet_n_proc_DA": "2",
    }

    def call(*words: str) -> float:
        started = time.perf_counter()
        subprocess.run(
            [str(environment / "bin" / words[0]), *words[1:]], check=True, env=os.environ | given, cwd=work,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        return time.perf_counter() - started

    prepared = call("nnUNetv2_plan_and_preprocess", "-d", "501", "-c", "2d", "-np", "2", "-npfp", "2")
    shutil.copy(dataset / "splits_final.json", work / "preprocessed" / DATASET / "splits_final.json")
    trained = call("nnUNetv2_train", "501", "2d", "0", "-tr", "nnUNetTrainerBudget", "-device", "cpu")
    predicted = call(
        *("nnUNetv2_predict", "-i", str(dataset / "imagesTs"), "-o", str(work / "masks"), "-d", "501", "-c", "2d"),
        *("-f", "0", "-tr", "nnUNetTrainerBudget", "-device", "cpu", "-npp", "1", "-nps", "1"),
    )
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    return work / "masks", {"prepare_s": prepared, "train_s": trained, "predict_s": predicted, "peak_gb": memory}


def with_ich(run: Path, name: str, budget_s: float) -> tuple[Path, dict]:
    """Train for the budget with the demo's settings, the number of steps from the pace of the first ones."""
    started = time.perf_counter()
    settings, device = model.Settings(), model.choose_device("auto")
    parts = {part: train.load_slices(splits.open_split(run, part), run, settings, device) for part in SHARES}
    prepared = time.perf_counter() - started
    recipe = train.Recipe(steps=40, validate_every=40, seed=1)
    train.train(parts["train"], parts["validation"], settings, recipe)  # warms up
    started = time.perf_counter()
    train.train(parts["train"], parts["validation"], settings, recipe)
    pace = (time.perf_counter() - started) / recipe.steps
    steps = int(0.97 * budget_s / pace)
    started = time.perf_counter()
    network, _ = train.train(
        parts["train"], parts["validation"], settings, replace(recipe, steps=steps, validate_every=max(steps // 4, 1))
    )
    trained = time.perf_counter() - started
    out = run / name
    shutil.rmtree(out, ignore_errors=True)
    started = time.perf_counter()
    made, _, _ = predict.predict_cases(network, settings, splits.open_split(run, "test"), run)
    predicted = time.perf_counter() - started
    out.mkdir()
    for row in made.itertuples():
        shutil.move(run / str(row.prediction), out / f"{row.case_id}.nii.gz")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    took = {"prepare_s": prepared, "train_s": trained, "predict_s": predicted, "peak_gb": memory}
    return out, took | {"steps": steps}


def scores(run: Path, masks: Path) -> pd.DataFrame:
    """Dice of blood as a whole by hemorrhage type: n, mean and 95 % interval."""
    test = splits.open_split(run, "test")
    references = {row.case_id: run / row.reference_mask for row in test.itertuples()}
    evaluation = measure.evaluate(references, measure.masks_in(masks), jobs=2)
    if len(evaluation.failures):
        raise ValueError(evaluation.failures.to_string())
    found = evaluation.metrics
    blood = test[["case_id", "patient_id", "hemorrhage_type"]].merge(
        found[found["label"] == "blood"].drop(columns=["patient_id", "hemorrhage_type"], errors="ignore"), on="case_id"
    )
    everything = mean_by_group(blood.assign(hemorrhage_type="all"), "dice", "hemorrhage_type", seed=1)
    return pd.concat([mean_by_group(blood, "dice", "hemorrhage_type", seed=1), everything])


def main() -> None:
    """Run all three and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environment", type=Path)
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--size", type=int, default=128)
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    budget, rows = 60 * options.minutes, []
    with tempfile.TemporaryDirectory() as folder:
        run, work = Path(folder) / "run", Path(folder) / "nnunet"
        work.mkdir(parents=True)
        prepare(run, options.cases, options.size)
        runs = {
            "ich, a quarter of the budget": lambda: with_ich(run, "quarter", budget / 4),
            "ich": lambda: with_ich(run, "whole", budget),
            "nnU-Net 2d": lambda: with_nnunet(options.environment, run, work, budget),
        }
        for tool, make in runs.items():
            masks, took = make()
            n_test = len(measure.masks_in(masks))
            for row in scores(run, masks).itertuples():
                rows.append(
                    {"tool": tool, "hemorrhage_type": row.hemorrhage_type, "n": row.n, "dice": row.mean,
                     "dice_low": row.mean_ci_low, "dice_high": row.mean_ci_high, "budget_s": budget,
                     **took, "predict_s_per_scan": took["predict_s"] / n_test}
                )  # fmt: skip
            print(pd.DataFrame(rows).query("tool == @tool").to_string(index=False), flush=True)
    table = pd.DataFrame(rows)
    version = subprocess.run(
        [str(options.environment / "bin" / "pip"), "show", "nnunetv2"], capture_output=True, text=True, check=True
    ).stdout.split("Version: ")[1].split()[0]  # fmt: skip
    table["cohort"] = f"{options.cases} embedded cases of {options.size} pixels"
    table["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, nnunetv2 {version}"
    table.to_csv(ROOT / "reports" / "checks" / "nnunet_side_by_side.csv", index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
