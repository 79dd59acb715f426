"""What mirror images and ensembles are worth, and what they cost.

    python tests/benchmarks/flips_and_ensembles.py [--steps 1000] [--members 3] [--cases 60] [--size 128]

The demo network is trained with several seeds on the same embedded cases. Each alone (the mean over seeds), each with
mirror images, and all together predict the test cases; Dice of blood is that at the network's resolution. Writes
reports/checks/flips_and_ensembles.csv.
"""

import argparse
import platform
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from small_cohort import ROOT, SHARES, dice_of_cases, prepare

from ich import model, splits, train, training_slices, validation
from ich.resampling import bootstrap_mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--size", type=int, default=128)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    device, settings, rows = model.choose_device("auto"), model.Settings(), []
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        prepare(run, options.cases, options.size, 501)
        cases = {name: splits.open_split(run, name) for name in SHARES}
        parts = {name: training_slices.load_slices(rows, run, settings, device) for name, rows in cases.items()}
    networks = []
    for seed in range(1, options.members + 1):
        recipe = train.Recipe(steps=options.steps, validate_every=options.steps // 4, seed=seed)
        networks.append(train.train(parts["train"], parts["validation"], settings, recipe)[0])
    together = model.Ensemble(networks).eval()
    mirrored, test = replace(settings, mirrored=True), parts["test"]
    patients = cases["test"].set_index("case_id")["patient_id"]
    for name, several, seen in (
        ("one network", networks, settings),
        ("one network, mirror image too", networks, mirrored),
        (f"ensemble of {len(networks)}", [together], settings),
        (f"ensemble of {len(networks)}, mirror image too", [together], mirrored),
    ):
        started = time.perf_counter()
        labels = [validation.predict_slices(network, test, seen) for network in several]
        mean = pd.concat([dice_of_cases(each, test) for each in labels], axis=1).mean(axis=1)
        seconds = (time.perf_counter() - started) / len(several) / len(test.case_ids)
        found = bootstrap_mean(mean, patients.loc[list(mean.index)], seed=1)
        rows.append(
            {"prediction": name, "n": found.n, "dice": found.mean, "dice_low": found.mean_ci[0],
             "dice_high": found.mean_ci[1], "worst": mean.min(), "seconds_per_scan": seconds, "steps": options.steps,
             "machine": f"{platform.machine()}, {device.type}, torch {torch.__version__}"}
        )  # fmt: skip
        print(rows[-1], flush=True)
    pd.DataFrame(rows).to_csv(ROOT / "reports" / "checks" / "flips_and_ensembles.csv", index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
