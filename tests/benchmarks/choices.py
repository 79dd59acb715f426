"""What single choices of network and recipe are worth, over seeds, on scans like those of training and on others.

    python tests/benchmarks/choices.py [--steps 1000] [--seeds 3] [--cases 60] [--size 128] [--seed 603]

The demo network is trained on embedded cases as it is, and with one thing changed: another window as a channel, no
neighboring slices, or changes as by other scanners (`Recipe.scanner_share`) on some or all slices. Dice of blood, at
the network's resolution, is that of the embedded test cases and of varied cases that bleed (`ich.variety`), which
differ in anatomy, scanner and disease: the mean over seeds of each case, and its difference from that of the demo
network, with 95 % intervals over patients; `seed_differences` has the difference of each seed, since a training that
ends better by luck does so for all cases at once. Writes reports/checks/choices.csv.
"""

import argparse
import platform
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import joblib
import pandas as pd
import torch
from small_cohort import ROOT, SHARES, dice_of_cases, prepare

from ich import model, splits, train, training_slices, validation
from ich.resampling import bootstrap_mean
from ich.variety import make_wide_case

CHOICES: dict[str, tuple[dict, dict]] = {  # changes of Settings and of Recipe
    "as the demo": ({}, {}),
    "blood window": ({"blood_window": (40.0, 90.0)}, {}),
    "no neighbors": ({"neighbors": 0}, {}),
    "other scanners, 30 % of slices": ({}, {"scanner_share": 0.3}),
    "other scanners, all slices": ({}, {"scanner_share": 1.0}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--varied", type=int, default=80)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=603, help="of the cohort; network and recipe were chosen on 501's")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    device, rows, first = model.choose_device("auto"), [], {}
    others = joblib.Parallel(n_jobs=-1)(joblib.delayed(make_wide_case)(4019, i, 192) for i in range(options.varied))
    bleeding = [case for case in others if (case.labels > 0).any()]
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        prepare(run, options.cases, options.size, options.seed)
        cases = {name: splits.open_split(run, name) for name in SHARES}
        for choice, (of_settings, of_recipe) in CHOICES.items():
            settings = replace(model.Settings(), **of_settings)
            parts = {name: training_slices.load_slices(part, run, settings, device) for name, part in cases.items()}
            seen = {
                f"varied-{i}": training_slices.as_seen(case.hu, case.labels, case.grid, settings)
                for i, case in enumerate(bleeding)
            }
            tests = {"embedded": parts["test"], "varied": training_slices.side_by_side(seen, settings, device)}
            scores: dict[str, list[pd.Series]] = {name: [] for name in tests}
            clock = time.perf_counter if device.type == "cuda" else time.process_time  # a CPU may be shared
            started = clock()
            for seed in range(1, options.seeds + 1):
                recipe = train.Recipe(steps=options.steps, validate_every=options.steps // 4, seed=seed, **of_recipe)
                network, _ = train.train(parts["train"], parts["validation"], settings, recipe)
                for name, slices in tests.items():
                    scores[name].append(dice_of_cases(validation.predict_slices(network, slices, settings), slices))
            step_ms = 1000 * (clock() - started) / options.steps / options.seeds
            for name, of_seeds in scores.items():
                dice = pd.concat(of_seeds, axis=1)
                change = dice - first.setdefault(name, dice)
                patients = cases["test"].set_index("case_id")["patient_id"].reindex(dice.index)
                patients = patients.fillna(dice.index.to_series())  # a varied case is a patient of its own
                mean, differs = (bootstrap_mean(each.mean(axis=1), patients, seed=1) for each in (dice, change))
                rows.append(
                    {"choice": choice, "tested_on": name, "n": mean.n, "dice": mean.mean, "dice_low": mean.mean_ci[0],
                     "dice_high": mean.mean_ci[1], "difference": differs.mean, "difference_low": differs.mean_ci[0],
                     "difference_high": differs.mean_ci[1],
                     "seed_differences": " ".join(f"{each:.4f}" for each in change.mean()),
                     "steps": options.steps, "step_ms": step_ms,
                     "cohort": f"{options.cases} embedded cases of {options.size} pixels, seed {options.seed}",
                     "machine": f"{platform.machine()}, {device.type}, torch {torch.__version__}"}
                )  # fmt: skip
                print(rows[-1], flush=True)
            path = ROOT / "reports" / "checks" / "choices.csv"
            pd.DataFrame(rows).to_csv(path, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
