"""What changes as by other scanners (`Recipe.scanner_share`) are worth, on scans like those of training and on others.

    python tests/benchmarks/augmentation.py [--steps 1000] [--seeds 2] [--cases 60] [--size 128]

The demo network is trained on embedded cases without them and with them on some or all slices. Dice of blood, at the
network's resolution, is that of the embedded test cases and of varied cases that bleed (`ich.variety`), which differ in
anatomy, scanner and disease. Writes reports/checks/augmentation.csv.
"""

import argparse
import platform
import tempfile
import time
from pathlib import Path

import joblib
import pandas as pd
import torch
from small_cohort import ROOT, SHARES, dice_of_cases, prepare

from ich import model, splits, train, training_slices
from ich.resampling import bootstrap_mean
from ich.variety import make_wide_case

SCANNER_SHARES = (0.0, 0.3, 1.0)


def varied(index: int, settings: model.Settings, size: int) -> tuple[str, training_slices.Seen]:
    """A varied case as the network sees it."""
    case = make_wide_case(4019, index, size)
    return f"varied-{index}", training_slices.as_seen(case.hu, case.labels, case.grid, settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--varied", type=int, default=80)
    parser.add_argument("--size", type=int, default=128)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    device, settings, rows = model.choose_device("auto"), model.Settings(), []
    others = joblib.Parallel(n_jobs=-1)(joblib.delayed(varied)(i, settings, 192) for i in range(options.varied))
    bleeding = {name: seen for name, seen in others if (seen.labels > 0).any()}
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        prepare(run, options.cases, options.size, 501)
        parts = {
            name: training_slices.load_slices(splits.open_split(run, name), run, settings, device) for name in SHARES
        }
    tests = {"embedded": parts["test"], "varied": training_slices.side_by_side(bleeding, settings, device)}
    for share in SCANNER_SHARES:
        scores: dict[str, list[pd.Series]] = {name: [] for name in tests}
        started = time.process_time()
        for seed in range(1, options.seeds + 1):
            recipe = train.Recipe(
                steps=options.steps, validate_every=options.steps // 4, seed=seed, scanner_share=share
            )
            network, _ = train.train(parts["train"], parts["validation"], settings, recipe)
            for name, slices in tests.items():
                scores[name].append(dice_of_cases(train.predict_slices(network, slices, settings), slices))
        step_ms = 1000 * (time.process_time() - started) / options.steps / options.seeds
        for name, of_seeds in scores.items():
            mean = pd.concat(of_seeds, axis=1).mean(axis=1)
            found = bootstrap_mean(mean, mean.index.to_series(), seed=1)
            rows.append(
                {"scanner_share": share, "tested_on": name, "n": found.n, "dice": found.mean,
                 "dice_low": found.mean_ci[0], "dice_high": found.mean_ci[1], "seeds": options.seeds,
                 "steps": options.steps, "step_ms": step_ms,
                 "machine": f"{platform.machine()}, {device.type}, torch {torch.__version__}"}
            )  # fmt: skip
            print(rows[-1], flush=True)
    pd.DataFrame(rows).to_csv(ROOT / "reports" / "checks" / "augmentation.csv", index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
