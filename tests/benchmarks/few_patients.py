"""How often 95 % intervals hold the truth where patients are few or have several scans, by simulation.

Writes reports/checks/few_patients.csv. Differences are normal, with a part of their variance between patients, and
volumes lognormal; those along a regression have an SD of 0.5 ml + 6 %. The truth of limits, bias and shares is known,
that of concordance from 400,000 pairs. Means are of one value a patient, by t and by BCa bootstrap, of a beta (9, 1)
and a lognormal (0, 1) distribution: the reason for `ich.resampling.FEW`.
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm

from ich.linked import coefficient_intervals, linked_limits
from ich.pairs import pair
from ich.reliability import concordance
from ich.resampling import bca_interval, mean_interval, resampled_counts, share_interval, wilson
from ich.tables import write_plain
from ich.volume_limits import regression_limits

ROOT = Path(__file__).resolve().parents[2]
SHARES = (0.1, 0.5, 0.9)  # of the variance of a difference, between patients
DESIGNS = {  # scans of each patient
    "3 patients, one with two": [2, 1, 1],
    "5 patients, two with two": [2, 2, 1, 1, 1],
    "10 patients, three with two": [2] * 3 + [1] * 7,
    "23 patients, four with two": [2] * 4 + [1] * 19,
    "50 patients, one with two": [2] + [1] * 49,
    "10 patients, half with three": [3, 1] * 5,
    "10 patients, one with ten": [10] + [1] * 9,
    "3 patients with four": [4] * 3,
}
MARGIN = 1.0  # SD of a difference; a share is that of the differences inside


def pairs_of(
    random: np.random.Generator, scans: list[int], between: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Differences of unit variance, the reference volumes of these scans, and whose they are."""
    owner = np.repeat(np.arange(len(scans)), scans)
    own = random.normal(0, math.sqrt(between), len(scans))[owner]
    reference = np.exp(random.normal(1, 0.7, len(scans)))[owner] + random.normal(0, 0.5, owner.size)
    return own + random.normal(0, math.sqrt(1 - between), owner.size), reference, owner


def linked_rows(draws: int) -> list[dict]:
    """Coverage of the intervals of `ich.linked` and of shares."""
    rows = []
    inside = 2 * norm.cdf(MARGIN) - 1
    for between in SHARES:
        random = np.random.default_rng(1)
        large = pairs_of(random, [1] * 400_000, between)
        truth = {
            "upper limit": 1.96,
            "bias": 0.0,
            "share": inside,
            "CCC": concordance(large[1] + large[0], large[1]).ccc,
        }
        for design, scans in DESIGNS.items():
            held = dict.fromkeys(truth, 0)
            for _ in range(draws):
                difference, reference, owner = pairs_of(random, scans, between)
                limits = linked_limits(difference, owner)
                ends = {
                    "upper limit": limits.loa_upper_ci,
                    "bias": limits.bias_ci,
                    "share": share_interval(np.abs(difference) <= MARGIN, owner),
                    "CCC": coefficient_intervals(pair(reference + difference, reference), owner, 0.95)["ccc_ci"],
                }
                for name, (low, high) in ends.items():
                    held[name] += low <= truth[name] <= high
            rows += [row(name, f"{design}; {between:g} between", count, draws) for name, count in held.items()]
    return rows


def volume_limit_rows(draws: int) -> list[dict]:
    """Coverage of the interval of the upper limit along a regression, at volumes that few and that many cases reach."""
    rows = []
    for design, scans in (*((f"{n} patients with one", [1] * n) for n in (20, 27, 60, 150)), ("20 with two", [2] * 20)):
        random, held = np.random.default_rng(1), dict.fromkeys((5, 30, 60), 0)
        owner = np.repeat(np.arange(len(scans)), scans)
        for _ in range(draws):
            volume = random.lognormal(2.9, 0.9, len(scans))[owner] * random.lognormal(0, 0.05, owner.size)
            alike, alone = random.normal(size=len(scans))[owner], random.normal(size=owner.size)
            difference = (0.5 + 0.06 * volume) * (math.sqrt(0.7) * alike + math.sqrt(0.3) * alone)
            found = regression_limits(volume + difference / 2, volume - difference / 2, patients=owner)
            for at, limit in zip(held, found.at(list(held)).to_dict("records"), strict=True):
                held[at] += limit["loa_upper_ci_low"] <= 1.96 * (0.5 + 0.06 * at) <= limit["loa_upper_ci_high"]
        rows += [row(f"upper limit along a regression at {at} ml", design, n, draws) for at, n in held.items()]
    return rows


def concordance_rows(draws: int) -> list[dict]:
    """Coverage of the interval of concordance by jackknife and by Lin, one pair a patient."""
    random, rows = np.random.default_rng(1), []
    difference, reference, _ = pairs_of(random, [1] * 400_000, 0.5)
    truth = concordance(reference + difference, reference).ccc
    for n in (10, 20, 50, 100, 300):
        held = {"CCC": 0, "CCC by Lin": 0}
        for _ in range(draws):
            difference, reference, owner = pairs_of(random, [1] * n, 0.5)
            both = pair(reference + difference, reference)
            for name, (low, high) in (
                ("CCC", coefficient_intervals(both, owner, 0.95)["ccc_ci"]),
                ("CCC by Lin", concordance(both.method, both.reference).ccc_ci),
            ):
                held[name] += low <= truth <= high
        rows += [row(name, f"{n} patients with one", count, draws) for name, count in held.items()]
    return rows


def bca(values: np.ndarray, seed: int) -> tuple[float, float]:
    """BCa interval of a mean, as `ich.resampling.bootstrap_mean` has it for many patients."""
    n = values.size
    resampled = resampled_counts(n, 2000, seed) @ values / n
    left_out = (values.sum() - values) / (n - 1)
    low, high = bca_interval([values.mean()], resampled[:, None], left_out[:, None])[0]
    return float(low), float(high)


def mean_rows(draws: int) -> list[dict]:
    """Coverage of t and BCa intervals of means of few values."""
    kinds: dict[str, tuple[Callable, float]] = {
        "beta (9, 1)": (lambda random, n: random.beta(9, 1, n), 0.9),
        "lognormal (0, 1)": (lambda random, n: random.lognormal(0, 1, n), math.exp(0.5)),
    }
    rows = []
    for kind, (draw, truth) in kinds.items():
        for n in (4, 6, 9, 12, 20, 30):
            random, held = np.random.default_rng(n), {"mean by t": 0, "mean by BCa": 0}
            for seed in range(draws):
                values = draw(random, n)
                for name, (low, high) in (
                    ("mean by t", mean_interval(values, np.arange(n))),
                    ("mean by BCa", bca(values, seed)),
                ):
                    held[name] += low <= truth <= high
            rows += [row(name, f"{n} patients, {kind}", count, draws) for name, count in held.items()]
    return rows


def row(statistic: str, design: str, count: int, draws: int) -> dict:
    """One row of the table."""
    low, high = wilson(count, draws)
    return {
        "statistic": statistic,
        "design": design,
        "draws": draws,
        "coverage": count / draws,
        "ci_low": low,
        "ci_high": high,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=2000)
    options = parser.parse_args()
    table = pd.DataFrame(linked_rows(options.draws) + concordance_rows(options.draws) + mean_rows(options.draws))
    table = pd.concat([table, pd.DataFrame(volume_limit_rows(options.draws))])
    write_plain(table, ROOT / "reports" / "checks" / "few_patients.csv")
    print(table.groupby("statistic")["coverage"].describe().round(3).to_string())


if __name__ == "__main__":
    main()
