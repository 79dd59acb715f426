"""A small embedded cohort to compare trainings on, and the Dice of its test cases; shared by the other scripts."""

from pathlib import Path

import pandas as pd
import torch

from ich import cohort, splits, tables
from ich.training_slices import Slices

ROOT = Path(__file__).resolve().parents[2]
SHARES = {"train": 0.6, "validation": 0.1, "test": 0.3}


def prepare(run: Path, cases: int, size: int, seed: int) -> None:
    """Render and split the cohort as 01_cohort does."""
    sources = cohort.embedded(run, cases, seed, size, -1)
    table = tables.write(cohort.build(sources, run, True), run / "tables" / "cohort.csv")
    tables.write(splits.assign(table, SHARES, 1), run / "tables" / "splits.csv")


def dice_of_cases(labels: torch.Tensor, slices: Slices) -> pd.Series:
    """Dice of blood of each case, by case id, of labels (K, H, W) found for the slices."""
    found, blood = labels > 0, slices.labels > 0

    def dice(case: int) -> float:
        mine = slices.case == case
        return float(2 * (found & blood)[mine].sum() / (found[mine].sum() + blood[mine].sum()))

    return pd.Series([dice(case) for case in range(len(slices.case_ids))], index=slices.case_ids)
