"""Two methods against one reference on the same cases: which one is nearer, measure by measure."""

import math

import numpy as np
import pandas as pd
from scipy.stats import binomtest, t

from ich.comparison import hodges_lehmann, holm, mean_test
from ich.linked import mean_per_patient, owners
from ich.pairs import numbers, require_columns, unique_ids, varies
from ich.reliability import ccc_of_sums
from ich.resampling import FEW, bca_interval, resampled_counts
from ich.slopes import robust_slope


def compare_methods(
    table: pd.DataFrame,
    reference: str,
    first: str,
    second: str,
    *,
    patient: str | None = None,
    margin_ml: float = 5.0,
    confidence: float = 0.95,
    seed: int = 0,
    n_resamples: int = 2000,
) -> pd.DataFrame:
    """First against second, both against the reference, on the cases that have all three.

    Parameters
    ----------
    patient : column of patients. Where some have several cases, all but the concordance is of the patients' means,
        which tests may take as independent, and `n` counts patients; the concordance is bootstrapped over patients.

    Returns
    -------
    Five rows: measure, first, second, contrast, contrast_ci_low, contrast_ci_high, p, p_holm (over the rows
    with a p value), n, n_missing, test.

    - bias, ml: contrast is the difference first - second, paired t test.
    - SD of the errors, ml: contrast is the ratio first / second, with BCa interval from 10 patients on where the errors
      vary in every resample; the test of Pitman and Morgan, that sum and difference of both errors do not correlate,
      with a standard error that allows for errors that grow with the volume (`ich.slopes`).
    - absolute error, ml: means; contrast is the Hodges-Lehmann shift (interval from 6 on), Wilcoxon signed-rank test.
    - share within the margin: contrast is the difference, exact McNemar test, no interval; a sign test
      where patients have several cases.
    - concordance: contrast is the difference, with BCa interval from 10 patients on, no p value.

    Raises
    ------
    ValueError : a column that is not there, text, infinite values, a case that stands twice, fewer than 3
        cases.

    Source: Pitman, Biometrika 1939;31:9; McNemar, Psychometrika 1947;12:153.
    """
    require_columns(table, reference, first, second, patient)
    ids = unique_ids(table["case_id"], "table") if "case_id" in table else None
    values = np.column_stack([numbers(table[name], name, ids) for name in (reference, first, second)])
    complete = ~np.isnan(values).any(axis=1)
    truth, x, y = values[complete].T
    n = truth.size
    if n < 3:
        raise ValueError(f"{first}, {second} and {reference}: {n} complete cases, wanted at least 3")
    owner = owners(None if patient is None else table.loc[complete, patient], n)
    inside = [(np.abs(method - truth) <= margin_ml).astype(float) for method in (x, y)]
    of_cases = (x - truth, y - truth, np.abs(x - truth), np.abs(y - truth), *inside)
    first_error, second_error, first_size, second_size, first_near, second_near = (
        mean_per_patient(value, owner) for value in of_cases
    )
    if first_error.size < 3:
        raise ValueError(f"{first}, {second} and {reference}: {first_error.size} patients, wanted at least 3")
    rows = [
        _bias(first_error, second_error, confidence),
        _spread(first_error, second_error, confidence, seed, n_resamples),
        _absolute(first_size, second_size, confidence),
        _within(first_near, second_near, margin_ml, "McNemar, exact" if owner is None else "sign test, exact"),
    ]
    found = pd.DataFrame(rows).assign(n=first_error.size)
    if owner is not None:
        found["test"] += ", patients' means"
    concordance = _concordance(truth, x, y, np.arange(n) if owner is None else owner, confidence, seed, n_resamples)
    found = pd.concat([found, pd.DataFrame([concordance]).assign(n=n)], ignore_index=True)
    found["p_holm"] = holm(found["p"])
    return found.assign(n_missing=int((~complete).sum())).reindex(columns=_COLUMNS)


_COLUMNS = [
    "measure", "first", "second", "contrast", "contrast_ci_low", "contrast_ci_high",
    "p", "p_holm", "n", "n_missing", "test",
]  # fmt: skip


def _row(measure: str, first: float, second: float, contrast: float, interval, p: float, test: str) -> dict:
    ends = {"contrast_ci_low": float(interval[0]), "contrast_ci_high": float(interval[1])}
    row = {"measure": measure, "first": float(first), "second": float(second), "contrast": float(contrast)}
    return row | ends | {"p": float(p), "test": test}


def _bias(first: np.ndarray, second: np.ndarray, confidence: float) -> dict:
    gap = first - second
    half, p = 0.0, float("nan")
    if varies(gap, first, second):
        half = float(t.ppf((1 + confidence) / 2, gap.size - 1)) * float(gap.std(ddof=1)) / math.sqrt(gap.size)
        p = mean_test(gap)
    mean = float(gap.mean())
    return _row("bias, ml", first.mean(), second.mean(), mean, (mean - half, mean + half), p, "paired t")


def _spread(first: np.ndarray, second: np.ndarray, confidence: float, seed: int, n_resamples: int) -> dict:
    name, test = "SD of the errors, ml", "Pitman-Morgan, HC3"
    interval, p = (float("nan"), float("nan")), float("nan")
    a, b = float(first.std(ddof=1)), float(second.std(ddof=1))
    total, gap = first + second, first - second
    if all(varies(part, first, second) for part in (first, second, total, gap)):
        p = robust_slope(total, gap, confidence).p
        away = [each - each.mean() for each in (first, second)]  # keeps the sums of squares small
        units = np.column_stack([np.ones(first.size)] + [each**k for each in away for k in (1, 2)])
        everyone = units.sum(axis=0)

        def log_ratio(sums: np.ndarray) -> np.ndarray:
            n, x, xx, y, yy = sums.T
            spreads = np.column_stack([xx - x**2 / n, yy - y**2 / n])
            rounding = 1e-12 * np.column_stack([xx, yy])
            logs = np.log(spreads, out=np.full(spreads.shape, np.nan), where=spreads > rounding)
            return (logs[:, :1] - logs[:, 1:]) / 2

        if first.size >= FEW:
            resampled = log_ratio(resampled_counts(first.size, n_resamples, seed) @ units)
            left = log_ratio(everyone - units)
            if np.isfinite(resampled).all() and np.isfinite(left).all():
                interval = np.exp(bca_interval(log_ratio(everyone[None])[0], resampled, left, confidence)[0])
    return _row(name, a, b, a / b if b > 0 else float("nan"), interval, p, test)


def _absolute(first: np.ndarray, second: np.ndarray, confidence: float) -> dict:
    found = hodges_lehmann(first - second, confidence)
    ends = found.reached_ci(confidence)
    return _row("absolute error, ml", first.mean(), second.mean(), found.shift, ends, found.p, "Wilcoxon signed-rank")


def _within(first: np.ndarray, second: np.ndarray, margin_ml: float, test: str) -> dict:
    """Shares within the margin, 0 or 1 of a case; of a patient's mean, the sign of the difference is tested."""
    more, less = int((first > second).sum()), int((first < second).sum())
    p = binomtest(more, more + less, 0.5).pvalue if more + less else 1.0
    shares = first.mean(), second.mean()
    nothing = (float("nan"), float("nan"))
    return _row(f"within {margin_ml:g} ml", *shares, shares[0] - shares[1], nothing, p, test)


def _concordance(
    truth: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    owner: np.ndarray,
    confidence: float,
    seed: int,
    n_resamples: int,
) -> dict:
    center = truth.mean()
    y = truth - center
    units = []
    for method in (first, second):
        x = method - center
        columns = (np.ones(x.size), x, y, x * x, y * y, x * y)
        units.append(np.column_stack([np.bincount(owner, column) for column in columns]))
    counts = resampled_counts(units[0].shape[0], n_resamples, seed)

    def gap(sums: list[np.ndarray]) -> np.ndarray:
        return (ccc_of_sums(sums[0]) - ccc_of_sums(sums[1]))[:, None]

    totals = [unit.sum(axis=0)[None] for unit in units]
    interval = (float("nan"), float("nan"))
    if units[0].shape[0] >= FEW:
        left = gap([total - unit for total, unit in zip(totals, units, strict=True)])
        interval = bca_interval(gap(totals)[0], gap([counts @ unit for unit in units]), left, confidence)[0]
    ccc = [float(ccc_of_sums(total)[0]) for total in totals]
    gained = ccc[0] - ccc[1]
    return _row("concordance (CCC)", ccc[0], ccc[1], gained, interval, float("nan"), "BCa bootstrap")
