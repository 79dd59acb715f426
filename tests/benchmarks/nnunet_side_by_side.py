"""nnU-Net and this package on the same embedded cohort, split, machine and wall-clock budget.

    python tests/benchmarks/nnunet_side_by_side.py NNUNET_ENV [--minutes 60] [--seconds 60 225] [--device cuda]

NNUNET_ENV is a virtual environment that has nnunetv2 (`pip install nnunetv2`); this package does not depend on it.
nnU-Net plans its batch for the memory of a GPU; a CPU then sees some thirty batches in five minutes and learns nothing.
It gets batches of as many slices as this package has (`--nnunet-batch 0` keeps its plan), network and loss as planned.
nnU-Net trains once for the whole budget, this package for each of `--seconds` (an eighth, a quarter and all of the
budget unless given), with MONAI's SlidingWindowInferer as a second way to predict. Then each predicts scans of
512 x 512 pixels from disk to disk. Writes reports/checks/nnunet_side_by_side.csv and, of the cases that this package
labels worst, a figure beside it. Takes up to four times the budget.
"""

import argparse
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import joblib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from monai.inferers import SlidingWindowInferer
from small_cohort import ROOT, SHARES, prepare

from ich import figures, measure, model, nnunet, phantom, predict, splits, train
from ich.abc2 import abc2_variants
from ich.agreement import mean_by_group
from ich.figures import draw_slice
from ich.scan import read_mask, read_scan, write_mask
from ich.training_slices import Slices, load_slices

DATASET = "Dataset501_ICH"
ITERATIONS = {"cpu": 5, "cuda": 50}  # of an epoch of nnU-Net: the learning rate changes from one to the next


class NnUNet:
    """nnU-Net's own commands in its own environment, with a trainer that stops when the budget is spent."""

    def __init__(self, environment: Path, work: Path, budget_s: float, batch: int, device: str):
        names = {"raw": "nnUNet_raw", "preprocessed": "nnUNet_preprocessed", "results": "nnUNet_results"}
        self.environment, self.work, self.batch, self.device = environment, work, batch, device
        self.given = {variable: str(work / folder) for folder, variable in names.items()} | {
            "nnUNet_extTrainer": str(Path(__file__).parent / "nnunet_trainer"),
            "ICH_BUDGET_S": str(budget_s),
            "ICH_ITERATIONS": str(ITERATIONS[device]),
            "nnUNet_n_proc_DA": "2",
        }

    def call(self, *words: str) -> float:
        """Seconds that a command takes."""
        started = time.perf_counter()
        subprocess.run(
            [str(self.environment / "bin" / words[0]), *words[1:]], check=True, env=os.environ | self.given,
            cwd=self.work, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        return time.perf_counter() - started

    def fit(self, run: Path) -> dict:
        """Plan, preprocess and train; seconds."""
        dataset = nnunet.export(run, self.work / "raw", DATASET)
        prepared = self.call("nnUNetv2_plan_and_preprocess", "-d", "501", "-c", "2d", "-np", "2", "-npfp", "2")
        preprocessed = self.work / "preprocessed" / DATASET
        shutil.copy(dataset / "splits_final.json", preprocessed / "splits_final.json")
        plans = json.loads((preprocessed / "nnUNetPlans.json").read_text())
        planned = plans["configurations"]["2d"]
        planned["batch_size"] = self.batch or planned["batch_size"]
        (preprocessed / "nnUNetPlans.json").write_text(json.dumps(plans))
        trained = self.call("nnUNetv2_train", "501", "2d", "0", "-tr", "nnUNetTrainerBudget", "-device", self.device)
        log = next((self.work / "results" / DATASET).rglob("training_log_*.txt")).read_text()
        epochs = 1 + max(int(number) for number in re.findall(r": Epoch (\d+)", log))
        return {
            "prepare_s": prepared, "train_s": trained, "batch": planned["batch_size"],
            "steps": ITERATIONS[self.device] * epochs,
        }  # fmt: skip

    def predict(self, images: Path, out: Path) -> float:
        """Predict a folder of scans as installed: eight mirrored copies each, three processes; seconds."""
        return self.call(
            *("nnUNetv2_predict", "-i", str(images), "-o", str(out), "-d", "501", "-c", "2d", "-f", "0"),
            *("-tr", "nnUNetTrainerBudget", "-device", self.device),
        )


def train_ich(parts: dict[str, Slices], settings: model.Settings, budget_s: float) -> tuple:
    """Train for the budget with the demo's settings; network, seconds, steps.

    The learning rate needs to know the number of steps: it comes from the pace of a short training, and again from that
    of the whole one where other work on the machine came between.
    """
    recipe = train.Recipe(steps=100, validate_every=100, seed=1)
    for attempt in range(4):
        started = time.perf_counter()
        network, _ = train.train(parts["train"], parts["validation"], settings, recipe)
        trained = time.perf_counter() - started
        if 0.88 * budget_s < trained <= 1.05 * budget_s or attempt == 3:
            break
        steps = int(0.95 * budget_s * recipe.steps / trained)
        recipe = replace(recipe, steps=steps, validate_every=max(steps // 4, 1))
    return network, trained, recipe.steps


def predict_ich(network: torch.nn.Module, settings: model.Settings, images: Path, out: Path) -> float:
    """Mask, volume and ABC/2 of every scan of a folder, from disk to disk; seconds."""
    out.mkdir()
    started = time.perf_counter()
    for path in sorted(images.glob("*.nii.gz")):
        scan = read_scan(path)
        found = predict.predict(network, settings, scan)
        write_mask(out / path.name.replace("_0000", ""), found.labels, scan.grid)
        if (found.labels > 0).any():
            abc2_variants(found.labels > 0, scan.grid.spacing_mm, scan.grid.positions_mm)
    return time.perf_counter() - started


def predict_monai(network: torch.nn.Module, settings: model.Settings, images: Path, out: Path) -> float:
    """The same network with MONAI's sliding windows over whole slices, resampled to its pixels; seconds."""
    inferer = SlidingWindowInferer((settings.size, settings.size), sw_batch_size=16, overlap=0.25, mode="gaussian")
    out.mkdir()
    started = time.perf_counter()
    for path in sorted(images.glob("*.nii.gz")):
        scan = read_scan(path)
        hu = torch.from_numpy(np.ascontiguousarray(np.moveaxis(scan.hu, 2, 0))).float()[:, None]
        factor = [spacing / settings.pixel_mm for spacing in scan.grid.spacing_mm]
        hu = F.interpolate(hu, scale_factor=factor, mode="area")[:, 0]
        stack = model.channels(hu[model.neighbor_index(len(hu), settings.neighbors)], settings)
        device = next(network.parameters()).device
        with torch.inference_mode(), model.half_precision(device):
            stack = stack.to(device)
            logits = F.interpolate(inferer(stack, network), scan.hu.shape[:2], mode="bilinear")
        labels = logits.argmax(1).to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        write_mask(out / path.name.replace("_0000", ""), labels, scan.grid)
    return time.perf_counter() - started


def scores_by_case(run: Path, masks: Path) -> pd.DataFrame:
    """Dice of blood as a whole of each test case."""
    test = splits.open_split(run, "test")
    references = {row.case_id: run / row.reference_mask for row in test.itertuples()}
    evaluation = measure.evaluate(references, measure.masks_in(masks), jobs=2)
    if len(evaluation.failures):
        raise ValueError(evaluation.failures.to_string())
    found = evaluation.metrics
    return test[["case_id", "patient_id", "hemorrhage_type"]].merge(
        found[found["label"] == "blood"].drop(columns=["patient_id", "hemorrhage_type"], errors="ignore"), on="case_id"
    )


def scores(run: Path, masks: Path, rival: Path) -> pd.DataFrame:
    """Dice of blood as a whole by hemorrhage type and of all, and its difference from that of the masks of `rival`.

    The difference is that of each case with itself; both means have 95 % intervals over patients.
    """
    found = scores_by_case(run, masks).merge(
        scores_by_case(run, rival)[["case_id", "dice"]], on="case_id", suffixes=("", "_rival")
    )
    found["difference"] = found["dice"] - found["dice_rival"]
    both = pd.concat([found, found.assign(hemorrhage_type="all")])
    means = [
        mean_by_group(both, column, "hemorrhage_type", seed=1).set_index("hemorrhage_type")[
            ["n", "mean", "mean_ci_low", "mean_ci_high"]
        ]
        for column in ("dice", "difference")
    ]
    named = [
        mean.set_axis(["n", name, f"{name}_low", f"{name}_high"], axis=1)
        for mean, name in zip(means, ("dice", "difference"), strict=True)
    ]
    return named[0].join(named[1].drop(columns="n")).reset_index()


def draw_worst(run: Path, ours: Path, theirs: Path, path: Path) -> None:
    """The three test cases that this package labels worst, each beside nnU-Net's mask."""
    found = {name: scores_by_case(run, masks) for name, masks in (("ich", ours), ("nnU-Net", theirs))}
    worst = found["ich"].sort_values("dice")["case_id"].head(3)
    figures.use_style()
    fig, axes = plt.subplots(2, 3, figsize=(6.6, 4.9), layout="constrained")
    for case, column in zip(worst, axes.T, strict=True):
        reference, grid = read_mask(run / "data" / "masks" / f"{case}.nii.gz")
        k = int((reference > 0).sum(axis=(0, 1)).argmax())
        scan = read_scan(run / "data" / "images" / f"{case}.nii.gz")
        for ax, (name, masks) in zip(column, (("ich", ours), ("nnU-Net", theirs)), strict=True):
            labels = read_mask(masks / f"{case}.nii.gz")[0]
            dice = found[name].set_index("case_id").loc[case, "dice"]
            outlines = {"reference": reference[:, :, k] > 0, name: labels[:, :, k] > 0}
            title = f"{name}: Dice {dice:.2f}"
            draw_slice(scan.hu[:, :, k], ax, outlines=outlines, spacing_mm=grid.spacing_mm, title=title, simulated=True)
    fig.savefig(path, dpi=150)
    plt.close(fig)


def main() -> None:
    """Train and predict with all and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environment", type=Path)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seconds", type=float, nargs="+", help="budgets of this package, growing")
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--nnunet-batch", type=int, default=train.Recipe().batch_size)
    parser.add_argument("--seed", type=int, default=601, help="of the cohort; network and recipe were chosen on 501's")
    parser.add_argument("--device", default="cpu", help="cpu or cuda, for both")
    parser.add_argument("--large", type=int, default=4, help="scans of 512 x 512 pixels to time prediction on")
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    checks = ROOT / "reports" / "checks"
    budget, rows = 60 * options.minutes, []
    settings, device = model.Settings(), torch.device(options.device)
    version = subprocess.run(
        [str(options.environment / "bin" / "pip"), "show", "nnunetv2"], capture_output=True, text=True, check=True
    ).stdout.split("Version: ")[1].split()[0]  # fmt: skip
    gpu = f", {torch.cuda.get_device_name()}" if device.type == "cuda" else ""
    machine = f"{platform.machine()}, {joblib.cpu_count()} cores{gpu}, torch {torch.__version__}, nnunetv2 {version}"
    with tempfile.TemporaryDirectory() as folder:
        run, work, large = Path(folder) / "run", Path(folder) / "nnunet", Path(folder) / "large"
        work.mkdir(parents=True)
        prepare(run, options.cases, options.size, options.seed)
        phantom.write_cohort(Path(folder) / "made", options.large, 777, 512)
        large.mkdir()
        for path in (Path(folder) / "made" / "images").glob("*.nii.gz"):
            path.rename(large / path.name.replace(".nii.gz", "_0000.nii.gz"))

        def note(tool: str, budget_s: float, masks: Path, took: dict) -> None:
            n_test = len(measure.masks_in(masks))
            for row in scores(run, masks, work / "masks").to_dict("records"):
                rows.append(
                    {"tool": tool, "budget_s": budget_s, **row, **took,
                     "predict_s_per_scan": took["predict_s"] / n_test, "n_large": options.large,
                     "large_s_per_scan": took["large_s"] / options.large}
                )  # fmt: skip
            # Written anew each time: who stops here keeps what was measured.
            table = pd.DataFrame(rows)
            table["cohort"] = f"{options.cases} embedded cases of {options.size} pixels, seed {options.seed}"
            table["machine"] = machine
            table.to_csv(checks / "nnunet_side_by_side.csv", index=False, float_format="%.4g")
            print(rows[-1], flush=True)

        rival = NnUNet(options.environment, work, budget, options.nnunet_batch, options.device)
        took = rival.fit(run)
        tests = work / "raw" / DATASET / "imagesTs"
        took["predict_s"] = rival.predict(tests, work / "masks")
        took["large_s"] = rival.predict(large, work / "large")
        took["peak_gb"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
        note("nnU-Net 2d", budget, work / "masks", took)

        started = time.perf_counter()
        parts = {part: load_slices(splits.open_split(run, part), run, settings, device) for part in SHARES}
        prepared = time.perf_counter() - started
        for seconds in options.seconds or (budget / 8, budget / 4, budget):
            network, trained, steps = train_ich(parts, settings, seconds)
            out = work / f"ich-{seconds:g}"
            took = {"prepare_s": prepared, "train_s": trained, "batch": train.Recipe().batch_size, "steps": steps,
                    "predict_s": predict_ich(network, settings, tests, out),
                    "large_s": predict_ich(network, settings, large, work / f"ich-{seconds:g}-large"),
                    "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}  # fmt: skip
            note("ich", seconds, out, took)
        took |= {
            "predict_s": predict_monai(network, settings, tests, work / "monai"),
            "large_s": predict_monai(network, settings, large, work / "monai-large"),
        }
        note("ich, predicted by MONAI's SlidingWindowInferer", seconds, work / "monai", took)
        draw_worst(run, out, work / "masks", checks / "nnunet_side_by_side.png")


if __name__ == "__main__":
    main()
