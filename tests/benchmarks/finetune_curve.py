"""How many cases a new scanner needs: the shipped weights fine-tuned, and the same network trained from nothing.

    python tests/benchmarks/finetune_curve.py [--steps 300] [--sizes 5 10 20 40] [--test 40]

The cases are of the embedded kind, from a seed that the shipped weights never saw, as another scanner would give them:
one fixed poor image quality of `ich.artifacts` (soft kernel, bright rim beside bone, coarse noise, HU 5 too high).
Dice of blood is that of test cases at the network's resolution; 0 training cases are the shipped weights as they are.
Writes reports/checks/finetune_curve.csv and .png.
"""

import argparse
import platform
from dataclasses import replace
from pathlib import Path

import joblib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from ich import figures, model, train, training_slices
from ich.artifacts import Quality, spoil
from ich.phantom import make_case
from ich.resampling import bootstrap_mean
from ich.training_slices import Seen, as_seen, side_by_side
from ich.validation import predict_slices

ROOT = Path(__file__).resolve().parents[2]
SEED = 6019
SCANNER = Quality(
    blur_mm=0.9, edge=0.0, edge_mm=1.0, cupping_hu=16.0, cupping_mm=9.0, cupping_uneven=0.3, shading_hu=2.0,
    streak_hu=10.0, noise_hu=5.0, grain_mm=1.4, coarse_hu=1.0, starved_hu=3.0, offset_hu=5.0, gain=1.04, bone_gain=0.9,
    motion_mm=0.0,
)  # fmt: skip


def seen(index: int, settings: model.Settings) -> tuple[Seen, str]:
    """One case from the new scanner as the network sees it, and its patient."""
    torch.set_num_threads(1)
    case = make_case(SEED, index)
    stack = torch.from_numpy(np.moveaxis(case.hu, 2, 0).copy()).float()
    random = torch.Generator().manual_seed(index)
    hu = spoil(stack, SCANNER, case.grid.spacing_mm[0], random).round().clamp(-1024, 3071)
    hu = np.moveaxis(hu.numpy(), 0, 2).astype(np.int16)
    return as_seen(hu, case.labels, case.grid, settings).of_the_head(settings), case.patient_id


def together(cases: list[Seen], settings: model.Settings) -> training_slices.Slices:
    """The slices of these cases."""
    return side_by_side({str(number): case for number, case in enumerate(cases)}, settings, torch.device("cpu"))


def dice(network: torch.nn.Module, test: training_slices.Slices, settings: model.Settings) -> list[float]:
    """Dice of blood of each test case."""
    found = predict_slices(network, test, settings)
    pairs = ((test.labels[test.case == c] > 0, found[test.case == c] > 0) for c in range(len(test.case_ids)))
    return [float(2 * (a & b).sum() / (a.sum() + b.sum())) for a, b in pairs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--sizes", type=int, nargs="+", default=[5, 10, 20, 40])
    parser.add_argument("--test", type=int, default=40)
    parser.add_argument("--validation", type=int, default=6)
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    shipped, settings, _ = model.load_weights(model.SHIPPED_WEIGHTS, torch.device("cpu"))
    settings = replace(settings, mirrored=False, smallest_ml=0.0)
    n = options.test + options.validation + max(options.sizes)
    made = joblib.Parallel(n_jobs=-1)(joblib.delayed(seen)(index, settings) for index in range(n))
    every, patients = zip(*made, strict=True)
    if set(patients[: options.test]) & set(patients[options.test :]):
        raise SystemExit("a patient is in the test cases and in the others: choose another --test")
    test = together(every[: options.test], settings)
    validation = together(every[options.test : options.test + options.validation], settings)
    runs: list[tuple[str, int, list[float]]] = [("shipped weights", 0, dice(shipped, test, settings))]
    for size in options.sizes:
        training = together(every[options.test + options.validation :][:size], settings)
        for name, start, rate in (("shipped weights", shipped.state_dict(), 1e-3), ("from nothing", None, 3e-3)):
            recipe = train.Recipe(steps=options.steps, learning_rate=rate, validate_every=options.steps // 3, seed=1)
            network, _ = train.train(training, validation, settings, recipe, start=start)
            runs.append((name, size, dice(network, test, settings)))
            print(name, size, np.mean(runs[-1][2]), flush=True)
    rows = []
    for name, size, scores in runs:
        mean = bootstrap_mean(pd.Series(scores), pd.Series(patients[: options.test]), seed=1)
        rows.append({"start": name, "training_cases": size, "n_test": mean.n, "n_patients": mean.n_patients,
                     "dice": mean.mean, "ci_low": mean.mean_ci[0], "ci_high": mean.mean_ci[1], "steps": options.steps,
                     "machine": f"{platform.machine()}, torch {torch.__version__}"})  # fmt: skip
    table = pd.DataFrame(rows)
    out = ROOT / "reports" / "checks" / "finetune_curve.csv"
    table.to_csv(out, index=False, float_format="%.4g")
    figures.use_style()
    fig, ax = figures.subplots(size_mm=(110, 75))
    for (name, part), color in zip(table.groupby("start"), ("#0072B2", "#D55E00"), strict=False):
        error = [part["dice"] - part["ci_low"], part["ci_high"] - part["dice"]]
        ax.errorbar(part["training_cases"], part["dice"], error, marker="o", capsize=2, color=color, label=name)
    ax.set(xlabel="training cases of the new scanner", ylabel="mean Dice of blood, 95 % interval", ylim=(0.5, 1))
    ax.set_title(f"Fine-tuning, simulated, n = {options.test} test cases")
    ax.legend()
    fig.savefig(out.with_suffix(".png"), dpi=150)
    plt.close(fig)
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
