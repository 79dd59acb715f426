"""The study at the paper's size, trained from several seeds on one cohort: what depends on the seed, beside the paper.

    ich study paper
    cp -r reports/paper seed1
    ich study paper --set training_seed=2 --resume          # the cohort is there already: 02 and all after it run again
    cp -r reports/paper seed2
    python tests/benchmarks/paper_seeds.py seed1 seed2 ...

Reads finished runs; writes reports/checks/paper_seeds.csv: Dice by type, volume error by group and agreement of each
seed, then their mean and its spread over seeds.
"""

import argparse
import json
from pathlib import Path

import pandas as pd

from ich.tables import write_plain

ROOT = Path(__file__).resolve().parents[2]
METHODS = ["network", "abc2"]


def of_run(run: Path) -> pd.DataFrame:
    """One row per quantity of a run, with its interval over patients."""
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    seed = manifest["seeds"]["02_training.training_seed"]
    seconds = {name: record["seconds"] for name, record in manifest["notebooks"].items()}
    rows = []

    def add(quantity: str, stratum: str, n: float, value: float, low=None, high=None, published=None) -> None:
        rows.append(
            {"training_seed": str(seed), "quantity": quantity, "stratum": stratum, "n": n, "value": value,
             "ci_low": low, "ci_high": high, "published": published}
        )  # fmt: skip

    dice = pd.read_csv(run / "tables" / "dice_by_type.csv")
    for row in dice[dice["reader"] == "network"].itertuples():
        add("dice", row.hemorrhage_type, row.n, row.mean, row.mean_ci_low, row.mean_ci_high, row.published_dice)
    errors = pd.read_csv(run / "tables" / "error_by_group.csv")
    for row in errors[errors["method"].isin(METHODS)].itertuples():
        add(
            f"{row.method} absolute error, ml", row.group, row.n, row.mean_ml, row.mean_ci_low, row.mean_ci_high,
            row.published_mean_ml,
        )  # fmt: skip
    limits = pd.read_csv(run / "tables" / "agreement.csv")
    for row in limits[(limits["stratum"] == "all") & (limits["reference"] == "reference_ml")].itertuples():
        method = str(row.method).removesuffix("_ml")
        if method in METHODS:
            add(f"{method} bias, ml", "all", row.n, row.bias, row.bias_ci_low, row.bias_ci_high)
            add(f"{method} lower limit, ml", "all", row.n, row.loa_lower, row.loa_lower_ci_low, row.loa_lower_ci_high)
            add(f"{method} upper limit, ml", "all", row.n, row.loa_upper, row.loa_upper_ci_low, row.loa_upper_ci_high)
    for name, value in seconds.items():
        add("seconds", name, 1, value)
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    found = pd.concat([of_run(run) for run in parser.parse_args().runs], ignore_index=True)
    if found["training_seed"].nunique() < found.groupby(["quantity", "stratum"]).size().max():
        raise SystemExit("two of these runs have one training_seed")
    measured = found[~found["quantity"].eq("seconds")]
    by_quantity = measured.groupby(["quantity", "stratum"], sort=False)
    over_seeds = by_quantity.agg(
        n=("n", "first"), value=("value", "mean"), sd_over_seeds=("value", "std"), published=("published", "first")
    ).reset_index()  # fmt: skip
    table = pd.concat([found, over_seeds.assign(training_seed="mean")], ignore_index=True)
    write_plain(table, ROOT / "reports" / "checks" / "paper_seeds.csv")
    print(table.round(3).to_string(index=False, na_rep=""))


if __name__ == "__main__":
    main()
