"""Thin slices seen as they are and averaged over a slab (`Settings.slab_mm`), with the shipped weights.

Writes reports/checks/thin_slices.csv: varied simulated cases at steps of 0.6 to 1.25 and 1.25 to 2.5 mm, with the noise
of such slices, predicted both ways: Dice of blood, volume error, false blood, and the paired difference of Dice.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch

from ich.model import SHIPPED_WEIGHTS
from ich.overlap import overlap
from ich.predict import predict, ready
from ich.resampling import NOT_NEGATIVE, SHARE, bootstrap_mean
from ich.scan import Scan
from ich.tables import write_plain
from ich.variety import make_wide_case

ROOT = Path(__file__).resolve().parents[2]
SEED = 7919  # as weights_table.py; nothing was chosen on its cases at these steps
STEPS_MM = ((0.6, 1.25), (1.25, 2.5))
FALSE_ML = 0.1


def measured(index: int, low: float, high: float) -> list[dict]:
    """One case, predicted without and with slabs."""
    torch.set_num_threads(1)
    weights = ready(SHIPPED_WEIGHTS, "cpu")
    step_mm = float(np.random.default_rng([SEED, index]).uniform(low, high))
    case = make_wide_case(SEED, index, step_mm=step_mm)
    reference, rows = case.labels > 0, []
    for slab_mm in (0.0, weights.settings.slab_mm):
        settings = replace(weights.settings, slab_mm=slab_mm)
        found = predict(weights.network, settings, Scan(case.grid, case.hu, "simulated")).labels > 0
        both = overlap(reference, found, case.grid.spacing_mm, case.grid.positions_mm)
        rows.append(
            {
                "case": index, "step_mm": f"{low:g} to {high:g}", "slab_mm": slab_mm,
                "dice": both["dice"] if reference.any() else np.nan,
                "reference_ml": both["reference_ml"], "predicted_ml": both["predicted_ml"],
            }
        )  # fmt: skip
    return rows


def mean_row(steps: str, slab: str, quantity: str, values: pd.Series, within: tuple[float, float]) -> dict:
    """One row of the table."""
    found = bootstrap_mean(values, seed=1, within=within)
    ends = dict(zip(("ci_low", "ci_high"), found.mean_ci, strict=True))
    return {"step_mm": steps, "slab_mm": slab, "quantity": quantity, "n": found.n, "value": found.mean} | ends


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=40, help="patients at each range of steps; a third does not bleed")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    work = [(index, *steps) for steps in STEPS_MM for index in range(options.cases)]
    found = joblib.Parallel(n_jobs=options.jobs)(joblib.delayed(measured)(*each) for each in work)
    cases = pd.DataFrame([row for rows in found for row in rows])
    table = []
    for steps, part in cases.groupby("step_mm", sort=False):
        dice = part.pivot_table(index="case", columns="slab_mm", values="dice")
        for slab_mm, each in part.groupby("slab_mm"):
            bleeds, none = each[each["reference_ml"] > 0], each[each["reference_ml"] == 0]
            error = (bleeds["predicted_ml"] - bleeds["reference_ml"]).abs()
            said = f"{slab_mm:g}"
            table += [
                mean_row(steps, said, "dice_blood", bleeds["dice"], SHARE),
                mean_row(steps, said, "absolute_error_ml", error, NOT_NEGATIVE),
                mean_row(steps, said, "false_ml_mean", none["predicted_ml"], NOT_NEGATIVE),
                {"step_mm": steps, "slab_mm": said, "quantity": f"false_over_{FALSE_ML:g}_ml", "n": len(none),
                 "value": int((none["predicted_ml"] > FALSE_ML).sum())},
            ]  # fmt: skip
        gain = dice.iloc[:, 1] - dice.iloc[:, 0]
        table.append(mean_row(steps, "with - without", "dice_blood", gain, (-1.0, 1.0)))
    write_plain(pd.DataFrame(table), ROOT / "reports" / "checks" / "thin_slices.csv")
    print(pd.DataFrame(table).round(3).to_string(index=False, na_rep=""))


if __name__ == "__main__":
    main()
